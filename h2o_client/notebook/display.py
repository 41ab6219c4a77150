"""What a notebook shows of answers and conversations: as HTML, and as plain text beside it.

Only what the objects know already is shown; nothing is asked.
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
"""A display's forms, by their MIME types; the front end takes the richest it knows."""

_REASONS = {
    "length": "cut off at the length allowed",
    "stopped": "stopped",
    "error": "broken off by an error",
    "incomplete": "broken off",
}
_SMALL = "opacity:.7;font-size:85%;margin-top:.3em"


def of_answer(answer: Answer) -> Bundle:
    """The answer's text; below it, small, how it came about and the pages it stands on."""
    reason = _REASONS.get(answer.finish_reason, "")
    says = [answer.title or "", answer.model, reason]
    return _bundle(answer.text, says, reason, answer.sources)


def of_reply(reply: Reply | AsyncReply, *, note: str = "") -> Bundle:
    """What has come of an answer. The ``note`` says more about its state."""
    if reply.answer is not None:
        return of_answer(reply.answer)
    reason = _REASONS.get(reply.finish_reason or "", "")
    if not reason and reply.elicitation is not None:
        note = f"{reply.elicitation.message} (Answer with answer_elicitation().)"
    return _bundle(reply.text, [reason, note], ", ".join(each for each in (reason, note) if each))


def of_conversation(conversation: Conversation | AsyncConversation) -> Bundle:
    """The conversation's title, its id, and how to get at what was said in it."""
    from h2o_client.conversation import Conversation

    wrapped = conversation if isinstance(conversation, Conversation) else conversation.wrapped
    state = f"at {wrapped._backend.transport.base_url}"
    if conversation.id is None:
        state += " · nothing has been said yet"
    else:
        state += f" · {conversation.id} · messages() gives what was said"
    title = shown(conversation.title or "") or "Conversation"
    html = f'<strong>{escape(title)}</strong><div style="{_SMALL}">{escape(shown(state))}</div>'
    return {"text/html": guarded(html), "text/plain": shown(repr(conversation))}


def _bundle(text: str, says: Sequence[str], note: str, sources: Sequence[Source] = ()) -> Bundle:
    html = to_html(text) if text else ""
    caption = " · ".join(shown(each) for each in says if each)
    if caption:
        html += guarded(f'<div style="{_SMALL}">{escape(caption)}</div>')
    if sources:
        links = "".join(f"<li>{link_to(each.link, each.title)}</li>" for each in sources)
        html += guarded(f'<ol style="{_SMALL}">{links}</ol>')
    plain = shown(text)
    if note:
        plain = f"{plain}\n\n[{shown(note)}]".lstrip()
    return {"text/html": html or "<div></div>", "text/plain": plain}
