"""A program with the blocking session: the types of results, and calls that checkers refuse."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Literal

from typing_extensions import assert_type

import h2o_client
from h2o_client import (
    Answer,
    Conversation,
    H2oSession,
    Message,
    Model,
    Options,
    Reply,
    Server,
    Settings,
    Source,
    Timeouts,
    Token,
    User,
)


class Ours(H2oSession):
    """A subclass of the session keeps its class in a ``with``."""

    def greet(self) -> str:
        return str(self.chat("Hello"))


def asks(client: H2oSession) -> None:
    reply = client.stream("Why is the sky blue?", temperature=0.7, stop=["\n"])
    assert_type(reply, Reply)
    for token in reply:
        assert_type(token, str)
    assert_type(next(reply), str)
    assert_type(reply.text, str)
    assert_type(reply.title, str | None)
    assert_type(reply.answer, Answer | None)
    assert_type(
        reply.finish_reason,
        Literal["stop", "length", "stopped", "error", "incomplete"] | None,
    )
    assert_type(reply.time_to_first_token, float | None)
    with client.stream("Hi", timeout=Timeouts(first_token=60)) as entered:
        assert_type(entered, Reply)
        assert_type(entered.read(), Answer)
    answer = client.chat("Hi", files=["cat.png", Path("dog.png"), b"\x89PNG"], timeout=30)
    assert_type(answer, Answer)
    assert_type(answer.text, str)
    assert_type(answer.sources, tuple[Source, ...])
    assert_type(answer.seconds, float | None)
    assert_type(answer.to_dict(), dict[str, object])
    for check in client.check():
        assert_type(check.status, Literal["ok", "failed", "skipped"])
    for event in client.stream("Hi").events():
        if isinstance(event, Token):
            assert_type(event.text, str)
        elif isinstance(event, Answer):
            assert_type(event.finish_reason, Literal["stop", "length", "stopped"])


def says(client: H2oSession) -> None:
    client.chat([{"role": "user", "content": "Hi"}, Message("assistant", "Hello.")])
    plain = [{"role": "user", "content": "Hi"}]
    assert_type(client.chat(plain), Answer)
    one_by_one: Iterator[Message] = iter([Message("user", "Hi")])
    client.chat(one_by_one)
    options: Options = {"temperature": 0.2, "max_new_tokens": 20}
    assert_type(client.stream("Hi", **options), Reply)
    client.chat("Hi", prompt_format=lambda messages: messages[-1].content)


def looks_around(client: H2oSession) -> None:
    assert_type(client.models(), list[Model])
    assert_type(client.settings(), Settings)
    assert_type(client.user(), User | None)
    assert_type(client.server(), Server)
    assert_type(client.base_url, str)
    assert_type(client.update_settings(share_data=False), Settings)
    for chat in client.conversations():
        assert_type(chat, Conversation)
        assert_type(chat.id, str | None)


def talks(client: H2oSession) -> None:
    with client.conversation(system="Be brief.", keep=True) as chat:
        assert_type(chat, Conversation)
        assert_type(chat.stream("Hi"), Reply)
        assert_type(chat.chat("Hi", seed=1), Answer)
        assert_type(chat.retry(), Reply)
        assert_type(chat.edit("id", "Hello"), Reply)
        assert_type(chat.continue_(), Reply)
        messages = chat.messages()
        assert_type(messages, list[Message])
        assert_type(messages[0].children, tuple[str, ...])
        assert_type(chat.share(), str)
        assert_type(chat.summarize(), str)
        chat.vote(1, messages[-1].id)


def connects() -> None:
    with H2oSession(
        "http://localhost:3000",
        cookies=CookieJar(),
        headers={"X-Team": "blue"},
        verify=ssl.create_default_context(),
        timeout=None,
    ) as client:
        assert_type(client, H2oSession)
    H2oSession(cookies={"hf-chat": "1"})
    H2oSession(cookies=Path("cookies.txt"))
    with Ours() as ours:
        assert_type(ours, Ours)
        ours.greet()
    assert_type(h2o_client.chat("Hi", base_url="http://localhost:3000"), Answer)
    assert_type(h2o_client.stream("Hi", max_new_tokens=20), Reply)
    assert_type(h2o_client.__version__, str)


def is_wrong(client: H2oSession, chat: Conversation) -> None:
    H2oSession(url="http://localhost")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    H2oSession("a", "b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.chat()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.chat(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.chat("Hi", temperatur=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.chat("Hi", top_k="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.chat("Hi", timeout="9")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    chat.stream("Hi", keep=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    chat.vote("up")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Timeouts(10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Timeouts(first=10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    h2o_client.H2oSesion()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    client.chat("Hi").text = ""  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
