"""The server as one session sees it: settings made once, answers judged, nothing left behind."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import msgspec

from h2o_client.background import completed
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
from h2o_client.litter import Litter
from h2o_client.timeouts import Timeouts
from h2o_client.transport import Call, Response, Transport
from h2o_client.wire import pagedata
from h2o_client.wire.refusal import login_wall, refusal
from h2o_client.wire.request import Request

T = TypeVar("T")

DEFAULT_URL = "https://gpt-gm.h2o.ai"
DEFAULT_MODEL = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"

_EXCERPT = 80


class Closing(Protocol):
    """Something under way that the end of the session ends too."""

    def end(self) -> None: ...


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
        named: bool,
    ) -> None:
        self.transport = transport
        self.timeouts = timeouts
        self._model = model
        self._accept_terms = accept_terms
        self._share_data = share_data
        self._web_search = web_search
        self._named = named
        self._layout: Layout | None = None
        self._preparing = threading.Lock()
        self.litter = Litter(transport)
        self.live: set[Closing] = set()
        # For sessions that nobody closes: when the last user of this is gone, or at exit.
        weakref.finalize(self, self.litter.sweep)

    def layout(self) -> Layout:
        """What the server offers. The first call asks for it and makes the settings, once."""
        with self._preparing:
            if self._layout is None:
                try:
                    layout = self._read_layout()
                    self._make_settings(layout)
                except H2oError as exc:
                    if self._named:
                        raise
                    raise _nobody_named() from exc
                self._layout = layout
            return self._layout

    def model(self, asked: str | None) -> Model:
        """The model to use: the one asked for, the session's, H2O's, or the server's first."""
        offered = {model.id: model for model in self.layout().models}
        name = asked or self._default_model(self.layout())
        return offered.get(name) or Model(id=name, name=name)

    def create(self, model: str) -> str:
        """A new conversation's id. It is deleted even if the caller is interrupted meanwhile."""
        return completed(
            lambda: self._create(model), undo=self.litter.discard, pending=self.litter.ending
        )

    def close(self) -> None:
        """Ends what is under way, deletes what is ours, closes the connections. Never raises."""
        for exchange in list(self.live):
            exchange.end()
        self.litter.discard_all()
        self.transport.close()

    def delete(self, conversation_id: str) -> None:
        """Deletes a conversation at the caller's wish: raises what goes wrong."""
        self.ask(v0_3.delete_request(conversation_id))
        self.litter.release(conversation_id)

    def page(self, request: Request) -> Mapping[str, object]:
        """Node 1 of a page's data. Raises the error that a page tells inside its HTTP 200."""
        body = self.ask(request)
        return self._understood(request, body, lambda: self._node(pagedata.read(body), 1, request))

    def ask(self, request: Request, *, call: Call | None = None) -> bytes:
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
            raise login_wall(
                response.status, response.headers.get("location", ""), url=response.url
            )
        if response.status >= 400:
            raise refusal(
                response.status,
                response.headers,
                response.whole(),
                url=response.url,
                passes_model_on=passes_model_on,
            )

    def _read_layout(self) -> Layout:
        request = v0_3.layout_request()
        body = self.ask(request)
        try:
            nodes = pagedata.read(body)
            layout = self._node(nodes, 0, request)
        except ValueError:
            raise ConfigurationError(
                f"{self.transport.base_url} does not look like a chat-ui server: "
                f"{request.path} gave {_excerpt(body)!r}."
            ) from None
        if not v0_3.is_spoken_in(layout):
            raise UnsupportedError(
                "Talking to this server",
                "this version of h2o-chat",
                f"It speaks {v0_3.NAME}; the server at {self.transport.base_url} is a later one.",
            )
        return v0_3.read_layout(layout)

    def _make_settings(self, layout: Layout) -> None:
        wanted = self._wanted_settings(layout)
        if wanted is None:
            return
        request = v0_3.settings_request(wanted)
        response = self.transport.ask(request, Call(self.timeouts))
        if 300 <= response.status < 400:
            self._check_redirect(response.status, response.headers.get("location", ""))
            return
        self._judge(response)
        document = _plain(response.whole())
        if document.get("type") == "redirect":
            self._check_redirect(response.status, str(document.get("location", "")))
        elif document.get("type") in ("error", "failure"):
            raise ServerError(response.status, f"the settings were refused: {document}")

    def _wanted_settings(self, layout: Layout) -> Settings | None:
        """What to post, if anything: it replaces the whole document."""
        stored = layout.settings
        if not self.transport.cookies.given:
            return Settings(
                accepted=self._accept_terms,
                shares_data=self._share_data,
                active_model=self._default_model(layout),
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
            active_model=stored.active_model or self._default_model(layout),
        )

    def _check_redirect(self, status: int, location: str) -> None:
        """A form's success is a redirect to where it came from; any other is a login wall."""
        home = (self.transport.referer, self.transport.base_url)
        if location.rstrip("/") not in [place.rstrip("/") for place in home]:
            raise login_wall(status, location, url=self.transport.base_url)

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

    def _create(self, model: str) -> str:
        request = v0_3.create_request(model)
        try:
            body = self.ask(request)
        except ServerError as exc:
            offered = [each.id for each in self.layout().models]
            if model in offered:
                raise
            # These versions answer an unknown model with a bare 500.
            said = f"the model {model!r} is not served here; these are: {', '.join(offered)}"
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
                int(str(document.get("status") or 302)),
                str(document.get("location", "")),
                url=self.transport.base_url + request.path,
            )
        try:
            return read()
        except ValueError as exc:
            raise ProtocolError(f"the answer to {request}", _excerpt(body)) from exc


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
