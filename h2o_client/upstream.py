"""The server as one session sees it: settings made once, answers judged, nothing left behind."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar
from urllib.parse import urljoin

import msgspec

from h2o_client.background import Abandoned, begun, completed, wait_until_empty
from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    ModelUnavailableError,
    NotFoundError,
    ProtocolError,
    ServerError,
    UnsupportedError,
)
from h2o_client.generations import v0_3
from h2o_client.generations.v0_3 import Layout, Model, Settings
from h2o_client.litter import CLEAN_UP, Litter
from h2o_client.timeouts import Timeouts
from h2o_client.transport import Call, Response, Transport, Woken
from h2o_client.wire import pagedata
from h2o_client.wire.refusal import login_wall, refusal
from h2o_client.wire.request import Request

T = TypeVar("T")

DEFAULT_URL = "https://gpt-gm.h2o.ai"
DEFAULT_MODEL = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"

_EXCERPT = 80
_LOOK_EVERY = 0.05


class Closing(Protocol):
    """Something under way that the end of the session ends too."""

    def end(self) -> None: ...

    def forget(self) -> None: ...


class Upstream:
    """One session's dealings with its server. Threads may share it."""

    def __init__(
        self,
        transport: Transport,
        *,
        timeouts: Timeouts,
        model: str | None,
        accept_terms: bool,
        share_data: bool,
        web_search: bool,
        known: bool,
        named: bool,
    ) -> None:
        self.transport = transport
        self.timeouts = timeouts
        self._model = model
        self._accept_terms = accept_terms
        self._share_data = share_data
        self._web_search = web_search
        self._known = known
        self._named = named
        self._layout: Layout | None = None
        self._preparing = threading.Lock()
        self.litter = Litter(transport)
        self.live: set[Closing] = set()
        # For sessions that nobody closes: when the last user of this is gone, or at exit.
        weakref.finalize(self, self.litter.sweep)
        _living.add(self)

    def layout(self, call: Call | None = None) -> Layout:
        """What the server offers. The first call asks for it and makes the settings, once."""
        call = call or Call(self.timeouts)
        while not self._preparing.acquire(timeout=_LOOK_EVERY):
            call.check()
        try:
            if self._layout is None:
                self._layout = self._prepared(call)
            return self._layout
        finally:
            self._preparing.release()

    def model(self, asked: str | None, call: Call) -> Model:
        """The model to use: the one asked for, the session's, H2O's, or the server's first."""
        layout = self.layout(call)
        name = asked or self._default_model(layout)
        offered = {model.id: model for model in layout.models}
        return offered.get(name) or Model(id=name, name=name)

    def create(self, model: str, call: Call) -> str:
        """A new conversation's id. It is deleted even if the caller is interrupted meanwhile."""
        # A call of its own: one that was woken would not tell which conversation was made.
        creation = Call(call.timeouts, clock=call.clock)
        with call.alarm() as alarm:
            try:
                return completed(
                    lambda: self._create(model, creation),
                    undo=self.litter.discard,
                    pending=self.litter.ending,
                    alarm=alarm,
                )
            except Abandoned:
                raise Woken from None

    def close(self) -> None:
        """Ends what is under way, deletes what is ours, closes the connections. Never raises."""
        end = time.monotonic() + CLEAN_UP
        closing: set[object] = set()
        for exchange in list(self.live):
            begun(exchange.end, pending=closing)
        wait_until_empty(closing, CLEAN_UP)
        self.litter.discard_all(max(0.5, end - time.monotonic()))
        self.litter.forget()  # what could not be deleted now will not be tried again
        self.transport.close()

    def forget(self) -> None:
        """This is a forked child: what is under way and what is to be deleted is the parent's."""
        self._preparing = threading.Lock()
        for exchange in self.live:
            exchange.forget()
        self.live = set()
        self.litter.forget()

    def delete(self, conversation_id: str) -> None:
        """Deletes a conversation at the caller's wish: raises what goes wrong."""
        self.ask(v0_3.delete_request(conversation_id))
        self.litter.release(conversation_id)

    def page(self, request: Request, call: Call | None = None) -> Mapping[str, object]:
        """Node 1 of a page's data. Raises the error that a page tells inside its HTTP 200."""
        body = self.ask(request, call)
        return self._understood(request, body, lambda: self._node(pagedata.read(body), 1, request))

    def ask(self, request: Request, call: Call | None = None) -> bytes:
        """The body of a success. Raises `StatusError`, `TransportError`, `ProtocolError`."""
        response = self.transport.ask(request, call or Call(self.timeouts))
        self._judge(response)
        return response.whole()

    def open(self, request: Request, call: Call) -> Response:
        """The answer to a message, unread. Raises as `ask`."""
        response = self.transport.open(request, call)
        try:
            self._judge(response, passes_model_on=True)
        except BaseException:
            response.close()
            raise
        return response

    def _judge(self, response: Response, *, passes_model_on: bool = False) -> None:
        if 300 <= response.status < 400:
            location = response.headers.get("location", "")
            self._check_moved(urljoin(response.url, location))
            raise login_wall(response.status, location, url=response.url)
        if response.status >= 400:
            raise refusal(
                response.status,
                response.headers,
                response.whole(),
                url=response.url,
                passes_model_on=passes_model_on,
            )

    def _prepared(self, call: Call) -> Layout:
        try:
            layout = self._read_layout(call)
            self._make_settings(layout, call)
        except H2oError as exc:
            if self._named:
                raise
            raise _nobody_named() from exc
        return layout

    def _check_moved(self, location: str) -> None:
        path = v0_3.layout_request().path
        if location.endswith(path):
            raise ConfigurationError(
                f"The server at {self.transport.base_url} says that it is at another address: "
                f"use {location.removesuffix(path)}."
            )

    def _read_layout(self, call: Call) -> Layout:
        request = v0_3.layout_request()
        try:
            body = self.ask(request, call)
            nodes = pagedata.read(body)
            layout = self._node(nodes, 0, request)
        except NotFoundError as exc:
            raise self._no_chat_ui(f"{exc.status} {exc.body[:_EXCERPT]!r}") from None
        except ValueError as exc:
            if isinstance(exc, ConfigurationError):
                raise
            raise self._no_chat_ui(repr(_excerpt(body))) from None
        if not self._known and not v0_3.is_spoken_in(layout):
            raise UnsupportedError(
                "Talking to this server",
                "this version of h2o-chat",
                f"It speaks {v0_3.NAME}; the server at {self.transport.base_url} is a later one.",
            )
        return v0_3.read_layout(layout)

    def _no_chat_ui(self, seen: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.transport.base_url} does not look like a chat-ui server: "
            f"{v0_3.layout_request().path} gave {seen}."
        )

    def _make_settings(self, layout: Layout, call: Call) -> None:
        wanted = self._wanted_settings(layout)
        if wanted is None:
            return
        request = v0_3.settings_request(wanted)
        response = self.transport.ask(request, call)
        if 300 <= response.status < 400:
            self._check_redirect(response, response.headers.get("location", ""))
            return
        self._judge(response)
        document = _plain(response.whole())
        if document.get("type") == "redirect":
            self._check_redirect(response, str(document.get("location", "")))
        elif document.get("type") in ("error", "failure"):
            raise ServerError(response.status, f"the settings were refused: {document}")

    def _wanted_settings(self, layout: Layout) -> Settings | None:
        """What to post, if anything: it replaces the whole document."""
        stored = layout.settings
        if not self.transport.cookies.given:
            return Settings(
                accepted=self._accept_terms,
                shares_data=self._share_data,
                active_model=_offered(self._default_model(layout), layout),
                web_search=self._web_search,
                custom_prompts=stored.custom_prompts,
            )
        # A session that somebody uses in a browser too: everything else stays as it was.
        accepted = stored.accepted or self._accept_terms
        if accepted == stored.accepted and self._share_data == stored.shares_data:
            return None
        return msgspec.structs.replace(
            stored,
            accepted=accepted,
            shares_data=self._share_data,
            active_model=_offered(stored.active_model, layout),
        )

    def _check_redirect(self, response: Response, location: str) -> None:
        """A form's success is a redirect to where it came from; any other is a login wall."""
        place = urljoin(response.referer, location).rstrip("/")
        home = (response.referer, self.transport.base_url, self.transport.referer)
        if place not in [each.rstrip("/") for each in home]:
            raise login_wall(response.status, location, url=response.url)

    def _default_model(self, layout: Layout) -> str:
        if self._model:
            return self._model
        if self.transport.base_url == DEFAULT_URL:
            return DEFAULT_MODEL
        if not layout.models:
            raise ConfigurationError(
                "The server lists no models: name one with H2oSession(..., model=...)."
            )
        return layout.models[0].id

    def _create(self, model: str, call: Call) -> str:
        request = v0_3.create_request(model)
        try:
            body = self.ask(request, call)
        except ServerError as exc:
            offered = [each.id for each in self.layout().models]
            if model in offered:
                raise
            # These versions answer an unknown model with a bare 500.
            said = f"{exc.said} (the model {model!r} is not served here: {', '.join(offered)} are)"
            raise ModelUnavailableError(exc.status, said, url=exc.url, body=exc.body) from exc
        conversation_id = self._understood(request, body, lambda: v0_3.read_created(body))
        self.litter.add(conversation_id)
        return conversation_id

    def _node(
        self, nodes: list[pagedata.Node] | pagedata.Redirected, index: int, request: Request
    ) -> Mapping[str, object]:
        url = self.transport.base_url + request.path
        if isinstance(nodes, pagedata.Redirected):
            raise login_wall(nodes.status, nodes.location, url=url)
        node = v0_3.node(nodes, index)
        if isinstance(node, pagedata.Failed):
            if node.status == 403:
                # Another session's conversation: no login helps.
                raise NotFoundError(node.status, node.message, url=url)
            body = msgspec.json.encode({"message": node.message})
            raise refusal(node.status, {}, body, url=url)
        return node

    def _understood(self, request: Request, body: bytes, read: Callable[[], T]) -> T:
        document = _plain(body)
        if document.get("type") == "redirect":
            raise login_wall(
                302,
                str(document.get("location", "")),
                url=self.transport.base_url + request.path,
            )
        try:
            return read()
        except ValueError as exc:
            raise ProtocolError(f"the answer to {request}", _excerpt(body)) from exc


# For forked children.
_living: weakref.WeakSet[Upstream] = weakref.WeakSet()


def _forget_all() -> None:
    for upstream in list(_living):
        upstream.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _offered(model: str, layout: Layout) -> str:
    """The model for the settings, which refuse one that is not served."""
    offered = [each.id for each in layout.models]
    return model if model in offered or not offered else offered[0]


def _nobody_named() -> ConfigurationError:
    return ConfigurationError(
        f"No server was named, and the default, {DEFAULT_URL}, has not spoken this protocol since "
        'October 2023. Name yours: H2oSession("http://localhost:3000"), or set H2O_CLIENT_URL. '
        "For one of your own: python -m h2o_client.server."
    )


def _plain(body: bytes) -> dict[str, object]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _excerpt(body: bytes) -> str:
    return body[:_EXCERPT].decode("utf-8", "replace")
