"""The base of all routes of the fake chat-ui.

It has the state, the hook for all requests, and the format of responses and refusals.
``violations`` lists mistakes of a client that real servers punish late or silently.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import fake_documents as documents
from fake_model import COOKIE_LASTS, Answers, Prompt, Says
from fake_store import (
    VERSIONS,
    Conversation,
    Document,
    Message,
    Refusal,
    Run,
    Session,
    new_id,
    now,
)
from local_service import PATIENCE
from scripted import Exchange, ScriptedServer

Login = Literal["", "401", "302", "redirect"]

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
TERMS = "You need to accept the welcome modal first"
HTML = (
    b"<!doctype html>\n<html><head><title>chat-ui</title></head><body data-sveltekit>"
    + b"x" * 22_000
)
IDENTITY = "https://id.example.org/authorize?client_id=chat"


class Hook(Exception):
    """A refusal before any route: without a cookie, and the message is under "error"."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Route:
    """A route for a method and a path, since the version ``first`` and ``before`` another."""

    method: str
    pattern: str
    handler: Callable[..., None]
    first: tuple[int, ...] = ()
    before: tuple[int, ...] = (99,)


class FakeServer(ScriptedServer):
    """A server of the version of that name.

    answer: the model's answer to a prompt, or a list of answers, used in turn. terms, login, api,
    base, origin: the server's configuration; without an ``origin`` ("http") the server expects
    https. rate_limit: messages that a session may send. late: seconds between an answer's end and
    its storage. page_size: of the lists of the API. before: handles a request itself if it returns
    True.
    """

    def __init__(
        self,
        version: str,
        *,
        answer: Answers | Sequence[Says] = (),
        terms: bool = False,
        login: Login = "",
        api: bool = True,
        base: str = "",
        origin: Literal["", "http"] = "",
        rate_limit: int = 0,
        late: float = 0.002,
        page_size: int = 0,
        before: Callable[[Exchange], bool] | None = None,
        tls: ssl.SSLContext | None = None,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(self._serve_one, tls=tls, patience=patience)
        self.version = VERSIONS[version]
        self.terms, self.login, self.api, self.base = terms, login, api, base
        self.origin, self.rate_limit, self.late = origin, rate_limit, late
        self.before = before
        self.page_size = page_size or (30 if self.version.since(0, 9, 6) else 300)
        self.conversations: dict[str, Conversation] = {}
        self.sessions: dict[str, Session] = {}
        self.prompts: list[Prompt] = []  # prompts that the model received
        self.taken: dict[str, int] = {}  # number of messages, by conversation
        self.refused_messages = 0
        self.stops: list[str] = []
        self.late_stops: list[str] = []
        self.shared: list[str] = []  # conversations with a message while their session shared
        self.violations: list[str] = []
        self.resumed: list[str] = []  # the runs whose log was asked for
        self.logs_expire = False  # requested logs have expired
        self.log_length = 0  # updates after which a body of the log just ends
        self.log_seconds = 0.0  # the same by time
        self.unnoticed = 0.05  # seconds until another server notices that a run's server was killed
        self.goes_missing = 0  # how often the server answers that it knows no such run
        self.released = threading.Event()  # releases pausing models
        self.searches_fail = False
        self.titled = threading.Event()  # late titles are sent after this
        self.titled.set()
        self.deaf = False  # a stop is answered with 200 but has no effect (seen on v0.3 to v0.6)
        self._says = answer if callable(answer) else None
        self._turns = [] if callable(answer) else list(answer)

    @property
    def url(self) -> str:
        return super().url + self.base

    def browser(self, *, user: bool = True, accepted: bool = True, **settings: object) -> str:
        """The cookie of a browser whose user has chosen these settings."""
        cookie = str(uuid.uuid4())
        known = {"username": "ada", "name": "Ada", "email": "ada@example.org", "id": "1" * 24}
        session = Session(accepted=accepted, user=known if user else None)
        session.settings = {**documents.settings_of(self.version, session), **settings}
        self.sessions[cookie] = session
        return f"hf-chat={cookie}"

    def settings(self, cookie: str) -> Document:
        """The settings stored for a cookie of `browser`."""
        found = self.sessions[cookie.partition("=")[2]].settings
        assert found is not None
        return found

    def seed(self, cookie: str, title: str, *turns: tuple[str, str]) -> Conversation:
        """Store a conversation of a browser."""
        conversation = self.make(cookie.partition("=")[2], self.version.models[0], "")
        conversation.title = title
        last = conversation.messages[-1] if conversation.messages else None
        for role, content in turns:
            added = Message(role, content)
            last = conversation.add(added, last if self.version.has_tree else None)
            if role == "assistant" and self.version.since(0, 8):
                last.updates = [{"type": "finalAnswer", "text": content, "interrupted": False}]
        return conversation

    def become(self, version: str) -> None:
        """Upgrade the server. Its data is kept."""
        with self.changed:
            before, self.version = self.version, VERSIONS[version]
            for conversation in self.conversations.values():
                if self.version.has_tree and not before.has_tree:
                    conversation.plant()
            for session in self.sessions.values():
                if session.settings is not None:
                    fresh = documents.settings_of(self.version, Session())
                    kept = {key: session.settings.get(key, fresh[key]) for key in fresh}
                    session.settings = kept

    def say(self, prompt: Prompt) -> Says:
        with self.changed:
            self.prompts.append(prompt)
            turn = self._turns.pop(0) if self._turns else None
        if turn is not None:
            return turn
        if self._says is not None:
            return self._says(prompt)
        return Says.words(f"{len(prompt.turns)} turns, the last: {prompt.last}")

    def mark(self, conversation_id: str) -> None:
        """Handle a stop after its client has given it up, like a busy server."""
        conversation = self.conversations[conversation_id]
        conversation.marked, conversation.marked_late = time.monotonic(), True

    def fresh_session(self) -> str:
        return str(uuid.uuid4())

    def fresh_id(self) -> str:
        return new_id()

    # For streams

    def exists(self, conversation: Conversation) -> bool:
        with self.changed:
            return conversation.id in self.conversations

    def save(self, conversation: Conversation, run: Run) -> None:
        with self.changed:
            conversation.updated = now()
            run.pending, run.answer.content = False, run.content
            run.answer.updates, run.answer.interrupted = run.updates, run.interrupted
            if not self.version.has_tree:
                # The last answer to end overwrites messages stored by others.
                history = [each for each in run.history if each.role != "system"]
                conversation.messages = [*history, run.user]
                if run.kept:
                    conversation.messages.append(run.answer)
            self.changed.notify_all()

    def save_later(self, conversation: Conversation, run: Run) -> None:
        self.spawn(self._save_later, conversation, run)

    def _save_later(self, conversation: Conversation, run: Run) -> None:
        if not self.stopping.wait(self.late):
            self.save(conversation, run)

    def violate(self, what: str) -> None:
        with self.changed:
            self.violations.append(what)

    @property
    def stored(self) -> bool:
        """Whether all answers have ended and are stored."""
        with self.changed:
            runs = [each.run for each in self.conversations.values() if each.run is not None]
            return bool(runs) and not any(run.pending for run in runs)

    # Requests

    def _serve_one(self, exchange: Exchange) -> None:
        if self.before is not None and self.before(exchange):
            return
        request = exchange.request
        if request.headers.get("accept", "") in ("", "text/event-stream", "text/html"):
            self.violate(f"{request} does not ask for JSON")
        value = request.cookies.get("hf-chat") or self.fresh_session()
        try:
            if self._walled(exchange, value):
                return
            self._check(exchange, value)
            self._route(exchange, value)
        except Hook as hook:
            kind = request.headers.get("content-type", "")
            if "application/json" in kind + request.headers.get("accept", ""):
                body = json.dumps({"error": hook.message}).encode()
                self.reply(exchange, value, body, status=hook.status, hook=True)
            else:
                body = hook.message.encode()
                self.reply(exchange, value, body, "text/plain", status=hook.status, hook=True)
        except Refusal as refusal:
            self.reply(exchange, value, self.refused(refusal), status=refusal.status)

    def refused(self, refusal: Refusal) -> bytes:
        if refusal.message is not None:
            return json.dumps({"message": refusal.message}, separators=(",", ":")).encode()
        if self.version.before(0, 8):
            return b'{"message":"Internal Error"}'
        error = {"message": "An error occurred", "errorId": str(uuid.uuid4())}
        return json.dumps(error).encode()

    def reply(
        self,
        exchange: Exchange,
        session: str,
        body: bytes = b"",
        kind: str = "application/json",
        *,
        status: int = 200,
        hook: bool = False,
        headers: Document | None = None,
    ) -> None:
        given = dict(headers or {})
        if not hook and (self.version.before(0, 7) or exchange.request.method == "POST"):
            given["Set-Cookie"] = self.cookie(session)
        exchange.answer(status, body, kind, given)

    def cookie(self, session: str) -> str:
        with self.changed:
            self.sessions.setdefault(session, Session())
        return f"hf-chat={session}; {COOKIE_LASTS}"

    def _walled(self, exchange: Exchange, value: str) -> bool:
        request = exchange.request
        user = self.sessions.get(value, Session()).user
        if not self.login or user is not None:
            return False
        path = request.path.removeprefix(self.base)
        if self.login == "401" or request.method in ("DELETE", "PATCH"):
            opened = self.version.opens_settings and path.startswith("/settings")
            if request.method != "GET" and not opened:
                raise Hook(401, "You have to be logged in.")
            return False
        if path.startswith("/api/"):
            return False
        if self.login == "302":
            exchange.answer(302, b"", headers={"Location": IDENTITY})
        else:
            exchange.json({"type": "redirect", "status": 302, "location": IDENTITY})
        return True

    def _check(self, exchange: Exchange, value: str) -> None:
        """The hook for all requests."""
        request, version = exchange.request, self.version
        path = request.path.removeprefix(self.base)
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if request.method == "POST" and kind in FORMS:
            word = "origin" if version.wants_origin else "referer"
            given = request.headers.get(word)
            if given is None:
                raise Hook(
                    403, f"Non-JSON form requests need to have a{'n' * (word == 'origin')} {word}"
                )
            scheme = "http" if self.origin or version.wants_origin else "https"
            found = urlsplit(given)
            schemes = ("http", "https") if version.wants_origin else (scheme,)
            if found.netloc != f"127.0.0.1:{self.port}" or found.scheme not in schemes:
                raise Hook(403, "Invalid referer for POST request")
        if path.startswith("/api/") and version.within((0, 8), (0, 9, 6)) and not self.api:
            raise Hook(403, "API is disabled")
        changes = request.method not in ("GET", "HEAD", "OPTIONS")
        matters = self.terms and version.enforces_terms and not path.startswith("/settings")
        if matters and changes and not self.sessions.get(value, Session()).accepted:
            raise Hook(405, TERMS)

    routes: tuple[Route, ...] = ()

    def _route(self, exchange: Exchange, value: str) -> None:
        request = exchange.request
        path = request.path.removeprefix(self.base)
        allowed = []
        for route in self.routes if request.path.startswith(self.base + "/") else ():
            found = re.fullmatch(route.pattern, path)
            if found is None or not self.version.within(route.first, route.before):
                continue
            if route.method == request.method:
                route.handler(self, exchange, value, *found.groups())
                return
            allowed.append(route.method)
        if allowed:
            said = f"{request.method} method not allowed".encode()
            allow = {"Allow": ", ".join(allowed)}
            self.reply(exchange, value, said, "text/plain", status=405, headers=allow)
        else:
            self._nothing(exchange, value)

    def _nothing(self, exchange: Exchange, value: str) -> None:
        status = 200 if self.version.within((0, 9, 2), (0, 9, 6)) else 404
        self.reply(exchange, value, HTML, "text/html", status=status)

    # Shared by routes

    def body(self, exchange: Exchange) -> Any:
        """The JSON of a request."""
        kind = exchange.request.headers.get("content-type", "").partition(";")[0]
        if kind != "application/json":
            raise Refusal(500)
        try:
            return exchange.request.json()
        except ValueError:
            raise Refusal(500) from None

    def mine(self, value: str) -> list[Conversation]:
        """The conversations, latest first."""
        found = [each for each in self.conversations.values() if each.owner == value]
        return sorted(found, key=lambda each: each.updated, reverse=True)

    def find(self, value: str, conversation_id: str) -> Conversation:
        if len(conversation_id) not in (12, 24):
            raise Refusal(500)
        with self.changed:
            found = self.conversations.get(conversation_id)
        if found is None or found.owner != value:
            raise Refusal(404, "Conversation not found")
        return found

    def make(self, owner: str, model: str, preprompt: str) -> Conversation:
        with self.changed:
            title = f"Untitled {len(self.mine(owner)) + 1}"
            title = title if self.version.before(0, 7) else "New Chat"
            conversation = Conversation(self.fresh_id(), owner, model, preprompt, title)
            if self.version.has_tree:
                conversation.root = conversation.add(Message("system", preprompt), None).id
            self.conversations[conversation.id] = conversation
            self.changed.notify_all()
            return conversation

    def layout(self, value: str) -> tuple[Document, object]:
        with self.changed:
            session = self.sessions.get(value, Session())
            mine = self.mine(value)
            node = documents.layout(self.version, session, mine, login=bool(self.login))
            if self.version.before(0, 9, 2):
                return node, None
            return node, [documents.entry(self.version, each) for each in mine]
