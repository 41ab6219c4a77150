"""Find the answer to a conversation's only prompt after the process that sent it was killed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from h2o_client.answer.server_run import ResumeToken
from h2o_client.dialects.documents import Stored
from h2o_client.transport.call import Call
from h2o_client.wire.events import Failure, Final

if TYPE_CHECKING:
    from h2o_client.backend.backend import Backend


class FoundAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The stored messages of a prompt and its answer.

    ``is_taken``: the prompt is stored. ``is_certain``: a prompt that is not stored is not being
    answered either; False for servers up to v0.7, which store a prompt together with its answer.
    ``text`` is the whole answer, None if it is not stored. ``failure`` says why the model failed.
    ``resume_token`` is for `H2oSession.resume` (servers since July 2026).
    """

    is_taken: bool
    is_certain: bool
    text: str | None = None
    failure: str | None = None
    resume_token: str | None = None
    message_id: str | None = None
    model: str = ""
    title: str | None = None


def find_answer(backend: Backend, conversation_id: str) -> FoundAnswer:
    """Read the conversation and return its answer. Raises `NotFoundError` if it does not exist."""
    call = Call(backend.timeouts)
    read = partial(backend.conversation, conversation_id, call)
    stored = backend.detector.repeat_if_upgraded(read, call)
    dialect = backend.set_up(call)
    is_certain = not dialect.chooses_ids
    last = stored.last("assistant")
    token = _token(backend, conversation_id, stored)
    if last is None:
        is_taken = stored.last("user") is not None
        return FoundAnswer(is_taken=is_taken, is_certain=is_certain, resume_token=token)
    answer_id = last.id or ""
    # An answer that was stored before its end, or was cut off, has no final update. v0.3 to v0.6
    # have no updates, and store whole answers only.
    end = stored.ends.get(answer_id)
    is_whole = isinstance(end, Final) and not end.interrupted
    if end is None and dialect.stores_at_end:
        is_whole = True
    return FoundAnswer(
        is_taken=True,
        is_certain=is_certain,
        text=last.content if is_whole else None,
        failure=end.message if isinstance(end, Failure) else None,
        resume_token=token,
        message_id=last.id,
        model=stored.model,
        title=stored.title or None,
    )


def _token(backend: Backend, conversation_id: str, stored: Stored) -> str | None:
    """The token of the last run: a lost message is sent again as a new run."""
    runs = list(stored.runs)
    if not runs:
        return None
    return str(ResumeToken(backend.transport.base_url, conversation_id, runs[-1]))
