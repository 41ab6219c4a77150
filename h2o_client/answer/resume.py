"""An answer whose connection broke is taken up from the log that the server keeps of its run.

As chat-ui of August 2026 wants it: the log from its first update, less what was given; after
another break, behind the last update; where there is no log any more, what is stored; and the
message once more only if the conversation proves that it never arrived.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Protocol

from h2o_client.answer.server_run import Run, StoredAnswer
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
from h2o_client.transport.call import Call
from h2o_client.wire.decoder import Decoder
from h2o_client.wire.events import Event, Token
from h2o_client.wire.overlap import Overlap
from h2o_client.wire.request import Request
from h2o_client.wire.runlog import RunLog
from h2o_client.wire.transcript import Transcript

_FIRST_PAUSE = 2.0  # seconds before the second try; each is three times as long as the one before
_LONGEST_PAUSE = 30.0
_LIVED = 10.0  # seconds after which a body that just ends is no failure: the server ends it at 300
_GONE_PAUSES = (0.5, 1.0)  # before a run that the server does not know is asked for again
_STORED_WITHIN = 10.0
_STORE_ANSWERS_WITHIN = 5.0
_RAREST_LOOK = 0.5
GATEWAY_FAILED = (502, 504, 520, 524)
"""What a gateway answers for a server that may be at work on the message."""

_ALIVE = 0.5  # seconds within which a connection that stands has brought at least a keepAlive
_MAY_STAND_STILL = ("silence", "idle")  # times that run out where a connection may be dead


class Reading(Protocol):
    """What reads the answer, as far as this has to do with it."""

    call: Call
    transcript: Transcript
    stopping: bool
    awaits_first: bool

    def reopen(
        self,
        request: Request,
        decoder: Decoder | RunLog,
        *,
        is_message: bool = False,
        goes_on: bool = False,
    ) -> None:
        """Reads on in the answer to ``request``; a silence may ``go on``. As `ApiClient.open`."""

    def pause(self, seconds: float) -> None:
        """Waits. Raises `TransportTimeout` if the time is over, `Woken` if it was ended."""

    def silent_for(self) -> float:
        """Seconds in which this connection was read and brought nothing."""

    def is_within_idle(self) -> bool:
        """Whether the answer, over all connections, has not been silent for too long yet."""


class Resumption:
    """How the answer to one message is taken up. ``count`` says how often it was.

    ``over`` says that nothing more will come: the answer is what came so far.
    """

    def __init__(self, reading: Reading, run: Run, *, most: int) -> None:
        self.count: int = 0
        self.over: bool = False
        self.run = run
        self._reading = reading
        self._most = most
        self._log: RunLog | None = None
        self._next = self._read_log
        self._tries = 0
        self._reached = (0, 0)  # the last update and the text when tries were counted from 0
        self._opened_at = monotonic()
        self.began_at: int = 0  # characters of text there were before this run
        self._goes_on = False  # a body has ended as the server ends it after five minutes
        self._breaks = 0  # that nothing was read after yet
        self._asked_gone = 0
        self._sent_again = 0
        self._may_arrive_late = False  # the message: nobody has refused its connection
        self._kinds: Counter[str] = Counter()

    @property
    def retries(self) -> bool:
        """Whether anything is tried a second time."""
        return self._most > 0

    def begin(self) -> None:
        """Reads a log that this process has read nothing of. Raises as `ApiClient.open`."""
        self._read_log()

    def note(self, kinds: Counter[str]) -> None:
        """So many events that are no text were given."""
        self._kinds += kinds

    def renew(self) -> None:
        """Another run goes on with the answer."""
        self.began_at = self._reading.transcript.characters
        self.over = False
        self._tries = self._sent_again = 0
        self._forget_log()

    def can_go_on(self, broken: H2oError | None) -> bool:
        """Whether there is more to be had after ``broken``, or after an end without an end."""
        transcript = self._reading.transcript
        if self.over or self._reading.stopping or transcript.ended or transcript.finished:
            return False
        if transcript.malformed is not None:
            return False
        if broken is None and self._log is not None and self._log.end_status is not None:
            return True
        silent_for = self._reading.silent_for()
        return self._most > 0 and (broken is None or is_a_break(broken, silent_for))

    def go_on(self, broken: H2oError | None) -> list[Event]:
        """Opens what is to be read next; gives events where it is clear how the answer ends.

        Raises ``broken``, or what an end without an end amounts to, where it cannot go on.
        """
        lived = monotonic() - self._opened_at > _LIVED
        self._goes_on = False
        if self._log is None:
            self._may_arrive_late = isinstance(broken, TransportTimeout)
        if broken is None and self._log is not None and self._log.end_status is not None:
            self._choose_next(self._log.end_status)
        elif broken is None and self._log is not None and lived:
            self._next, self._goes_on = self._read_log, True
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
            last = self._next == self._give_up
            try:
                return self._next()
            except H2oError as exc:
                if _is_the_callers_time(exc):
                    raise
                if last:
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
        """Waits before the next try; after enough without a success, the last is the store."""
        reached = (self._log.last if self._log else 0, self._reading.transcript.characters)
        if reached != self._reached:
            self._tries, self._reached = 0, reached
        # A server that hangs is waited for as long as a model may be silent.
        hangs = isinstance(why, TransportTimeout) and why.which in _MAY_STAND_STILL
        if self._tries > self._most and not (hangs and self._reading.is_within_idle()):
            self._next = self._give_up
            return
        log.info("an answer is taken up again (%s)", type(why).__name__)
        if self._tries:
            longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 3 ** (self._tries - 1))
            self._reading.pause(longest * random.uniform(0.75, 1.0))
        self._tries += 1

    def _choose_next(self, status: str) -> None:
        """What to do after the log's end."""
        if status == "gone" and self._asked_gone < len(_GONE_PAUSES):
            self._reading.pause(_GONE_PAUSES[self._asked_gone])
            self._asked_gone += 1
            self._next = self._read_log
        else:
            self._next = self._read_store

    def _read_log(self) -> list[Event]:
        reading = self._reading
        if self._log is None:
            given = reading.transcript.joined[self.began_at :]
            self._log = RunLog(Overlap(given, self._kinds))
        self._log.again()
        budget = "first_token" if reading.awaits_first else "idle"
        request = self.run.log(after=self._log.last, budget=budget)
        reading.reopen(request, self._log, goes_on=self._goes_on)
        self._opened_at = monotonic()
        return []

    def _read_store(self) -> list[Event]:
        stored = self._stored()
        if stored is None and self._log is not None and self._log.end_status == "gone":
            return self._send_again()
        self.over = True
        if stored is None:
            return []
        # What is stored is the whole answer, of which this run may have been the last part.
        rest = Overlap(self._reading.transcript.joined).rest_of(stored.text)
        events: list[Event] = [Token(rest)] if rest else []
        return [*events, stored.end] if stored.end is not None else events

    def _give_up(self) -> list[Event]:
        """The whole answer, if the server has stored it meanwhile."""
        stored = self._asked_store()
        if stored is None or not stored.ended or stored.end is None:
            raise IncompleteAnswerError
        return self._read_store()

    def _asked_store(self) -> StoredAnswer | None:
        call = self._reading.call
        call.at_most = _STORE_ANSWERS_WITHIN
        try:
            return self.run.stored(call)
        finally:
            call.at_most = None

    def _stored(self) -> StoredAnswer | None:
        """What is stored, once it is the whole, or time is over."""
        end = monotonic() + _STORED_WITHIN
        pause = 0.05
        while True:
            stored = self._asked_store()
            if stored is None or stored.ended or monotonic() + pause > end:
                return stored
            self._reading.pause(pause)
            pause = min(2 * pause, _RAREST_LOOK)

    def _send_again(self) -> list[Event]:
        if self.run.again is None or self._sent_again == self._most:
            never = IncompleteAnswerError("The server has no such answer: its prompt never arrived")
            never.resendable = True
            raise never
        if self._may_arrive_late:
            raise IncompleteAnswerError(
                "The server has neither answered the prompt nor stored it, but may still do so"
            )
        self._next = self._send_again
        self._sent_again += 1
        log.info("a message that never arrived is sent again")
        request = self.run.again()
        self._forget_log()
        self._reading.reopen(request, Decoder(), is_message=True)
        self._opened_at = monotonic()
        return []

    def _forget_log(self) -> None:
        self._log = None
        self._next = self._read_log
        self._asked_gone = 0
        self._kinds.clear()


def is_a_break(error: H2oError, silent_for: float = 0.0) -> bool:
    """Whether ``error`` may have cost the connection alone, and not the answer.

    ``silent_for``: seconds in which the connection was read and brought nothing.
    """
    if _is_the_callers_time(error):
        return False
    if isinstance(error, TransportTimeout) and error.which == "idle":
        # A connection that brings keepAlives stands: it is the model that is silent.
        return silent_for > min(_ALIVE, error.seconds / 2)
    if isinstance(error, TransportError):
        return not error.permanent
    if isinstance(error, StatusError):
        return error.status in GATEWAY_FAILED
    return isinstance(error, ProtocolError | IncompleteAnswerError)


def _is_the_callers_time(error: H2oError) -> bool:
    """Whether a time has run out that holds however often a connection breaks."""
    return isinstance(error, TransportTimeout) and error.which in ("first_token", "total")
