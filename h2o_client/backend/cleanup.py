"""Temporary conversations: each has one owner, and all are deleted here.

A conversation is temporary as soon as the server has created it. Its owner calls `delete` or
`keep`. The first owner is the creation, the second one the `Conversation`, or the answer if the
conversation is created for a single answer. The end of the session deletes the conversations that
no owner has deleted. After a complete answer, a worker deletes the conversation in the background.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from h2o_client.backend.background import run_detached, run_shielded, wait_until_empty
from h2o_client.backend.worker import Worker
from h2o_client.dialects.conversation_requests import delete_request, stop_request
from h2o_client.errors import H2oError, ProtocolError, StatusError, TransportTimeout
from h2o_client.log import log
from h2o_client.timeouts import Timeouts, monotonic
from h2o_client.transport.call import Call, Woken
from h2o_client.wire.refusal import refusal
from h2o_client.wire.request import Request

if TYPE_CHECKING:
    from h2o_client.transport.transport import Transport

CLEAN_UP = 5.0
"""Seconds that the whole cleanup may take."""

_LEAST = 0.001  # seconds, if the time is already over
_STOP_WITHIN = 2.0  # seconds of the cleanup for a stop request without a response
# Seconds within which a busy server handles a request that the client has given up.
_HANDLED_WITHIN = 30.0
_MOST_IN_BACKGROUND = 4  # conversations that may wait for the worker; callers delete any others


class TemporaryConversation:
    """A conversation that is to be deleted. See `Cleanup.add`."""

    def __init__(self, cleanup: Cleanup, id: str) -> None:
        self.id: str = id
        self.is_one_shot: bool = False
        self._cleanup = cleanup

    def bind_to_answer(self) -> None:
        """Note that it was created for one answer. Then resuming that answer also deletes it."""
        self.is_one_shot = True

    def keep(self) -> None:
        """Keep it on the server."""
        self._cleanup.release(self.id)

    def delete(self, *, until: float | None = None) -> None:
        """Delete it, by ``until`` or within five seconds. Never raises.

        If that fails, the end of the session tries again.
        """
        self._cleanup.delete(self.id, until=until)

    def delete_in_background(self) -> bool:
        """Like `delete`, without waiting. Return False, without effect, if too many are pending."""
        return self._cleanup.delete_in_background(self.id)

    def delete_shielded(self) -> None:
        """Like `delete`, but shielded from interrupts of the caller."""
        run_shielded(self.delete, pending=self._cleanup.pending)

    def delete_detached(self) -> None:
        """Like `delete`, in another thread. A finalizer may call it."""
        if self._cleanup.find(self.id) is None:
            return
        token = object()
        self._cleanup.pending.add(token)

        def delete() -> None:
            try:
                self.delete()
            finally:
                self._cleanup.pending.discard(token)

        run_detached(delete)


class Cleanup:
    """Stops answers and deletes conversations, in bounded time. Never raises.

    Threads may share it. ``pending`` has an entry for each cleanup in progress, ``in_background``
    the ids of the conversations that the worker has to delete. These sets and the temporary
    conversations are changed without a lock: adding and removing one entry is atomic, and a
    finalizer, which the garbage collector may run anywhere, must not wait for a lock.
    """

    def __init__(self, transport: Transport) -> None:
        self.pending: set[object] = set()
        self.in_background: set[str] = set()
        self._transport = transport
        self._temporary: dict[str, TemporaryConversation] = {}
        self._worker = Worker()
        self._worker_call: Call | None = None  # the worker's current call

    def add(self, conversation_id: str) -> TemporaryConversation:
        """Make a conversation temporary, if it is not yet. The caller becomes its owner."""
        fresh = TemporaryConversation(self, conversation_id)
        return self._temporary.setdefault(conversation_id, fresh)

    def find(self, conversation_id: str) -> TemporaryConversation | None:
        """Return the temporary conversation with that id; None if there is none."""
        return self._temporary.get(conversation_id)

    def release(self, conversation_id: str) -> None:
        """Note that the conversation is deleted, or no longer temporary."""
        self._temporary.pop(conversation_id, None)

    def forget(self) -> None:
        """Forget all conversations in a forked child: the parent deletes them."""
        self._temporary.clear()
        self.pending.clear()
        self.in_background.clear()
        self._worker = Worker()  # the thread of the old worker runs in the parent
        self._worker_call = None  # waking it would shut down the parent's connection

    def stop(self, conversation_id: str, *, until: float | None = None) -> float:
        """Stop the answer that is being generated in a conversation. Takes at most two seconds.

        Return the time, on the monotonic clock, by which the server has handled the request.
        """
        soon = monotonic() + _STOP_WITHIN
        call = clean_up_call(until=soon if until is None else min(soon, until))
        failed = self._failed(stop_request(conversation_id), call)
        if failed is not None:
            log.info("could not stop the answer in %s: %s", conversation_id, _cause(failed))
        has_response = failed is None or isinstance(failed, StatusError | ProtocolError)
        return monotonic() + (0.0 if has_response else _HANDLED_WITHIN)

    def delete(self, conversation_id: str, *, until: float | None = None) -> None:
        """Delete a temporary conversation: see `TemporaryConversation.delete`."""
        failed = self._delete(conversation_id, clean_up_call(until=until))
        if failed is not None:
            log.info("could not delete conversation %s yet: %s", conversation_id, _cause(failed))

    def delete_in_background(self, conversation_id: str) -> bool:
        """Delete a conversation soon: see `TemporaryConversation.delete_in_background`."""
        if conversation_id in self.in_background:
            return True
        if not self.can_delete_in_background():
            return False
        self.in_background.add(conversation_id)
        self.pending.add(conversation_id)
        if self._worker.put(partial(self._delete_in_worker, conversation_id)):
            return True
        self._note_done(conversation_id)
        return False

    def can_delete_in_background(self) -> bool:
        """Whether the worker accepts one more conversation."""
        return len(self.in_background) < _MOST_IN_BACKGROUND

    def _delete_in_worker(self, conversation_id: str) -> None:
        call = self._worker_call = clean_up_call()
        try:
            failed = self._delete(conversation_id, call)
            if failed is not None:
                log.info("could not delete conversation %s: %s", conversation_id, _cause(failed))
        finally:
            self._worker_call = None
            self._note_done(conversation_id)

    def _note_done(self, conversation_id: str) -> None:
        """Note that the worker is done with a conversation, even if the deletion failed."""
        self.in_background.discard(conversation_id)
        self.pending.discard(conversation_id)

    def delete_all(self, *, until: float | None = None) -> None:
        """Delete all temporary conversations, by ``until``, and end the worker."""
        until = monotonic() + CLEAN_UP if until is None else until
        call = clean_up_call(until=until)
        self._worker.stop()
        wait_until_empty(self.pending, until - monotonic())
        self._worker.drop()
        if (worker_call := self._worker_call) is not None:
            worker_call.wake()  # the time of all cleanup is over
        for conversation_id in list(self._temporary):
            failed = self._delete(conversation_id, call)
            if failed is not None:
                log.warning(
                    "conversation %s may be left on the server: %s", conversation_id, _cause(failed)
                )

    def finalize(self) -> None:
        """Delete all temporary conversations in another thread, then close the connections."""
        if self._temporary:
            run_detached(self._finalize)
        else:
            self._worker.stop()
            self._transport.close()

    def _finalize(self) -> None:
        self.delete_all()
        self._transport.close()

    def _delete(self, conversation_id: str, call: Call) -> Exception | None:
        failed = self._failed(delete_request(conversation_id), call)
        if failed is None:
            self.release(conversation_id)
        return failed

    def _failed(self, request: Request, call: Call) -> Exception | None:
        try:
            response = self._transport.request(request, call, urgent=True)
            if response.status >= 300 and response.status != 404:
                return refusal(response.status, response.headers, response.whole())
            if response.whole().lstrip()[:1] == b"<":
                return ProtocolError(f"the response to {request}", "an HTML page")
        except (H2oError, Woken) as exc:
            return exc
        except Exception as exc:
            # In the main thread, the exception may come from a signal handler.
            if threading.current_thread() is threading.main_thread():
                raise
            return exc
        return None


def _cause(failed: Exception) -> str:
    """The log's text about a failed request. The caller's timeouts do not apply to it."""
    if isinstance(failed, TransportTimeout):
        return "the server did not respond in time"
    return failed.message if isinstance(failed, H2oError) else type(failed).__name__


def clean_up_call(*, until: float | None = None) -> Call:
    """Create a call that ends within `CLEAN_UP` seconds, or at the monotonic time ``until``."""
    seconds = CLEAN_UP if until is None else max(_LEAST, until - monotonic())
    return Call(Timeouts(connect=seconds, first_token=seconds, idle=seconds, total=seconds))
