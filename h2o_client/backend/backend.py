"""The server as one session sees it: found once, settings made once, nothing left behind."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from h2o_client.backend.api_client import ApiClient, excerpt
from h2o_client.backend.background import run_detached, run_in_background, wait_until_empty
from h2o_client.backend.background_reader import BackgroundReader, BackgroundResponse
from h2o_client.backend.cleanup import CLEAN_UP, Cleanup
from h2o_client.backend.creation import Creations
from h2o_client.dialects import detection, pages
from h2o_client.dialects.conversation_requests import delete_request
from h2o_client.dialects.detection import Found
from h2o_client.dialects.dialect import Dialect
from h2o_client.dialects.documents import Created, Layout, Model, Settings, Stored, User
from h2o_client.dialects.endpoint import Endpoint
from h2o_client.dialects.run_requests import resume_probe
from h2o_client.errors import (
    AuthenticationError,
    ConfigurationError,
    H2oError,
    ModelUnavailableError,
    NotFoundError,
    ProtocolError,
    ServerError,
    StatusError,
)
from h2o_client.log import log
from h2o_client.timeouts import Timeouts, monotonic
from h2o_client.transport.call import Call
from h2o_client.transport.locks import CallLock
from h2o_client.transport.response import Response
from h2o_client.transport.transport import Transport
from h2o_client.wire.pagedata import EndlessError
from h2o_client.wire.request import Request, post_json

T = TypeVar("T")

DEFAULT_URL = "https://gpt-gm.h2o.ai"
DEFAULT_MODEL = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"

NO_MODELS = "this chat-ui (v0.9.6 or later) could not load its models when it was started"
MODEL_WAS_DOWN = (
    "Its model server (OPENAI_BASE_URL) was down then: when that answers, who runs the chat-ui has "
    "to start it again."
)


class Closing(Protocol):
    """Something under way that the end of the session ends too."""

    def end(self, *, until: float | None = None) -> None: ...

    def forget(self) -> None: ...


class Unsettled(msgspec.Struct, frozen=True):
    """What the next message in a conversation has to wait for.

    ``answer_id`` is None where the server chooses it: the last one is meant, not ``former``.
    ``left``: the model may be at work on it still. ``response`` is read in the background, where
    only its end tells that the server is done.
    """

    answer_id: str | None
    seconds: float
    marked_until: float = 0.0
    former: str | None = None
    left: bool = False
    response: BackgroundResponse | None = None


class Backend:
    """One session's dealings with its server. Threads may share it."""

    def __init__(
        self,
        transport: Transport,
        *,
        timeouts: Timeouts,
        model: str | None,
        accept_terms: bool,
        share_data: bool | None,
        web_search: bool,
        server_version: str | None,
        named: bool,
    ) -> None:
        self.transport = transport
        self.timeouts = timeouts
        self.api: ApiClient = ApiClient(transport, timeouts)
        self.web_search = web_search
        self.server_samples = True  # whether the server's own sampling counts before the ancestor's
        self.warned = False  # that sampling parameters have no effect here
        self._model = model
        self._accept_terms = accept_terms
        self._share_data = share_data
        self._told = None if server_version is None else detection.by_version(server_version)
        self._named = named
        self._lock = CallLock()  # of the four that follow, and of the requests that lead to them
        self._found: Found | None = None
        self._in_doubt = False  # the server has spoken as another would
        self._ready = False  # the settings are made
        self._has_settings = False  # of this session's making: not to be made anew
        self.cleanup: Cleanup = Cleanup(transport)
        self.live: set[Closing] = set()
        # Until when, by conversation, a stop that came late may end the next answer.
        self.marks: dict[str, float] = {}
        self.unsettled: dict[str, Unsettled] = {}  # by conversation
        self.reader: BackgroundReader = BackgroundReader()
        self.creations: Creations = Creations(self.cleanup, transport.base_url)
        # For sessions that nobody closes: when the last user of this is gone, or at exit.
        weakref.finalize(self, _left, self.reader, self.creations, self.cleanup)
        _living.add(self)

    def prepared(self, call: Call | None = None) -> Dialect:
        """The server's dialect. The first call finds it out and makes the settings, once."""
        call = call or Call(self.timeouts)
        return self._alone(call, lambda: self._prepared(call)).dialect

    def found(self, call: Call | None = None) -> Found:
        """What the server was found to be, without the settings; asks once more to be sure."""
        call = call or Call(self.timeouts)

        def found() -> Found:
            found = self._now(call)
            # Since it was found a server of v0.9.6 to v0.10.0 may have become a newer one.
            may_be_newer = detection.may_have_runs(found.dialect) and not found.dialect.keeps_runs
            if not found.settled or (may_be_newer and self._told is None):
                self._found = found = self._told_apart(found, call)
            return found

        return self._alone(call, found)

    def exact(self, call: Call | None = None) -> Dialect:
        """As `prepared`, with the version told where pages tell it and the answers before did not.

        It is not, where the page is refused.
        """
        dialect = self.prepared(call)
        return self.found(call).dialect if dialect.has_pages else dialect

    def seen(self, call: Call | None = None) -> Found:
        """What the server was found to be, without the settings, and as far as needed to talk."""
        call = call or Call(self.timeouts)
        return self._alone(call, lambda: self._now(call))

    def heard(self, dialect: Dialect, content_type: str, call: Call) -> Dialect:
        """A message was answered with that type, which tells the version of some dialects."""
        told = detection.by_answer(dialect, content_type)
        if told is dialect or self._told is not None:
            return dialect

        def learn() -> None:
            found = self._found
            if found is not None and found.dialect.is_of_era(told):
                self._found = msgspec.structs.replace(
                    found, dialect=told, version=told.span, settled=True
                )

        self._lock.hold_if_free(call, learn)
        return told

    def doubt(self) -> None:
        """Have the next call find out again what the server is: it has spoken as another would."""
        # Without the lock, which can be held for long: it is a mark for who takes it next.
        self._in_doubt = self._told is None

    def mark(self, conversation_id: str, until: float) -> None:
        """A stop that came late may end the next answer in a conversation, ``until`` then."""
        now = monotonic()
        for marked, its_end in list(self.marks.items()):
            if its_end < now:
                self.marks.pop(marked, None)
        self.marks[conversation_id] = until

    @contextmanager
    def doubting(self, call: Call | None = None) -> Iterator[None]:
        """Around what changes something on the server, and is not done again.

        What fails in it may come of an upgrade: the next call finds out. Raises
        `ConfigurationError` if the server is another than the caller says.
        """
        try:
            yield
        except (StatusError, ProtocolError) as exc:
            if _is_foreign(exc):
                self._check_told(exc, call or Call(self.timeouts))
            if _is_foreign(exc) or (isinstance(exc, StatusError) and exc.origin == "gateway"):
                self.doubt()
            raise

    def steady(self, work: Callable[[], T], call: Call | None = None) -> T:
        """What ``work`` gives, which changes nothing on the server; done again if that is another.

        So a session lives through an upgrade of its server.
        """
        call = call or Call(self.timeouts)
        before = self._found
        try:
            return work()
        except (StatusError, ProtocolError) as exc:
            if not _is_foreign(exc):
                raise
            self._check_told(exc, call)
            if not self._is_another(before, call):
                raise
        return work()

    def _check_told(self, exc: H2oError, call: Call) -> None:
        """Raises `ConfigurationError` if another server answers than the caller says it is."""
        told = self._told
        if told is None:
            return
        try:
            found = self._find(call)
        except H2oError:
            return
        if not detection.is_same(found, told) and not found.dialect.is_of_era(told.dialect):
            raise ConfigurationError(
                f"{told.why} was said, but {self.transport.base_url} is "
                f"{found.dialect.name}. Leave server_version= out: it is then found out."
            ) from exc

    def models(self, call: Call | None = None) -> tuple[Model, ...]:
        """The models on offer, the server's first choice first. Needs no settings and no login."""
        found = self.seen(call)
        if found.dialect.has_pages and found.layout is None:
            # /api/models leaves their parameters out.
            before, call = found, call or Call(self.timeouts)
            found = detection.by_layout(found, self.api.fetch(pages.layout(), call))
            self._learn(before, found, call)
        return found.layout.models if found.layout is not None else self._models(call)

    def user(self, call: Call | None = None) -> User | None:
        """Who is logged in. Needs no settings and no login."""
        return self.api.fetch(self.seen(call).dialect.user(), call)

    def is_shut_out(self, call: Call | None = None) -> bool:
        """Whether the server wants a login that this session has not.

        It may show a guest, or whose cookie has expired, lists that are empty.
        """
        needed = self.api.fetch(self.seen(call).dialect.needs_login(), call)
        return needed and self.user(call) is None

    def check_login(self, call: Call | None = None) -> None:
        """Raises `AuthenticationError` if the server wants a login that this session has not."""
        if self.is_shut_out(call):
            raise self._no_login()

    def model(self, asked: str | None, call: Call) -> Model:
        """The model to use: the one asked for, the session's, H2O's, or the server's first."""
        dialect = self.prepared(call)
        named = asked or self._model
        if named and not dialect.samples:
            return Model(id=named, name=named)  # what is offered would tell nothing more
        name = named or self._default_model(call)
        offered = {model.id: model for model in self._models(call)}
        return offered.get(name) or Model(id=name, name=name)

    def settings(self, call: Call | None = None) -> Settings:
        """The settings as the server has them now."""
        ask = self.prepared(call).settings()
        if self.transport.cookies.given:
            self.check_login(call)  # a guest's would be the defaults
        return self.api.fetch(ask, call)

    def change_settings(
        self, change: Callable[[Settings], Settings], call: Call | None = None
    ) -> None:
        """Posts the whole document, as ``change`` makes it of what is stored."""
        call = call or Call(self.timeouts)
        dialect = self.prepared(call)
        if dialect.has_pages:
            layout = self.api.fetch(pages.layout(), call)
            if layout.needs_login:
                raise self._no_login()
            stored = _to_send_back(layout)
        else:
            stored = self.settings(call)
        changed = change(stored)
        dialect.check_settings(stored, changed)
        self._post_settings(dialect, changed, call)

    def create(self, model: str, preprompt: str | None, call: Call) -> Created:
        """A new conversation. It is deleted even if the caller is interrupted meanwhile."""
        return self.creations.make(partial(self._create, model, preprompt), call)

    def conversation(self, conversation_id: str, call: Call | None = None) -> Stored:
        """A conversation as it is stored."""
        call = call or Call(self.timeouts)
        best, *others = self.prepared(call).conversation(conversation_id)
        before = self._found
        try:
            stored = self.api.fetch(best, call)
        except (ServerError, ProtocolError) as exc:
            # v0.9.6 and later take the messages of v0.9.2, and misunderstand what they lack: only
            # the page, which they do not have, tells that it is not that server any more.
            if isinstance(exc, ProtocolError) and self._is_another(before, call):
                raise
            for ask in others:
                return self.api.fetch(ask, call)
            raise
        except AuthenticationError as exc:
            if exc.status != 403 or "don't have access" not in exc.said:
                raise
            # Another session's conversation: no login helps.
            raise NotFoundError(exc.status, exc.said, url=exc.url, body=exc.body) from None
        if stored.is_latest:
            self._note_latest(call)
        return stored

    def delete(self, conversation_id: str) -> None:
        """Deletes a conversation at the caller's wish: raises what goes wrong."""
        self.prepared()
        self.api.do(delete_request(conversation_id))
        self.cleanup.release(conversation_id)

    def delete_all(self) -> None:
        """Deletes all conversations of the session or user."""
        request = self.exact().delete_all()
        if request.method == "POST":
            self.api.submit(request)
        else:
            self.api.do(request)

    def open(self, request: Request, call: Call, *, passes_model_on: bool) -> Response:
        """The answer to a message, unread."""
        return self.api.open(request, call, passes_model_on=passes_model_on)

    def close(self) -> None:
        """Ends what is under way, deletes what is ours, closes the connections. Never raises."""
        end = monotonic() + CLEAN_UP
        closing: set[object] = set()
        for exchange in list(self.live):
            run_in_background(partial(exchange.end, until=end), pending=closing)
        wait_until_empty(closing, end - monotonic())
        self.creations.close(end - monotonic())
        self.cleanup.discard_all(until=end)
        self.cleanup.forget()  # what could not be deleted now will not be tried again
        self.reader.close(end - monotonic())
        self.transport.close()

    def forget(self) -> None:
        """This is a forked child: what is under way and what is to be deleted is the parent's."""
        self._lock = CallLock()
        for exchange in self.live:
            exchange.forget()
        self.live = set()
        self.unsettled.clear()
        self.reader.forget()
        self.creations.forget()
        self.cleanup.forget()

    def _find(self, call: Call) -> Found:
        request = detection.first_request()
        first = self.transport.ask(request, call, enough=detection.is_enough)
        with self.api.decoding(call):
            found = detection.by_models(first.whole())
        if found is None:
            found = self._find_by_page(first, call)
        log.info("%s is %s: %s", self.transport.base_url, found.dialect.name, found.why)
        return found

    def _find_by_page(self, first: Response, call: Call) -> Found:
        request = pages.root_request()
        response = self.transport.ask(request, call)
        try:
            self.api.judge(response)
        except NotFoundError as exc:
            raise self._no_chat_ui(f"{exc.status} {exc.body[:80]!r}") from None
        body = response.whole()
        kind = response.headers.get("content-type", "").partition(";")[0]
        ask = Endpoint(request, partial(detection.by_page, first.whole(), first.status, kind))
        try:
            return self.api.understood(ask, body, call)
        except ProtocolError as exc:
            if isinstance(exc.__cause__, EndlessError):
                raise
            # A server whose list of models failed just now is none the less a chat-ui.
            if first.status >= 500 and pages.is_empty(body):
                raise ServerError(
                    first.status, NO_MODELS, url=first.url, hint=MODEL_WAS_DOWN
                ) from None
            if first.status in (401, 429) or first.status >= 500:
                self.api.judge(first)
            raise self._no_chat_ui(repr(excerpt(body))) from None

    def _no_chat_ui(self, seen: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.transport.base_url} does not look like a chat-ui server: "
            f"{pages.ROOT} gave {seen}. If it is one, say which: server_version=."
        )

    def _told_apart(self, found: Found, call: Call) -> Found:
        """Between versions that differ and have answered alike so far."""
        dialect = found.dialect
        if dialect.has_pages:
            try:
                layout = found.layout or self.api.fetch(pages.layout(), call)
            except (StatusError, ProtocolError) as exc:
                log.info("which %s it is, is not known: %s", dialect.name, exc)
                return found
            return detection.by_layout(found, layout)
        response = self.transport.ask(resume_probe(), call)
        kind = response.headers.get("content-type", "")
        return detection.by_runs(found, has_runs=detection.has_runs(response.status, kind))

    def _note_latest(self, call: Call) -> None:
        """A server of v0.9.6 to v0.10.0 that writes what only newer ones know has become one."""

        def note() -> None:
            found = self._found
            if found is None or self._told is not None:
                return
            self._found = detection.upgraded(found)
            if self._found is not found:
                log.warning("the server has become %s", self._found.dialect.name)

        self._alone(call, note)

    def _alone(self, call: Call, work: Callable[[], T]) -> T:
        with self.transport.translating(call):
            return self._lock.hold(call, work)

    def _now(self, call: Call) -> Found:
        """What the server is: found out if that is not known, or in doubt. Holds the lock."""
        if self._found is None:
            self._found = self._told or self._find(call)
        elif self._in_doubt:
            self._found = self._found_again(self._found, call)
        self._in_doubt = False  # and not before: whoever fails to find out leaves it to the next
        return self._found

    def _found_again(self, before: Found, call: Call) -> Found:
        try:
            found = self._find(call)
        except (StatusError, ProtocolError, ConfigurationError) as exc:
            log.info("what the server is, is not known for sure: %s", exc)
            return before
        if detection.is_same(found, before):
            # It may be another of its versions.
            return found if before.dialect.versions_differ else before
        log.warning("the server has become %s", found.dialect.name)
        self._ready = False
        return found

    def _is_another(self, before: Found | None, call: Call) -> bool:
        """Whether the server is found to be of another dialect than ``before``."""
        if before is None or self._told is not None:
            return False
        self._in_doubt = self._in_doubt or self._found is before
        try:
            return not detection.is_same(self.seen(call), before)
        except H2oError:
            return False

    def _prepared(self, call: Call) -> Found:
        """As `_now`, with the settings made. Holds the lock."""
        try:
            found = self._now(call)
            if not self._ready:
                found = self._make_settings(found, call)
                self._ready = self._has_settings = True
        except H2oError as exc:
            if self._named:
                raise
            raise _nobody_named() from exc
        return found

    def _learn(self, before: Found, found: Found, call: Call) -> None:
        """More is known of what the server was ``before``, unless that has changed meanwhile."""

        def learn() -> None:
            if self._found is before:
                self._found = found

        self._lock.hold_if_free(call, learn)

    def _models(self, call: Call | None) -> tuple[Model, ...]:
        call = call or Call(self.timeouts)
        found = self.seen(call)
        models = found.models
        if models is None and found.layout is not None:
            models = found.layout.models
        if models is None:
            models = self.api.fetch(found.dialect.models(), call)
        if found.models is None:
            self._learn(found, msgspec.structs.replace(found, models=models), call)
        return models

    def _default_model(self, call: Call | None) -> str:
        if self._model:
            return self._model
        if self.transport.base_url == DEFAULT_URL:
            return DEFAULT_MODEL
        models = self._models(call)
        if not models:
            raise ConfigurationError(
                "The server lists no models: name one with H2oSession(..., model=...)."
            )
        return models[0].id

    def _make_settings(self, found: Found, call: Call) -> Found:
        """Accepts the terms and sees to privacy; nothing else changes for a user's own cookie."""
        dialect = found.dialect
        stored: Settings | None = None
        if self._has_others_settings() or dialect.samples:
            if found.layout is None and dialect.has_pages:
                found = detection.by_layout(found, self.api.fetch(pages.layout(), call))
            if found.layout is not None:
                if found.layout.needs_login:
                    raise self._no_login()
                stored = _to_send_back(found.layout)
            else:
                stored = self.api.fetch(dialect.settings(), call)
        self._found = found
        wanted = self._wanted_settings(dialect, stored, call)
        if wanted is not None:
            self._post_settings(dialect, wanted, call)
        return self._found  # which knows the models now

    def _no_login(self) -> AuthenticationError:
        whose = " with this cookie, which may have expired" * self.transport.cookies.given
        said = f"nobody is logged in{whose}, and it wants a login"
        return AuthenticationError(200, said, url=self.transport.base_url)

    def _has_others_settings(self) -> bool:
        """Whether settings are there that must stay: a browser's, or this session's own."""
        return self.transport.cookies.given or self._has_settings

    def _wanted_settings(
        self, dialect: Dialect, stored: Settings | None, call: Call
    ) -> Settings | None:
        """What to post, if anything: it replaces the whole document."""
        if not self._has_others_settings():
            # A new session's default is to share: None leaves it so.
            shares = self._share_data is not False
            fresh = Settings(accepted=self._accept_terms, shares_data=shares)
            if not dialect.samples:
                return fresh
            assert stored is not None
            return msgspec.structs.replace(
                fresh,
                active_model=self._offered(self._default_model(call), call),
                web_search=self.web_search,
                custom_prompts=stored.custom_prompts,
            )
        # A session that somebody uses in a browser too: everything else stays as it was.
        assert stored is not None
        accepted = stored.accepted or self._accept_terms
        shares = stored.shares_data if self._share_data is None else self._share_data
        if accepted == stored.accepted and shares == stored.shares_data:
            return None
        active_model = stored.active_model
        if dialect.samples:
            active_model = self._offered(active_model, call)
        return msgspec.structs.replace(
            stored, accepted=accepted, shares_data=shares, active_model=active_model
        )

    def _post_settings(self, dialect: Dialect, settings: Settings, call: Call) -> None:
        request = dialect.change_settings(settings)
        if dialect.samples:
            self.api.submit(request, call)
        else:
            self.api.do(request, call)

    def _offered(self, model: str, call: Call | None) -> str:
        """The model for the settings of v0.3 to v0.6, which refuse one that is not served."""
        offered = [each.id for each in self._models(call)]
        return model if model in offered or not offered else offered[0]

    def _create(self, model: str, preprompt: str | None, call: Call) -> Created:
        found = self.seen(call)
        try:
            created = self.api.fetch(found.dialect.create(model, preprompt), call)
        except StatusError as exc:
            if exc.status not in (400, 500) or exc.origin != "server":
                raise
            offered = [each.id for each in self._models(call)]
            if model in offered:
                raise
            # An unknown model is a bare 500, or 400 "Invalid request" since v0.8.
            said = f"{exc.said} (the model {model!r} is not served here: {', '.join(offered)} are)"
            raise ModelUnavailableError(exc.status, said, url=exc.url, body=exc.body) from exc
        self.cleanup.add(created.id)
        learned = detection.by_runs(found, has_runs=created.leaf is not None)
        if self._told is None and learned is not found:
            self._learn(found, learned, call)
        return created


def _left(reader: BackgroundReader, creations: Creations, cleanup: Cleanup) -> None:
    """Cleans up after a session that nobody has closed."""
    if reader.is_reading:
        run_detached(reader.close)
    if creations.are_under_way:
        run_detached(creations.close)
    cleanup.sweep()


# For forked children.
_living: weakref.WeakSet[Backend] = weakref.WeakSet()


def _forget_all() -> None:
    for backend in list(_living):
        backend.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _to_send_back(layout: Layout) -> Settings:
    """The settings of a page. Raises `ProtocolError` if they are larger than the page itself.

    References in page data can stand for more than was received.
    """
    settings = layout.settings
    try:
        written = post_json("", {"": settings.custom_prompts, **settings.others})
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ProtocolError("the settings, which cannot be sent back", type(exc).__name__) from exc
    if len(written.body or b"") > layout.size:
        raise ProtocolError("the settings, which are larger than the page that has them")
    return settings


def _is_foreign(exc: BaseException) -> bool:
    """Whether an error may come of speaking another dialect's language."""
    if not isinstance(exc, StatusError) or exc.origin != "server":
        return isinstance(exc, ProtocolError)
    return exc.status in (403, 405, 500) or exc.body.lstrip()[:1] == "<"


def _nobody_named() -> ConfigurationError:
    return ConfigurationError(
        f"No server was named, and the default, {DEFAULT_URL}, has not spoken this protocol since "
        'October 2023. Name yours: H2oSession("http://localhost:3000"), or set H2O_CLIENT_URL. '
        "For one of your own: python -m h2o_client.server."
    )
