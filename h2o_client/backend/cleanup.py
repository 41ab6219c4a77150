"""The conversations that are ours to delete, from the moment the server has made them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from h2o_client.backend.background import run_detached, wait_until_empty
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
"""Seconds that cleaning up may take, altogether."""

_LEAST = 0.001  # seconds, where the time is over already
_STOP = 2.0  # of them, at most, for a server that does not answer to a stop


class Cleanup:
    """Stops and deletes, in bounded time, and never raises. Threads may share it.

    ``ending`` holds what other threads are cleaning up just now.
    """

    def __init__(self, transport: Transport) -> None:
        self.ending: set[object] = set()
        self._transport = transport
        self._conversations: set[str] = set()
        self._one_shots: set[str] = set()

    def add(self, conversation_id: str) -> None:
        """It is ours from here on."""
        self._conversations.add(conversation_id)

    def note_one_shot(self, conversation_id: str) -> None:
        """It was made for a single answer."""
        self._one_shots.add(conversation_id)

    def is_one_shot(self, conversation_id: str) -> bool:
        """Whether it was made here for a single answer, and is still to be deleted with it."""
        return conversation_id in self._one_shots

    def release(self, conversation_id: str) -> None:
        """It is not ours any more: deleted, or meant to stay."""
        self._conversations.discard(conversation_id)
        self._one_shots.discard(conversation_id)

    def forget(self) -> None:
        """Nothing is ours: this is a forked child, and the parent cleans up."""
        self._conversations.clear()
        self._one_shots.clear()
        self.ending.clear()

    def stop(self, conversation_id: str, *, until: float | None = None) -> None:
        """Stops the answer that is being given in a conversation, in two seconds at most."""
        soon = monotonic() + _STOP
        call = clean_up_call(until=soon if until is None else min(soon, until))
        failed = self._failed(stop_request(conversation_id), call)
        if failed is not None:
            log.info("the answer in %s may go on: %s", conversation_id, failed)

    def discard(self, conversation_id: str, *, until: float | None = None) -> None:
        """Deletes a conversation. One that cannot be deleted now is tried again at the end."""
        failed = self._discard(conversation_id, clean_up_call(until=until))
        if failed is not None:
            log.info("conversation %s could not be deleted yet: %s", conversation_id, failed)

    def discard_all(self, *, until: float | None = None) -> None:
        """Deletes what is left, as at the end of a session, until then."""
        until = monotonic() + CLEAN_UP if until is None else until
        call = clean_up_call(until=until)
        wait_until_empty(self.ending, until - monotonic())
        for conversation_id in list(self._conversations):
            failed = self._discard(conversation_id, call)
            if failed is not None:
                log.warning(
                    "conversation %s may be left on the server: %s", conversation_id, failed
                )

    def sweep(self) -> None:
        """As the last of them all: deletes what is left, soon, and closes the connections."""
        if self._conversations:
            run_detached(self._sweep)
        else:
            self._transport.close()

    def _sweep(self) -> None:
        self.discard_all()
        self._transport.close()

    def _discard(self, conversation_id: str, call: Call) -> Exception | None:
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
                return ProtocolError(f"the answer to {request}", "an HTML page")
        except (H2oError, Woken) as exc:
            return exc
        except Exception as exc:
            # A signal handler's, which only the main thread meets, is not a failure to clean up.
            if threading.current_thread() is threading.main_thread():
                raise
            return exc
        return None


def clean_up_call(*, until: float | None = None) -> Call:
    """One that takes no longer than cleaning up may, or goes on ``until`` then (monotonic)."""
    seconds = CLEAN_UP if until is None else max(_LEAST, until - monotonic())
    return Call(Timeouts(connect=seconds, first_token=seconds, idle=seconds, total=seconds))
