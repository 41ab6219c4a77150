"""Resume an answer whose connection broke, from the log that the server keeps of it.

For chat-ui since July 2026. After the first break, read the log from its first update, and skip the
text that was already returned. After later breaks, continue after the last update. If the log has
expired, use the stored answer. Send the message again only if the conversation shows that it never
arrived.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from h2o_client.errors import (
    H2oError,
    Hint,
    IncompleteAnswerError,
    ProtocolError,
    StatusError,
    TimeoutName,
    TransportError,
    TransportTimeout,
)
from h2o_client.log import log
from h2o_client.timeouts import monotonic
from h2o_client.wire.events import Event, Token
from h2o_client.wire.overlap import Overlap
from h2o_client.wire.refusal import GATEWAY_FAILED
from h2o_client.wire.runlog import RunLog

if TYPE_CHECKING:
    from h2o_client.answer.connection import AnswerConnection
    from h2o_client.answer.server_run import Run, StoredAnswer
    from h2o_client.answer.state import AnswerState
    from h2o_client.answer.timing import AnswerTiming

_FIRST_PAUSE = 2.0  # seconds before the second attempt; each pause is 3 times the previous one
_LONGEST_PAUSE = 30.0
_LIVED = 10.0  # seconds after which a log may end without a final event: servers end it after 300
_GONE_PAUSES = (0.5, 1.0)  # seconds before repeating the request for an unknown run
_STORED_WITHIN = 10.0  # seconds to wait until the answer is stored
_READ_STORE_WITHIN = 5.0  # seconds for one request for the stored answer
_LONGEST_POLL = 0.5  # seconds

_ALIVE = 0.5  # seconds within which a live connection delivers at least a keepAlive
_MAY_BE_DEAD = ("silence", "idle")  # the timeouts that expire if the connection is dead


class Resumption:
    """Resumes the answer to one message. ``count`` is how often it was resumed.

    ``is_over``: the answer has ended, and the received text is complete. ``most`` is the largest
    number of failed attempts in a row. Only the reading thread calls these methods.
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
        self.started_at: int = 0  # characters of text before this run
        self._continues_run = False  # whether there was an earlier run: its end may be stored
        self._connection = connection
        self._state = state
        self._timing = timing
        self._most = most
        self._log: RunLog | None = None
        self._next = self._read_log
        self._tries = 0
        self._reached = (0, 0)  # last update and characters when `_tries` was reset
        self._opened_at = monotonic()
        self._continues = False  # whether the server ended the last log after its time limit
        self._breaks = 0  # since the last successful read
        self._times_gone = 0  # how often the server did not know the run
        self._sent_again = 0  # how often the message was sent again
        self._may_arrive_late = False  # whether the server may still receive the first message
        self._kinds: Counter[str] = Counter()  # returned events without text

    @property
    def retries(self) -> bool:
        """Whether failed attempts are retried."""
        return self._most > 0

    def read_from_start(self) -> None:
        """Open a log from which this process has read nothing. Raises as `ApiClient.open`."""
        self._read_log()

    def note(self, kinds: Counter[str]) -> None:
        """Note how many events without text were returned."""
        self._kinds += kinds

    def start_run(self) -> None:
        """Note that another run continues the answer."""
        self.started_at = self._state.transcript.characters
        self._continues_run = True
        self.is_over = False
        self._tries = self._sent_again = 0
        self._forget_log()

    def can_resume(self, broken: H2oError | None) -> bool:
        """Whether the answer may be resumed after ``broken``; None for a body without an error."""
        if self.is_over or not self._state.may_resume():
            return False
        if broken is None and self._log is not None and self._log.end_status is not None:
            return True
        silent_for = self._connection.call.clock.silent_for
        return self._most > 0 and (broken is None or is_a_break(broken, silent_for))

    def resume_after(self, broken: H2oError | None) -> list[Event]:
        """Open the next response. Return the rest of the answer if it is read from the store.

        If the answer cannot be resumed, raises ``broken``, or `IncompleteAnswerError` if that is
        None.
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
        events = self._try(broken or IncompleteAnswerError())
        if self._breaks:
            self.count, self._breaks = self.count + 1, 0
        return events

    def _try(self, broken: H2oError) -> list[Event]:
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
        if isinstance(error, TransportTimeout) and error.which in _MAY_BE_DEAD:
            return True
        return isinstance(error, TransportError | ProtocolError) and is_a_break(error)

    def _count_try(self, why: H2oError) -> None:
        """Count an attempt, and wait before it. After too many failures, use the stored answer."""
        reached = (self._log.last if self._log else 0, self._state.transcript.characters)
        if reached != self._reached:
            self._tries, self._reached = 0, reached
        # A server that hangs gets as much time as a silent model.
        hangs = isinstance(why, TransportTimeout) and why.which in _MAY_BE_DEAD
        if self._tries > self._most and not (hangs and self._timing.is_within_idle()):
            self._next = self._give_up
            return
        log.info("resuming an answer (%s)", type(why).__name__)
        if self._tries:
            longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 3 ** (self._tries - 1))
            self._connection.pause(longest * random.uniform(0.75, 1.0))
        self._tries += 1

    def _choose_next(self, status: str) -> None:
        """Decide what to do after the end of the log."""
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
        budget: TimeoutName = "first_token" if self._timing.awaits_first else "idle"
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
        # The whole answer is stored, even if this run has generated only its last part.
        rest = Overlap(self._state.transcript.joined).rest_of(stored.text)
        events: list[Event] = [Token(rest)] if rest else []
        return [*events, stored.end] if stored.end is not None else events

    def _give_up(self) -> list[Event]:
        """Return the whole answer, if the server has stored it meanwhile."""
        stored = self._fetch_stored()
        if stored is None or not stored.ended or stored.end is None:
            raise IncompleteAnswerError
        return self._read_store()

    def _fetch_stored(self) -> StoredAnswer | None:
        call = self._connection.call
        call.at_most = _READ_STORE_WITHIN
        try:
            return self.run.stored(call)
        finally:
            call.at_most = None

    def _wait_until_stored(self) -> StoredAnswer | None:
        """Poll until the stored answer is complete or the time is over, and return it."""
        end = monotonic() + _STORED_WITHIN
        pause = 0.05
        while True:
            stored = self._fetch_stored()
            if stored is None or self._is_complete(stored) or monotonic() + pause > end:
                return stored
            self._connection.pause(pause)
            pause = min(2 * pause, _LONGEST_POLL)

    def _is_complete(self, stored: StoredAnswer) -> bool:
        return stored.ended and (stored.end is not None or not self._continues_run)

    def _send_again(self) -> list[Event]:
        if self.run.again is None or self._sent_again == self._most:
            never = IncompleteAnswerError(
                "The prompt never reached the server", hint=Hint("{Send the prompt again}.")
            )
            never.resendable = True
            raise never
        if self._may_arrive_late:
            raise IncompleteAnswerError(
                "The server has not stored the prompt yet, but may still do so",
                hint=Hint("Look at {messages()} before you send it again."),
            )
        dialect = self._state.dialect
        assert dialect is not None
        self._next = self._send_again
        self._sent_again += 1
        log.info("resending a message that never reached the server")
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
    """Whether ``error`` may affect only the connection, and not the answer.

    ``silent_for``: seconds of reading without a byte.
    """
    if _is_the_callers_timeout(error):
        return False
    if isinstance(error, TransportTimeout) and error.which == "idle":
        # A connection that delivers keepAlives is alive: the model is silent.
        return silent_for > min(_ALIVE, error.seconds / 2)
    if isinstance(error, TransportError):
        return not error.permanent
    if isinstance(error, StatusError):
        return error.status in GATEWAY_FAILED
    return isinstance(error, ProtocolError | IncompleteAnswerError)


def _is_the_callers_timeout(error: H2oError) -> bool:
    """Whether a timeout has expired that is not restarted when a connection breaks."""
    return isinstance(error, TransportTimeout) and error.which in ("first_token", "total")
