"""Display answers and conversations in a notebook, as HTML and as plain text.

This sends no requests: it shows only the data that the objects already have.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from h2o_client.notebook.html import guarded, link_to, to_html
from h2o_client.notebook.plain_text import shown

if TYPE_CHECKING:
    from h2o_client.aio.conversation import AsyncConversation
    from h2o_client.aio.reply import AsyncReply
    from h2o_client.answer.reply import Reply
    from h2o_client.answer.steps import Answer
    from h2o_client.conversation import Conversation
    from h2o_client.wire.events import Source

Bundle = dict[str, str]
"""The forms of a display by their MIME types. The front end uses the richest one it supports."""

_REASONS = {
    "length": "cut off at the maximum length",
    "stopped": "stopped",
    "error": "broken off by an error",
    "incomplete": "broken off",
}
_SMALL = "opacity:.7;font-size:85%;margin-top:.3em"


def of_answer(answer: Answer) -> Bundle:
    """The answer's text, and below it in small type its title, model, end and sources."""
    reason = _REASONS.get(answer.finish_reason, "")
    captions = [answer.title or "", answer.model, reason]
    return _bundle(answer.text, captions, reason, answer.sources)


def of_reply(reply: Reply | AsyncReply, *, note: str = "") -> Bundle:
    """The text of a reply so far. ``note`` is added to the description of its state."""
    if reply.answer is not None:
        return of_answer(reply.answer)
    reason = _REASONS.get(reply.finish_reason or "", "")
    if not reason and reply.elicitation is not None:
        note = f"{reply.elicitation.message} (Answer with answer_elicitation().)"
    return _bundle(reply.text, [reason, note], ", ".join(each for each in (reason, note) if each))


def of_conversation(conversation: Conversation | AsyncConversation) -> Bundle:
    """The conversation's title and id, and how to read its messages."""
    from h2o_client.conversation import Conversation

    wrapped = conversation if isinstance(conversation, Conversation) else conversation.wrapped
    state = f"at {wrapped._backend.transport.base_url}"
    if conversation.id is None:
        state += " · no messages yet"
    else:
        state += f" · {conversation.id} · messages() returns the messages"
    title = shown(conversation.title or "") or "Conversation"
    html = f'<strong>{escape(title)}</strong><div style="{_SMALL}">{escape(shown(state))}</div>'
    return {"text/html": guarded(html), "text/plain": shown(repr(conversation))}


def _bundle(
    text: str, captions: Sequence[str], note: str, sources: Sequence[Source] = ()
) -> Bundle:
    html = to_html(text) if text else ""
    caption = " · ".join(shown(each) for each in captions if each)
    if caption:
        html += guarded(f'<div style="{_SMALL}">{escape(caption)}</div>')
    if sources:
        links = "".join(f"<li>{link_to(each.link, each.title)}</li>" for each in sources)
        html += guarded(f'<ol style="{_SMALL}">{links}</ol>')
    plain = shown(text)
    if note:
        plain = f"{plain}\n\n[{shown(note)}]".lstrip()
    return {"text/html": html or "<div></div>", "text/plain": plain}
