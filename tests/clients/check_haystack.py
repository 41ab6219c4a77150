"""haystack's chat generator, with and without streaming."""

from __future__ import annotations

from behind import MODEL, Behind
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret


def test_whole_and_streamed(behind: Behind) -> None:
    generator = OpenAIChatGenerator(
        api_key=Secret.from_token("any"), model=MODEL, api_base_url=behind.url
    )
    history = [ChatMessage.from_system("Be brief"), ChatMessage.from_user("one")]
    (reply,) = generator.run(history)["replies"]
    assert "one" in (reply.text or "")
    pieces: list[str] = []
    (streamed,) = generator.run(
        [*history, reply, ChatMessage.from_user("two")],
        streaming_callback=lambda chunk: pieces.append(chunk.content),
    )["replies"]
    assert streamed.text == "".join(pieces) == "I heard two"
