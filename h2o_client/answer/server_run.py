"""A run: an answer that chat-ui since July 2026 generates and logs even if nobody reads it."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from h2o_client.backend.cleanup import clean_up_call
from h2o_client.dialects.dialect import Dialect
from h2o_client.dialects.documents import is_id
from h2o_client.dialects.message_requests import Prompt
from h2o_client.errors import ConfigurationError, NotFoundError, ProtocolError, TimeoutName
from h2o_client.transport.call import Call
from h2o_client.wire import json
from h2o_client.wire.events import Failure, Final
from h2o_client.wire.request import Request
from h2o_client.wire.runlog import read_running

if TYPE_CHECKING:
    from h2o_client.backend.backend import Backend

_PREFIX = "h2o1."
_MOST_RUNNING = 1000


class ResumeToken(msgspec.Struct, frozen=True, array_like=True):
    """Identifies a run, and says how many characters of its text the caller has received.

    A token grants no access and contains no secret: the session's cookie is needed to use it, and
    no token causes a deletion. ``str()`` returns the text that users store.
    """

    base_url: str
    conversation_id: str
    run_id: str
    position: int = 0

    def __str__(self) -> str:
        return _PREFIX + urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> ResumeToken:
        """Parse a token. Raises `ConfigurationError` if ``text`` is not one."""
        try:
            if not isinstance(text, str) or not text.startswith(_PREFIX):
                raise ValueError("the prefix is missing")
            coded = text.removeprefix(_PREFIX)
            coded += "=" * (-len(coded) % 4)
            found = json.read_as(urlsafe_b64decode(coded.encode("ascii")), cls)
            if not (is_id(found.conversation_id) and is_id(found.run_id)) or found.position < 0:
                raise ValueError("invalid id or position")
        except ValueError as exc:
            raise ConfigurationError(
                "Invalid resume token",
                hint="Pass the exact value of Reply.resume_token.",
                argument="token",
            ) from exc
        return found


class Running(msgspec.Struct, frozen=True):
    """An answer that the server is generating now; see `H2oSession.running`."""

    conversation_id: str
    title: str
    resume_token: str


class StoredAnswer(msgspec.Struct, frozen=True):
    """The stored messages of a run. If it has ``ended`` without an ``end``, it broke off."""

    message_id: str
    text: str
    ended: bool
    end: Final | Failure | None


def running(backend: Backend) -> list[Running]:
    """List the session's runs that have not ended.

    Raises as `ApiClient.open`, and `UnsupportedError`.
    """
    call = Call(backend.timeouts)
    backend.set_up(call)
    dialect = backend.detector.detect_exactly(call).dialect
    found: list[Running] = []
    listed = backend.api.first_line(dialect.running(), read_running, call)
    if not listed:
        backend.login.check(call)
    if len(listed) > _MOST_RUNNING:
        raise ProtocolError(f"a list of more than {_MOST_RUNNING} running answers")
    for conversation_id, title in listed:
        with suppress(NotFoundError):  # it was deleted meanwhile
            stored = backend.conversation(conversation_id, call)
            base_url = backend.transport.base_url
            found += [
                Running(conversation_id, title, str(ResumeToken(base_url, conversation_id, run_id)))
                for run_id, answer_id in stored.runs.items()
                if answer_id in stored.unfinished
            ][-1:]
    return found


class Run:
    """The run of one message. Its ``id`` changes if the message is sent again.

    ``again`` makes the request that sends the message again; None if another process sent it.
    """

    def __init__(
        self,
        backend: Backend,
        dialect: Dialect,
        conversation_id: str,
        *,
        id: str = "",
        again: Callable[[], Request] | None = None,
    ) -> None:
        self.id: str = id
        self.again: Callable[[], Request] | None = again
        self._backend = backend
        self.dialect: Dialect = dialect
        self._conversation_id = conversation_id

    def log(self, *, after: int, budget: TimeoutName) -> Request:
        """The request that reads the run's log after its update number ``after``."""
        return self.dialect.run_log(self._conversation_id, self.id, after=after, budget=budget)

    def stored(self, call: Call) -> StoredAnswer | None:
        """Read the stored messages of the run; None if the message has not arrived.

        Raises as `ApiClient.fetch`.
        """
        # Only the first endpoint of the dialect lists runs.
        endpoint = self.dialect.conversation(self._conversation_id)[0]
        stored = self._backend.api.fetch(endpoint, call)
        message = stored.message(stored.runs.get(self.id, ""))
        if message is None:
            return None
        answer_id = message.id or ""
        return StoredAnswer(
            message_id=answer_id,
            text=message.content,
            ended=answer_id not in stored.unfinished,
            end=stored.ends.get(answer_id),
        )

    def continuation(self, elicitation_id: str) -> Request:
        """The message that continues the answer after the user has answered an elicitation."""
        stored = self.stored(clean_up_call())
        if stored is None:
            raise ProtocolError(
                f"the conversation {self._conversation_id}: it has no answer to continue"
            )
        return self._continuation(stored.message_id, elicitation_id)

    def _continuation(self, answer_id: str, elicitation_id: str) -> Request:
        self.id = fresh_id()
        self.again = partial(self._continuation, answer_id, elicitation_id)
        prompt = Prompt(id=answer_id, resumes=elicitation_id, run_id=self.id)
        return self.dialect.message(self._conversation_id, prompt)

    def retry(self) -> Request:
        """The message that requests a retry of this answer. Raises as `stored`."""
        stored = self.stored(clean_up_call())
        if stored is None:
            raise ProtocolError(f"the conversation {self._conversation_id}: an answer is missing")
        return self._retry(stored.message_id)

    def _retry(self, answer_id: str) -> Request:
        self.id = fresh_id()
        self.again = partial(self._retry, answer_id)
        prompt = Prompt(id=answer_id, retry=True, run_id=self.id)
        return self.dialect.message(self._conversation_id, prompt)

    def token(self, position: int) -> str:
        """The `ResumeToken` of a caller that has received ``position`` characters."""
        base_url = self._backend.transport.base_url
        return str(ResumeToken(base_url, self._conversation_id, self.id, position))


def fresh_id() -> str:
    """A new unique id for a message, an answer or a run."""
    # Imported here, because importing it with the package would cost two milliseconds.
    from uuid import uuid4

    return str(uuid4())
