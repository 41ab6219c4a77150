"""Temporary conversations: each has one owner, and all are deleted here.

A conversation is temporary as soon as the server has created it. Its owner calls `delete` or
`keep`. This is first the creation, then the `Conversation`, or the answer if the conversation is
made for a single answer. If no owner has deleted it, the end of the session does. After an answer
that has ended properly, a worker deletes the conversation, and nobody waits for it.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from h2o_client.backend.background import run_detached, run_shielded, wait_until_empty
from h2o_client.backend.worker import Worker
from h2o_client.dialects.conversation_requests import delete_request, stop_request
from h2o_client.errors import H2oError, ProtocolError
from h2o_client.log import log
from h2o_client.timeouts import Timeouts, monotonic
from h2o_client.transport.call import Call, Woken
from h2o_client.wire.refusal import refusal
from h2o_client.wire.request import Request

if TYPE_CHECKING:
    from h2o_client.transport.transport import Transport

CLEAN_UP = 5.0
"""Seconds that all of the cleanup may take."""

_LEAST = 0.001  # seconds, if the time is over already
_STOP = 2.0  # seconds of the cleanup, at most, for a server that does not answer to a stop
_MOST_BEHIND = 4  # conversations that may wait for the worker; the caller deletes any others


class TemporaryConversation:
    """A conversation that is to be deleted. See `Cleanup.add`."""

    def __init__(self, cleanup: Cleanup, id: str) -> None:
        self.id: str = id
        self.is_one_shot: bool = False
        self._cleanup = cleanup

    def bind_to_answer(self) -> None:
        """Note that it is made for one answer: resuming that answer deletes it, too."""
        self.is_one_shot = True

    def keep(self) -> None:
        """Leave it on the server."""
        self._cleanup.release(self.id)

    def delete(self, *, until: float | None = None) -> None:
        """Delete it, by ``until`` or within five seconds. Never raises.

        If that fails, the end of the session tries again.
        """
        self._cleanup.delete(self.id, until=until)

    def delete_behind(self) -> bool:
        """As `delete`, without waiting. False, and nothing is done, if too many are pending."""
        return self._cleanup.delete_behind(self.id)

    def delete_shielded(self) -> None:
        """As `delete`; an interrupt of the caller does not end it."""
        run_shielded(self.delete, pending=self._cleanup.pending)

    def delete_detached(self) -> None:
        """As `delete`, in another thread, if it is not deleted: a finalizer may call it."""
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

    Threads may share it. ``pending`` has an entry for each cleanup that is under way, ``behind``
    the conversations that the worker is to delete or is deleting. Those sets and the temporary
    conversations are changed without a lock: adding and removing one entry is atomic, and a
    finalizer, which the garbage collector may run anywhere, must not wait for a lock.
    """

    def __init__(self, transport: Transport) -> None:
        self.pending: set[object] = set()
        self.behind: set[str] = set()
        self._transport = transport
        self._temporary: dict[str, TemporaryConversation] = {}
        self._worker = Worker()
        self._call_behind: Call | None = None  # the worker's current call

    def add(self, conversation_id: str) -> TemporaryConversation:
        """Make a conversation temporary, if it is not. The caller is its owner from here on."""
        fresh = TemporaryConversation(self, conversation_id)
        return self._temporary.setdefault(conversation_id, fresh)

    def find(self, conversation_id: str) -> TemporaryConversation | None:
        """The temporary conversation with that id; None if there is none, or it is deleted."""
        return self._temporary.get(conversation_id)

    def release(self, conversation_id: str) -> None:
        """It is not temporary any more: deleted, or meant to stay."""
        self._temporary.pop(conversation_id, None)

    def forget(self) -> None:
        """Nothing is temporary: this is a forked child, and the parent cleans up."""
        self._temporary.clear()
        self.pending.clear()
        self.behind.clear()
        self._worker = Worker()  # its thread is the parent's
        self._call_behind = None  # waking it would shut down the parent's connection

    def stop(self, conversation_id: str, *, until: float | None = None) -> None:
        """Stop the answer that is being given in a conversation, in two seconds at most."""
        soon = monotonic() + _STOP
        call = clean_up_call(until=soon if until is None else min(soon, until))
        failed = self._failed(stop_request(conversation_id), call)
        if failed is not None:
            log.info("could not stop the answer in %s: %s", conversation_id, failed)

    def delete(self, conversation_id: str, *, until: float | None = None) -> None:
        """Delete a temporary conversation: see `TemporaryConversation.delete`."""
        failed = self._delete(conversation_id, clean_up_call(until=until))
        if failed is not None:
            log.info("could not delete conversation %s yet: %s", conversation_id, failed)

    def delete_behind(self, conversation_id: str) -> bool:
        """Delete a temporary conversation soon: see `TemporaryConversation.delete_behind`."""
        if conversation_id in self.behind:
            return True
        if not self.has_room_behind():
            return False
        self.behind.add(conversation_id)
        self.pending.add(conversation_id)
        if self._worker.put(partial(self._delete_in_worker, conversation_id)):
            return True
        self._note_deleted(conversation_id)
        return False

    def has_room_behind(self) -> bool:
        """Whether the worker takes one more conversation."""
        return len(self.behind) < _MOST_BEHIND

    def _delete_in_worker(self, conversation_id: str) -> None:
        call = self._call_behind = clean_up_call()
        try:
            failed = self._delete(conversation_id, call)
            if failed is not None:
                log.info("could not delete conversation %s: %s", conversation_id, failed)
        finally:
            self._call_behind = None
            self._note_deleted(conversation_id)

    def _note_deleted(self, conversation_id: str) -> None:
        """Nothing of it is pending, whether it is deleted or not."""
        self.behind.discard(conversation_id)
        self.pending.discard(conversation_id)

    def delete_all(self, *, until: float | None = None) -> None:
        """Delete what is left, as at the end of a session, by ``until``. The worker ends."""
        until = monotonic() + CLEAN_UP if until is None else until
        call = clean_up_call(until=until)
        self._worker.stop()
        wait_until_empty(self.pending, until - monotonic())
        self._worker.drop()
        if (call_behind := self._call_behind) is not None:
            call_behind.wake()  # its time is over with that of the rest
        for conversation_id in list(self._temporary):
            failed = self._delete(conversation_id, call)
            if failed is not None:
                log.warning(
                    "conversation %s may be left on the server: %s", conversation_id, failed
                )

    def finalize(self) -> None:
        """Delete what is left in another thread, then close the connections."""
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
            # An exception in the main thread may come from a signal handler, and not from here.
            if threading.current_thread() is threading.main_thread():
                raise
            return exc
        return None


def clean_up_call(*, until: float | None = None) -> Call:
    """A call that ends in the time of a cleanup, or at the time ``until`` (monotonic)."""
    seconds = CLEAN_UP if until is None else max(_LEAST, until - monotonic())
    return Call(Timeouts(connect=seconds, first_token=seconds, idle=seconds, total=seconds))
