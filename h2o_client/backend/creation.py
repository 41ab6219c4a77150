"""Create conversations. If the caller does not wait for the response, delete the conversation.

Only the response contains the id. Therefore a thread of its own sends the request, and completes it
even if the caller is interrupted, cancelled, or out of time. Closing the session waits for that
thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from h2o_client.backend.background import INTERRUPTED_WITHIN, run_detached
from h2o_client.backend.cleanup import CLEAN_UP, Cleanup
from h2o_client.backend.standing_threads import run_in_standing_thread
from h2o_client.dialects.documents import Created
from h2o_client.errors import ModelUnavailableError, StatusError, TimeoutName
from h2o_client.log import log
from h2o_client.timeouts import Expired, Timeouts, monotonic
from h2o_client.transport.call import Call
from h2o_client.transport.failures import translated
from h2o_client.transport.locks import Flag, Guard

if TYPE_CHECKING:
    from h2o_client.backend.api_client import ApiClient
    from h2o_client.backend.detector import Detector
    from h2o_client.backend.offered_models import OfferedModels

_ANSWERED_WITHIN = 300.0  # seconds in which a busy server creates a conversation
_WOKEN_WITHIN = 1.0
_STARTED_WITHIN = 0.5

Create = Callable[[Call], Created]


class Creations:
    """The unfinished creations of one session. Threads may share it."""

    def __init__(
        self, api: ApiClient, detector: Detector, models: OfferedModels, cleanup: Cleanup
    ) -> None:
        self._api = api
        self._detector = detector
        self._models = models
        self._cleanup = cleanup
        # No lock is needed: adding and discarding one entry is atomic, and `close` reads a copy. A
        # finalizer, which reads `are_in_progress`, must not wait for a lock.
        self._in_progress: set[_Creation] = set()

    def create(self, model: str, preprompt: str | None, caller: Call) -> Created:
        """Create a conversation, within the timeouts of ``caller``.

        Raises `ModelUnavailableError` for an unknown model, `Woken` if the caller was woken,
        `TransportTimeout` if its time is over. If the conversation is created later, it is deleted.
        """
        create = partial(self._send, model, preprompt)
        creation = _Creation(create, caller, self._cleanup, self._in_progress.discard)
        caller.clock.allow("connect", None)  # until a connection is made
        try:
            self._in_progress.add(creation)
            caller.check()  # after adding it: `close` waits for it, or has woken its caller
        except BaseException:
            self._in_progress.discard(creation)
            raise
        try:
            creation.start()
            return creation.result()
        except Expired as exc:
            raise translated(exc, caller, self._api.transport.base_url) from exc
        finally:
            creation.leave()

    def _send(self, model: str, preprompt: str | None, call: Call) -> Created:
        found = self._detector.detect(call)
        try:
            created = self._api.fetch(found.dialect.create(model, preprompt), call)
        except StatusError as exc:
            if exc.status not in (400, 500) or exc.origin != "server":
                raise
            offered = self._models.ids(call)
            if model in offered:
                raise
            # An unknown model is a bare 500, or 400 "Invalid request" since v0.8.
            raise ModelUnavailableError(
                exc.status,
                f"{exc.said} (unknown model {model!r})",
                url=exc.url,
                body=exc.body,
                hint=f"Available: {', '.join(offered)}.",
            ) from exc
        self._cleanup.add(created.id)
        self._detector.note_created(found, created, call)
        return created

    @property
    def are_in_progress(self) -> bool:
        """Whether there are unfinished creations."""
        return bool(self._in_progress)

    def close(self, seconds: float = CLEAN_UP) -> None:
        """Wait for unfinished creations, at most ``seconds``; then interrupt them."""
        end = monotonic() + seconds
        for creation in list(self._in_progress):
            if not creation.has_started():
                continue
            if not creation.done.wait(max(0.0, end - monotonic())):
                creation.give_up()

    def forget(self) -> None:
        """Forget all creations in a forked child: the parent completes them."""
        self._in_progress = set()


class _Creation:
    """One conversation being created. ``done`` is set when its thread has nothing left to do."""

    def __init__(
        self,
        create: Create,
        caller: Call,
        cleanup: Cleanup,
        on_end: Callable[[_Creation], None],
    ) -> None:
        self.done = Flag()
        self._started = Flag()
        self._call = _OwnCall(caller)
        self._create = create
        self._caller = caller
        self._cleanup = cleanup
        self._on_end = on_end
        # Guards the three flags. `_created` and `_failure` need no lock: the thread sets them
        # before `_is_ready`, and others read them after it.
        self._guard = Guard()
        self._created: Created | None = None
        self._failure: BaseException | None = None
        self._is_ready = self._is_taken = self._is_left = False

    def start(self) -> None:
        # The thread is a daemon, so that the program can end before the server has responded.
        try:
            run_in_standing_thread(self._run)
        except RuntimeError:
            self._run()  # no more threads: the interpreter is shutting down

    def result(self) -> Created:
        """Wait for the conversation. Raises the errors of the request, `Woken`, and `Expired`."""
        with self._caller.alarm() as alarm:
            while True:
                alarm.clear()
                self._caller.check()  # after clear: `wake` sets both
                with self._guard:
                    if self._is_ready:
                        break
                left = self._caller.clock.left()
                alarm.wait(INTERRUPTED_WITHIN if left is None else min(left, INTERRUPTED_WITHIN))
        if self._failure is not None:
            raise self._failure
        assert self._created is not None
        with self._guard:
            self._is_taken = True
        return self._created

    def leave(self) -> None:
        """Note that the caller waits no longer. Idempotent."""
        with self._guard:
            if self._is_taken or self._is_left:
                return
            self._is_left = True
            is_ready = self._is_ready
        self._call.wake_unless_sent()
        if is_ready:
            run_detached(self._undo)
        elif not self.has_started():
            self._end()
        else:
            # The end of the program waits for it for a short time.
            run_detached(partial(self.done.wait, CLEAN_UP))

    def give_up(self) -> None:
        """Interrupt the creation: the session is being closed."""
        self._call.wake()
        self.done.wait(_WOKEN_WITHIN)

    def has_started(self) -> bool:
        """Whether the thread was started: an interrupt can arrive before that."""
        return self._started.wait(_STARTED_WITHIN)

    def _run(self) -> None:
        self._started.set()
        try:
            self._created = self._create(self._call)
        except BaseException as exc:
            self._failure = exc
        with self._guard:
            self._is_ready = True
            is_left = self._is_left
        self._caller.ring()
        if is_left:
            self._undo()
        else:
            self._end()

    def _undo(self) -> None:
        try:
            if self._created is not None:
                self._cleanup.delete(self._created.id)
            elif self._call.sent and not isinstance(self._failure, StatusError):
                log.warning(
                    "a conversation may be left on the server, its creation was interrupted: %s",
                    type(self._failure).__name__,
                )
        finally:
            self._end()

    def _end(self) -> None:
        self.done.set()
        self._on_end(self)


class _OwnCall(Call):
    """The creation's own call, with long timeouts. It sets the timeouts of the caller's clock."""

    _has_caller = False  # it is completed even if the task that waits for it is cancelled

    def __init__(self, caller: Call) -> None:
        connect = caller.timeouts.connect
        limits = Timeouts(connect=connect, first_token=_ANSWERED_WITHIN, idle=_ANSWERED_WITHIN)
        super().__init__(limits)
        self._caller = caller

    def connecting(self, budget: TimeoutName) -> float | None:
        self._allow("connect", self._caller.timeouts.connect)
        return super().connecting(budget)

    def connected(self, sock: object) -> None:
        super().connected(sock)
        self._allow("idle", self._caller.timeouts.idle)

    def pause(self, seconds: float) -> None:
        self._allow("connect", None)
        super().pause(seconds)

    def _allow(self, which: TimeoutName, seconds: float | None) -> None:
        self._caller.clock.allow(which, seconds)
        self._caller.ring()
