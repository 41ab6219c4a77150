"""Detect the version of the server, once, and again after a sign that it was upgraded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from h2o_client.backend.api_client import excerpt
from h2o_client.dialects import detection, pages
from h2o_client.dialects.detection import Found
from h2o_client.dialects.dialect import Dialect
from h2o_client.dialects.documents import Created, Model
from h2o_client.dialects.endpoint import Endpoint
from h2o_client.dialects.run_requests import resume_probe
from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    Hint,
    NotFoundError,
    ProtocolError,
    ServerError,
    StatusError,
)
from h2o_client.log import log, without_frames
from h2o_client.timeouts import Expired
from h2o_client.transport.call import Call
from h2o_client.transport.failures import translated
from h2o_client.transport.locks import CallLock
from h2o_client.wire.pagedata import EndlessError

if TYPE_CHECKING:
    from h2o_client.backend.api_client import ApiClient
    from h2o_client.transport.response import Response

T = TypeVar("T")

NO_MODELS = "This chat-ui (v0.9.6 or later) could not load its models when it was started"
MODEL_WAS_DOWN = (
    "Its model server (OPENAI_BASE_URL) was down then. Once that answers, the operator has to "
    "restart the chat-ui."
)


class Detector:
    """Detects the server's dialect and version, and remembers them. Threads may share it.

    It needs no login and posts no settings. ``upgrades`` counts how often the detected version has
    changed.
    """

    def __init__(self, api: ApiClient, server_version: str | None) -> None:
        self._api = api
        self._configured = None if server_version is None else detection.by_version(server_version)
        # Guards `_found` and `upgrades`, also during the requests that change them, and the work
        # that callers pass to `hold`. Only `_write` changes `_found`, and its callers have the
        # lock. `known` and `current` read one reference without it. Any thread may set `_is_stale`
        # without it, for the next thread that holds the lock.
        self._lock = CallLock()
        self._found: Found | None = None
        self._is_stale = False
        self.upgrades: int = 0

    @property
    def known(self) -> Found | None:
        """The result of the detection so far. Sends no request."""
        return self._found

    def forget(self) -> None:
        """Replace the lock in a forked child: a thread of the parent may have held it."""
        self._lock = CallLock()

    def hold(self, call: Call, work: Callable[[], T]) -> T:
        """Run ``work`` while no other call detects the server. Raises `TransportTimeout`."""
        try:
            return self._lock.hold(call, work)
        except Expired as exc:
            raise translated(exc, call, self._api.transport.base_url) from exc
        except H2oError as exc:
            raise without_frames(exc)  # noqa: B904 - it is the same error

    def current(self, call: Call) -> Found | None:
        """Return what was detected, if it is up to date; None if `detect` would have to do more.

        Does not hold the lock, so another call may detect the server right afterwards.
        """
        found = self._found
        return found if self._lock.is_free_for(call) and not self._is_stale else None

    def detect(self, call: Call | None = None) -> Found:
        """Return what was detected, exactly enough to send requests. The first call detects it."""
        call = call or Call(self._api.timeouts)
        return self.current(call) or self.hold(call, lambda: self._detect_locked(call))

    def detect_exactly(self, call: Call | None = None) -> Found:
        """Like `detect`, but send one more request if the responses fit several versions.

        If the server refuses the page that shows the version, the version stays uncertain.
        """
        call = call or Call(self._api.timeouts)

        def detect() -> Found:
            found = self._detect_locked(call)
            # A server of v0.9.6 to v0.10.0 may have become a newer one since it was detected.
            may_be_newer = detection.may_have_runs(found.dialect) and not found.dialect.keeps_runs
            if not found.is_certain or (may_be_newer and self._configured is None):
                found = self._write(self._distinguish(found, call))
            return found

        return self.hold(call, detect)

    def with_layout(self, found: Found, call: Call) -> Found:
        """Return ``found`` with its ``layout``, requested if the dialect has pages."""
        if found.layout is not None or not found.dialect.has_pages:
            return found
        exact = detection.by_layout(found, self._api.fetch(pages.layout(), call))
        self._replace(found, exact, call)
        return exact

    def with_models(self, found: Found, call: Call) -> Found:
        """Return ``found`` with its ``models``, requested if needed."""
        if found.models is not None:
            return found
        models: tuple[Model, ...]
        if found.layout is not None:
            models = found.layout.models
        else:
            models = self._api.fetch(found.dialect.models(), call)
        known = msgspec.structs.replace(found, models=models)
        self._replace(found, known, call)
        return known

    def note_answer(self, dialect: Dialect, content_type: str, call: Call) -> Dialect:
        """Note the type of the response to a message, which shows the version of some dialects."""
        exact = detection.by_answer(dialect, content_type)
        if exact is dialect or self._configured is not None:
            return dialect

        def note() -> None:
            found = self._found
            if found is not None and found.dialect.is_of_era(exact):
                certain = msgspec.structs.replace(
                    found, dialect=exact, version=exact.span, is_certain=True
                )
                self._write(certain)

        self._lock.hold_if_free(call, note)
        return exact

    def note_created(self, found: Found, created: Created, call: Call) -> None:
        """Note how a conversation was created, which shows whether the server has runs."""
        exact = detection.by_runs(found, has_runs=created.leaf is not None)
        if self._configured is None and exact is not found:
            self._replace(found, exact, call)

    def note_latest(self, call: Call) -> None:
        """Note that a conversation was stored by a server since July 2026."""

        def note() -> None:
            found = self._found
            if found is None or self._configured is not None:
                return
            latest = self._write(detection.upgraded(found))
            if latest is not found:
                log.warning("the server is now %s", latest.dialect.name)

        self.hold(call, note)

    # When the server has been upgraded

    def mark_stale(self) -> None:
        """Make the next call detect the server again: a response did not fit the version."""
        # Without the lock, because another thread may hold it while it sends requests.
        self._is_stale = self._configured is None

    @contextmanager
    def watching(self, call: Call | None = None) -> Iterator[None]:
        """Use this around requests that change something on the server and are not repeated.

        After an error that an upgrade may have caused, the next call detects the server again.
        Raises `ConfigurationError` if the caller configured another version than the server's.
        """
        try:
            yield
        except (StatusError, ProtocolError) as exc:
            may_be_another = _may_be_an_upgrade(exc)
            if may_be_another:
                self._check_configured(exc, call or Call(self._api.timeouts))
            if may_be_another or (isinstance(exc, StatusError) and exc.origin == "gateway"):
                self.mark_stale()
            raise

    def repeat_if_upgraded(self, work: Callable[[], T], call: Call | None = None) -> T:
        """Run ``work``, which changes nothing on the server. If that was upgraded, run it again.

        Raises `ConfigurationError` if the caller configured another version than the server's.
        """
        call = call or Call(self._api.timeouts)
        try:
            return self._repeated_if_upgraded(work, call)
        except H2oError as exc:
            raise without_frames(exc)  # noqa: B904 - it is the same error

    def _repeated_if_upgraded(self, work: Callable[[], T], call: Call) -> T:
        before = self._found
        try:
            return work()
        except (StatusError, ProtocolError) as exc:
            if not _may_be_an_upgrade(exc):
                raise
            self._check_configured(exc, call)
            if not self.is_upgraded_since(before, call):
                raise
        return work()

    def is_upgraded_since(self, before: Found | None, call: Call) -> bool:
        """Detect the server again, and return whether its dialect differs from ``before``."""
        if before is None or self._configured is not None:
            return False
        if self._found is before:
            self.mark_stale()
        try:
            return not detection.is_same(self.detect(call), before)
        except H2oError:
            return False

    def _check_configured(self, exc: H2oError, call: Call) -> None:
        configured = self._configured
        if configured is None:
            return
        try:
            found = self._request(call)
        except H2oError:
            return
        is_other = not found.dialect.is_of_era(configured.dialect)
        if is_other and not detection.is_same(found, configured):
            claimed = configured.version or "latest"
            raise ConfigurationError(
                f"{self._api.transport.base_url} is {found.dialect.name}, not {claimed}",
                hint=Hint("Leave out {server_version} to have the version detected."),
                argument="server_version",
            ) from exc

    # While the lock is held

    def _write(self, found: Found) -> Found:
        self._found = found
        return found

    def _replace(self, before: Found, found: Found, call: Call) -> None:
        """Replace ``before`` by ``found``, unless it was replaced meanwhile or the lock is held.

        If it is not replaced, later calls send the same request again.
        """

        def replace() -> None:
            if self._found is before:
                self._write(found)

        self._lock.hold_if_free(call, replace)

    def _detect_locked(self, call: Call) -> Found:
        if self._found is None:
            self._is_stale = False
            return self._write(self._configured or self._request(call))
        if not self._is_stale:
            return self._found
        self._is_stale = False  # before the requests: if it is set meanwhile, the next call acts
        try:
            return self._write(self._detect_again(self._found, call))
        except BaseException:
            self._is_stale = True
            raise

    def _detect_again(self, before: Found, call: Call) -> Found:
        try:
            found = self._request(call)
        except (StatusError, ProtocolError, ConfigurationError) as exc:
            log.info("cannot detect the server again: %s", exc)
            return before
        if detection.is_same(found, before):
            # It may be another version of the same dialect.
            return found if before.dialect.versions_differ else before
        log.warning("the server is now %s", found.dialect.name)
        self.upgrades += 1
        return found

    # The requests

    def _request(self, call: Call) -> Found:
        request = detection.first_request()
        first = self._api.transport.request(request, call, enough=detection.is_enough)
        with self._api.decoding(call):
            found = detection.by_models(first.whole())
        if found is None:
            found = self._request_page(first, call)
        log.info("%s is %s: %s", self._api.transport.base_url, found.dialect.name, found.why)
        return found

    def _request_page(self, first: Response, call: Call) -> Found:
        request = pages.root_request()
        response = self._api.transport.request(request, call)
        try:
            self._api.raise_for_status(response)
        except NotFoundError as exc:
            is_page = exc.body.lstrip()[:1] in ("", "<")
            said = "" if is_page else f" {exc.body[:80]!r}"
            raise self._no_chat_ui(f"{exc.status}{said}") from None
        body = response.whole()
        kind = response.headers.get("content-type", "").partition(";")[0]
        page = Endpoint(request, partial(detection.by_page, first.whole(), first.status, kind))
        try:
            return self._api.parse(page, body, call)
        except ProtocolError as exc:
            if isinstance(exc.__cause__, EndlessError):
                raise
            # A server that could not list its models is still a chat-ui.
            if first.status >= 500 and pages.is_empty(body):
                raise ServerError(
                    first.status, NO_MODELS, url=first.url, hint=MODEL_WAS_DOWN
                ) from None
            if first.status in (401, 429) or first.status >= 500:
                self._api.raise_for_status(first)
            raise self._no_chat_ui(repr(excerpt(body))) from None

    def _no_chat_ui(self, seen: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._api.transport.base_url} does not look like a chat-ui server: "
            f"{pages.ROOT} returned {seen}",
            hint=Hint(
                "Is the address right, with its port and its path? {check()} finds out. If it is a "
                "chat-ui, pass its version as {server_version}."
            ),
            argument="base_url",
        )

    def _distinguish(self, found: Found, call: Call) -> Found:
        """Send one more request to find out the version, if the responses fit several versions."""
        dialect = found.dialect
        if dialect.has_pages:
            try:
                layout = found.layout or self._api.fetch(pages.layout(), call)
            except (StatusError, ProtocolError) as exc:
                log.info("cannot detect the exact version of %s: %s", dialect.name, exc)
                return found
            return detection.by_layout(found, layout)
        response = self._api.transport.request(resume_probe(), call)
        kind = response.headers.get("content-type", "")
        return detection.by_runs(found, has_runs=detection.shows_runs(response.status, kind))


def _may_be_an_upgrade(exc: BaseException) -> bool:
    """Whether the server may have failed because it expects another dialect."""
    if not isinstance(exc, StatusError) or exc.origin != "server":
        return isinstance(exc, ProtocolError)
    return exc.status in (403, 405, 500) or exc.body.lstrip()[:1] == "<"
