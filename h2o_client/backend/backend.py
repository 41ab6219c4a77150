"""The parts of a session that deal with the server, and the order in which they end."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from h2o_client.backend.background import (
    complete_at_exit,
    run_detached,
    run_in_background,
    wait_until_empty,
)
from h2o_client.backend.background_reader import BackgroundReader
from h2o_client.backend.cleanup import CLEAN_UP, Cleanup
from h2o_client.backend.creation import Creations
from h2o_client.backend.login import Login
from h2o_client.backend.offered_models import OfferedModels
from h2o_client.backend.prepared import PreparedConversations
from h2o_client.backend.stored_settings import StoredSettings
from h2o_client.backend.unstored import UnstoredAnswers
from h2o_client.config import no_address
from h2o_client.dialects.conversation_requests import delete_request
from h2o_client.errors import (
    AuthenticationError,
    H2oError,
    NotFoundError,
    ProtocolError,
    ServerError,
)
from h2o_client.timeouts import Timeouts, monotonic
from h2o_client.transport.call import Call
from h2o_client.transport.locks import Guard

if TYPE_CHECKING:
    from h2o_client.backend.api_client import ApiClient
    from h2o_client.backend.detector import Detector
    from h2o_client.config import SessionConfig
    from h2o_client.dialects.dialect import Dialect
    from h2o_client.dialects.documents import Model, Settings, Stored
    from h2o_client.transport.transport import Transport


class Unfinished(Protocol):
    """An unfinished answer or batch. The end of the session also ends it."""

    def end(self, *, until: float | None = None) -> None: ...

    def forget(self) -> None: ...


class Backend:
    """One session's server. Threads may share it.

    ``api`` sends requests and parses responses, ``detector`` detects the server's dialect,
    ``login``, ``models`` and ``settings`` read and change what the server has stored for the
    session, ``creations`` creates conversations, ``prepared`` holds those that were created in
    advance, ``cleanup`` deletes conversations, ``reader`` reads responses that their callers left,
    and ``unstored`` holds answers that the next message has to wait for. Each has its own lock.
    """

    def __init__(self, config: SessionConfig, api: ApiClient, detector: Detector) -> None:
        self.config = config
        self.api = api
        self.transport: Transport = api.transport
        self.timeouts: Timeouts = api.timeouts
        self.detector = detector
        self.login: Login = Login(api, detector)
        self.models: OfferedModels = OfferedModels(api, detector, config.model)
        self.settings: StoredSettings = StoredSettings(
            config, api, detector, self.login, self.models
        )
        self.cleanup: Cleanup = Cleanup(api.transport)
        self.creations: Creations = Creations(api, detector, self.models, self.cleanup)
        self.prepared: PreparedConversations = PreparedConversations(
            config.prepare, self.creations, self.cleanup, api.timeouts
        )
        self.reader: BackgroundReader = BackgroundReader()
        self.unstored: UnstoredAnswers = UnstoredAnswers()
        self._guard = Guard()  # guards the next three attributes
        self._unfinished: set[Unfinished] = set()
        self._batches: weakref.WeakSet[Unfinished] = weakref.WeakSet()
        self._warned_about: set[str] = set()
        # For sessions that are not closed: runs when the last reference is gone, or at exit.
        weakref.finalize(self, _finalize, self.reader, self.prepared, self.creations, self.cleanup)
        _living.add(self)

    def set_up(self, call: Call | None = None, *, exactly: bool = False) -> Dialect:
        """Detect the server and post the settings, each once. Return the dialect.

        With ``exactly``, send more requests if they are needed to detect the version.
        """
        call = call or Call(self.timeouts)
        with self.reporting_no_address():
            dialect = self.settings.post_once(call)
        if exactly and dialect.has_pages:
            return self.detector.detect_exactly(call).dialect
        return dialect

    @contextmanager
    def reporting_no_address(self) -> Iterator[None]:
        """Within the block, replace the errors of the default server: no address was given."""
        try:
            yield
        except H2oError as exc:
            if self.config.has_address:
                raise
            raise no_address() from exc

    def choose_model(self, wanted: str | None, call: Call) -> Model:
        """The model to use: ``wanted``, else the session's, H2O's, or the server's first."""
        return self.models.choose(self.set_up(call), wanted, call)

    def read_settings(self, call: Call | None = None) -> Settings:
        """The current settings on the server."""
        return self.settings.read(self.set_up(call), call)

    def change_settings(self, change: Callable[[Settings], Settings]) -> None:
        """Read the whole document, change it with ``change``, and post it."""
        call = Call(self.timeouts)
        self.settings.change(self.set_up(call), change, call)

    def conversation(self, conversation_id: str, call: Call | None = None) -> Stored:
        """Read a stored conversation."""
        call = call or Call(self.timeouts)
        best, *others = self.set_up(call).conversation(conversation_id)
        before = self.detector.known
        try:
            stored = self.api.fetch(best, call)
        except (ServerError, ProtocolError) as exc:
            # v0.9.6 and later accept messages in the format of v0.9.2, but misinterpret missing
            # fields. Only the missing page shows that the server was upgraded.
            if isinstance(exc, ProtocolError) and self.detector.is_upgraded_since(before, call):
                raise
            for endpoint in others:
                return self.api.fetch(endpoint, call)
            raise
        except AuthenticationError as exc:
            if exc.status != 403 or "don't have access" not in exc.said:
                raise
            # Another session's conversation: a login does not help.
            raise NotFoundError(exc.status, exc.said, url=exc.url, body=exc.body) from None
        if stored.is_latest:
            self.detector.note_latest(call)
        return stored

    def leaf(self, conversation_id: str, call: Call) -> str | None:
        """The id of the message before the first prompt of a new conversation, if there is one."""
        messages = self.conversation(conversation_id, call).messages
        return messages[-1].id if messages else None

    def delete(self, conversation_id: str) -> None:
        """Delete a conversation at the caller's request. Raises `H2oError`."""
        self.set_up()
        self.api.send(delete_request(conversation_id))
        self.cleanup.release(conversation_id)

    def delete_all(self) -> None:
        """Delete all conversations of the session or user."""
        request = self.set_up(exactly=True).delete_all()
        if request.method == "POST":
            self.api.submit_form(request)
        else:
            self.api.send(request)

    def add(self, answer: Unfinished) -> None:
        """Register an answer that has to end with the session."""
        with self._guard:
            self._unfinished.add(answer)

    def remove(self, answer: Unfinished) -> None:
        """Forget an answer that has ended."""
        with self._guard:
            self._unfinished.discard(answer)

    def add_batch(self, batch: Unfinished) -> None:
        """Register a batch, which has to end before the answers that it waits for."""
        with self._guard:
            self._batches.add(batch)

    def is_first_warning(self, about: str) -> bool:
        """Return True on the first call with ``about``, False on later ones."""
        with self._guard:
            is_first = about not in self._warned_about
            self._warned_about.add(about)
        return is_first

    def close(self) -> None:
        """End batches and answers, delete temporary conversations, close connections. Never raises.

        Takes about `CLEAN_UP` seconds at most.
        """
        end = monotonic() + CLEAN_UP
        with self._guard:
            batches = list(self._batches)
        _end_all(batches, end - CLEAN_UP / 2)
        with self._guard:
            unfinished = list(self._unfinished)
        _end_all(unfinished, end)
        self.prepared.close()
        self.creations.close(end - monotonic())
        self.cleanup.delete_all(until=end)
        self.cleanup.forget()  # failed deletions are not retried later
        self.reader.close(end - monotonic())
        self.transport.close()

    def forget(self) -> None:
        """Forget, in a forked child, the answers and conversations that belong to the parent."""
        # Another thread of the parent may have held any of the locks, so the child has new ones.
        self._guard = Guard()
        for answer in self._unfinished:
            answer.forget()
        self._unfinished = set()
        self._batches = weakref.WeakSet()
        self.transport.forget()
        self.detector.forget()
        self.unstored.forget()
        self.reader.forget()
        self.prepared.forget()
        self.creations.forget()
        self.cleanup.forget()


def _end_all(unfinished: list[Unfinished], until: float) -> None:
    ending: set[object] = set()
    for each in unfinished:
        run_in_background(partial(each.end, until=until), pending=ending)
    wait_until_empty(ending, until - monotonic())


def _finalize(
    reader: BackgroundReader,
    prepared: PreparedConversations,
    creations: Creations,
    cleanup: Cleanup,
) -> None:
    """Clean up after a session that was not closed."""
    prepared.close()
    if reader.is_reading:
        run_detached(reader.close)
    if creations.are_in_progress:
        run_detached(creations.close)
    cleanup.finalize()


# For forked children. Adding to it is atomic, and a new child, which reads it, has one thread.
_living: weakref.WeakSet[Backend] = weakref.WeakSet()


def _forget_all() -> None:
    for backend in list(_living):
        backend.forget()
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        # If the child is a process of multiprocessing, it runs this, and then its finalizers.
        util.register_after_fork(_living, _finalize_all_at_exit)


def _finalize_all_at_exit(_: object) -> None:
    # Such a process ends without running what `atexit` and `weakref.finalize` register.
    util = import_module("multiprocessing.util")
    util.Finalize(None, _finalize_all, exitpriority=0)


def _finalize_all() -> None:
    for each in list(_living):
        _finalize(each.reader, each.prepared, each.creations, each.cleanup)
    complete_at_exit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
