"""Resuming: an answer whose connection broke is read on from the log that the server keeps of it.

As chat-ui of August 2026 wants it: the log from its first update, less what was given; after
another break, behind the last update; where there is no log any more, what is stored; and the
message once more only if the conversation proves that it never arrived.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from h2o_client.answer.state import GATEWAY_FAILED
from h2o_client.errors import (
    H2oError,
    IncompleteAnswerError,
    ProtocolError,
    StatusError,
    TransportError,
    TransportTimeout,
)
from h2o_client.log import log
from h2o_client.timeouts import monotonic
from h2o_client.wire.events import Event, Token
from h2o_client.wire.overlap import Overlap
from h2o_client.wire.runlog import RunLog

if TYPE_CHECKING:
    from h2o_client.answer.connection import AnswerConnection
    from h2o_client.answer.server_run import Run, StoredAnswer
    from h2o_client.answer.state import AnswerState
    from h2o_client.answer.timing import AnswerTiming

_FIRST_PAUSE = 2.0  # seconds before the second try; each is three times as long as the one before
_LONGEST_PAUSE = 30.0
_LIVED = 10.0  # seconds after which a body that just ends is no failure: the server ends it at 300
_GONE_PAUSES = (0.5, 1.0)  # before a run that the server does not know is looked for again
_STORED_WITHIN = 10.0
_STORE_ANSWERS_WITHIN = 5.0
_LONGEST_POLL = 0.5

_ALIVE = 0.5  # seconds within which a connection that stands has brought at least a keepAlive
_MAY_STAND_STILL = ("silence", "idle")  # timeouts of connections that may be dead


class Resumption:
    """How the answer to one message is resumed. ``count`` says how often it was.

    ``is_over``: nothing more will come, and the answer is what came so far. At most ``most`` tries
    in a row bring nothing. One thread calls this, the one that reads.
    """

    def __init__(
        self,
        run: Run,
        connection: AnswerConnection,
        state: AnswerState,
        timing: AnswerTiming,
        *,
        most: int,
    ) -> None:
        self.count: int = 0
        self.is_over: bool = False
        self.run = run
        self.started_at: int = 0  # characters of text there were before this run
        self._connection = connection
        self._state = state
        self._timing = timing
        self._most = most
        self._log: RunLog | None = None
        self._next = self._read_log
        self._tries = 0
        self._reached = (0, 0)  # the last update and the text when tries were counted from 0
        self._opened_at = monotonic()
        self._continues = False  # a body has ended as the server ends it after five minutes
        self._breaks = 0  # that nothing was read after yet
        self._times_gone = 0
        self._sent_again = 0
        self._may_arrive_late = False  # the message: nobody has refused its connection
        self._kinds: Counter[str] = Counter()

    @property
    def retries(self) -> bool:
        """Whether anything is tried a second time."""
        return self._most > 0

    def read_from_start(self) -> None:
        """Open a log of which this process has read nothing. Raises as `ApiClient.open`."""
        self._read_log()

    def note(self, kinds: Counter[str]) -> None:
        """So many events that are no text were handed over."""
        self._kinds += kinds

    def start_run(self) -> None:
        """Another run continues the answer."""
        self.started_at = self._state.transcript.characters
        self.is_over = False
        self._tries = self._sent_again = 0
        self._forget_log()

    def can_resume(self, broken: H2oError | None) -> bool:
        """Whether more may be had after ``broken``, or after a body that just ended."""
        if self.is_over or not self._state.may_resume():
            return False
        if broken is None and self._log is not None and self._log.end_status is not None:
            return True
        silent_for = self._connection.call.clock.silent_for
        return self._most > 0 and (broken is None or is_a_break(broken, silent_for))

    def resume_after(self, broken: H2oError | None) -> list[Event]:
        """Open what is to be read next. Return events where that tells how the answer ends.

        Raises ``broken``, or an `IncompleteAnswerError` for a body that just ended, if nothing can.
        """
        lived = monotonic() - self._opened_at > _LIVED
        self._continues = False
        if self._log is None:
            self._may_arrive_late = isinstance(broken, TransportTimeout)
        if broken is None and self._log is not None and self._log.end_status is not None:
            self._choose_next(self._log.end_status)
        elif broken is None and self._log is not None and lived:
            self._next, self._continues = self._read_log, True
        else:
            self._next = self._read_log
            self._breaks += 1
            self._count_try(broken or IncompleteAnswerError())
        events = self._tried(broken or IncompleteAnswerError())
        if self._breaks:
            self.count, self._breaks = self.count + 1, 0
        return events

    def _tried(self, broken: H2oError) -> list[Event]:
        while True:
            is_last = self._next == self._give_up
            try:
                return self._next()
            except H2oError as exc:
                if _is_the_callers_timeout(exc):
                    raise
                if is_last:
                    raise broken from exc
                if not self._is_worth_another_try(exc, broken):
                    raise
                self._count_try(exc)

    def _is_worth_another_try(self, error: H2oError, broken: H2oError) -> bool:
        if isinstance(error, StatusError):
            if error.status == 429 or error.status >= 500:
                return True
            raise broken from error
        if isinstance(error, TransportTimeout) and error.which in _MAY_STAND_STILL:
            return True
        return isinstance(error, TransportError | ProtocolError) and is_a_break(error)

    def _count_try(self, why: H2oError) -> None:
        """Wait before the next try; after enough without a success, the last is the store."""
        reached = (self._log.last if self._log else 0, self._state.transcript.characters)
        if reached != self._reached:
            self._tries, self._reached = 0, reached
        # A server that hangs is waited for as long as a model may be silent.
        hangs = isinstance(why, TransportTimeout) and why.which in _MAY_STAND_STILL
        if self._tries > self._most and not (hangs and self._timing.is_within_idle()):
            self._next = self._give_up
            return
        log.info("an answer is resumed (%s)", type(why).__name__)
        if self._tries:
            longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 3 ** (self._tries - 1))
            self._connection.pause(longest * random.uniform(0.75, 1.0))
        self._tries += 1

    def _choose_next(self, status: str) -> None:
        """What to do after the log's end."""
        if status == "gone" and self._times_gone < len(_GONE_PAUSES):
            self._connection.pause(_GONE_PAUSES[self._times_gone])
            self._times_gone += 1
            self._next = self._read_log
        else:
            self._next = self._read_store

    def _read_log(self) -> list[Event]:
        if self._log is None:
            given = self._state.transcript.joined[self.started_at :]
            self._log = RunLog(Overlap(given, self._kinds))
        self._log.again()
        budget = "first_token" if self._timing.awaits_first else "idle"
        request = self.run.log(after=self._log.last, budget=budget)
        self._connection.read_log(request, self._log, continues=self._continues)
        self._opened_at = monotonic()
        return []

    def _read_store(self) -> list[Event]:
        stored = self._wait_until_stored()
        if stored is None and self._log is not None and self._log.end_status == "gone":
            return self._send_again()
        self.is_over = True
        if stored is None:
            return []
        # What is stored is the whole answer, of which this run may have been the last part.
        rest = Overlap(self._state.transcript.joined).rest_of(stored.text)
        events: list[Event] = [Token(rest)] if rest else []
        return [*events, stored.end] if stored.end is not None else events

    def _give_up(self) -> list[Event]:
        """The whole answer, if the server has stored it meanwhile."""
        stored = self._fetch_stored()
        if stored is None or not stored.ended or stored.end is None:
            raise IncompleteAnswerError
        return self._read_store()

    def _fetch_stored(self) -> StoredAnswer | None:
        call = self._connection.call
        call.at_most = _STORE_ANSWERS_WITHIN
        try:
            return self.run.stored(call)
        finally:
            call.at_most = None

    def _wait_until_stored(self) -> StoredAnswer | None:
        """What is stored, once it is the whole, or time is over."""
        end = monotonic() + _STORED_WITHIN
        pause = 0.05
        while True:
            stored = self._fetch_stored()
            if stored is None or stored.ended or monotonic() + pause > end:
                return stored
            self._connection.pause(pause)
            pause = min(2 * pause, _LONGEST_POLL)

    def _send_again(self) -> list[Event]:
        if self.run.again is None or self._sent_again == self._most:
            never = IncompleteAnswerError("The server has no such answer: its prompt never arrived")
            never.resendable = True
            raise never
        if self._may_arrive_late:
            raise IncompleteAnswerError(
                "The server has neither answered the prompt nor stored it, but may still do so"
            )
        dialect = self._state.dialect
        assert dialect is not None
        self._next = self._send_again
        self._sent_again += 1
        log.info("a message that never arrived is sent again")
        request = self.run.again()
        self._forget_log()
        self._connection.send(request, dialect)
        self._opened_at = monotonic()
        return []

    def _forget_log(self) -> None:
        self._log = None
        self._next = self._read_log
        self._times_gone = 0
        self._kinds.clear()


def is_a_break(error: H2oError, silent_for: float = 0.0) -> bool:
    """Whether ``error`` may have cost the connection alone, and not the answer.

    ``silent_for``: seconds in which the connection was read and brought nothing.
    """
    if _is_the_callers_timeout(error):
        return False
    if isinstance(error, TransportTimeout) and error.which == "idle":
        # A connection that brings keepAlives stands: it is the model that is silent.
        return silent_for > min(_ALIVE, error.seconds / 2)
    if isinstance(error, TransportError):
        return not error.permanent
    if isinstance(error, StatusError):
        return error.status in GATEWAY_FAILED
    return isinstance(error, ProtocolError | IncompleteAnswerError)


def _is_the_callers_timeout(error: H2oError) -> bool:
    """Whether a timeout has passed that holds however often a connection breaks."""
    return isinstance(error, TransportTimeout) and error.which in ("first_token", "total")
