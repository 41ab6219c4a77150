"""Clients of the bundled server with raw HTTP, and engines controlled by a test."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import requests

from h2o_client.server import Turn
from h2o_client.server.scripted import SCRIPTED
from h2o_client.wire import pagedata, superjson
from h2o_client.wire.events import Final, Token
from h2o_client.wire.pagedata import Data
from local_service import PATIENCE

INTERNAL_ERROR = '{"message":"Internal Error"}'


NOT_FOUND = '{"message":"Conversation not found"}'


UNKNOWN = "0123456789abcdef01234567"


def echo(
    turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
) -> Iterator[Token | Final]:
    """Repeat the prompt, one token per word."""
    for word in re.findall(r"\S+\s*", turns[-1].content):
        yield Token(word)
    yield Final()


class Visitor:
    """A client with its own cookie. requests sends no Secure cookie over http by itself."""

    def __init__(self, url: str, session: str | None = None, *, model: str = SCRIPTED) -> None:
        self.url = url
        self.model = model
        self.session = session or str(uuid.uuid4())

    def send(self, method: str, path: str, **given: Any) -> requests.Response:
        headers = {"Cookie": f"hf-chat={self.session}", **given.pop("headers", {})}
        return requests.request(
            method,
            self.url + path,
            headers=headers,
            allow_redirects=False,
            timeout=PATIENCE,
            **given,
        )

    def create(self) -> str:
        answer = self.send("POST", "/conversation", json={"model": self.model})
        return str(answer.json()["conversationId"])

    def ask(self, conversation_id: str, inputs: str, **given: Any) -> requests.Response:
        options = {"id": str(uuid.uuid4()), "response_id": str(uuid.uuid4())}
        body = {"inputs": inputs, "stream": True, "options": options}
        body |= given.pop("body", {})
        return self.send("POST", f"/conversation/{conversation_id}", json=body, **given)

    def nodes(self, path: str) -> list[pagedata.Node]:
        nodes = pagedata.read(self.send("GET", path).content)
        assert isinstance(nodes, list)
        return nodes

    def layout(self) -> dict[str, object]:
        node = self.nodes("/__data.json")[0]
        assert isinstance(node, Data)
        assert isinstance(node.value, dict)
        return node.value

    def settings(self) -> dict[str, object]:
        settings = self.layout()["settings"]
        assert isinstance(settings, dict)
        return settings

    def page(self, conversation_id: str) -> dict[str, object]:
        node = self.nodes(f"/conversation/{conversation_id}/__data.json")[1]
        assert isinstance(node, Data)
        assert isinstance(node.value, dict)
        return node.value

    def messages(self, conversation_id: str) -> list[tuple[str, str]]:
        messages = self.page(conversation_id)["messages"]
        assert isinstance(messages, list)
        return [(each["from"], each["content"]) for each in messages]

    def accept(self, **fields: str) -> requests.Response:
        return self.send(
            "POST",
            "/settings",
            data={"ethicsModalAccepted": "true", **fields},
            headers={"Referer": f"{self.url}/"},
        )


def refused(answer: requests.Response) -> tuple[int, str, str, bool]:
    content_type = answer.headers["content-type"]
    return answer.status_code, content_type, answer.text, "set-cookie" in answer.headers


Item = Token | Final | Exception | None


class FedEngine:
    """An engine that returns the events of ``feed``. None ends it, an exception is raised."""

    def __init__(self) -> None:
        self.feed: SimpleQueue[Item] = SimpleQueue()
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.turns: list[Turn] = []
        self.parameters: dict[str, object] = {}

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        self.turns, self.parameters = list(turns), dict(parameters)
        self.begun.set()
        try:
            while not stopped():
                item = self._next()
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                if item != _NOTHING_YET:
                    yield item
        finally:
            self.ended.set()

    def words(self, *words: str) -> None:
        for word in words:
            self.feed.put(Token(word))

    def _next(self) -> Item:
        try:
            return self.feed.get(timeout=0.01)
        except Empty:
            return _NOTHING_YET


_NOTHING_YET = Token("nothing yet", special=True)


class Stream:
    """One running answer. Its events are read one by one."""

    def __init__(self, visitor: Visitor, conversation_id: str, inputs: str = "Hello") -> None:
        host = urlsplit(visitor.url)
        self._connection = http.client.HTTPConnection(
            str(host.hostname), host.port, timeout=PATIENCE
        )
        self.options = {"id": str(uuid.uuid4()), "response_id": str(uuid.uuid4())}
        body = {"inputs": inputs, "stream": True, "options": self.options}
        headers = {"Content-Type": "application/json", "Cookie": f"hf-chat={visitor.session}"}
        path = f"/conversation/{conversation_id}"
        self._connection.request("POST", path, json.dumps(body), headers)
        self.response: http.client.HTTPResponse | None = None

    def next(self) -> dict[str, object]:
        self.response = self.response or self._connection.getresponse()
        line = self.response.readline()
        assert line.startswith(b"data:")
        assert line.endswith(b"\n")
        assert self.response.readline() == b"\n"
        event = json.loads(line[5:])
        assert isinstance(event, dict)
        return event

    def text(self) -> object:
        token = self.next()["token"]
        assert isinstance(token, dict)
        return token["text"]

    def rest(self) -> bytes:
        self.response = self.response or self._connection.getresponse()
        return self.response.read()

    def close(self) -> None:
        if self.response is not None:
            self.response.close()
        self._connection.close()


CRASHED = re.compile(r'\{"message":"An error occurred","errorId":"[0-9a-f-]{36}"\}')


class Guest(Visitor):
    """A client of the current chat-ui."""

    def tree(self, conversation_id: str) -> dict[str, Any]:
        answer = self.send("GET", f"/api/v2/conversations/{conversation_id}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        read = superjson.read(answer.content)
        assert isinstance(read, dict)
        return read

    def stored(self, conversation_id: str) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.tree(conversation_id)["messages"]
        return messages

    def said(self, conversation_id: str) -> list[tuple[str, str]]:
        return [(each["from"], each["content"]) for each in self.stored(conversation_id)]

    def leaf(self, conversation_id: str) -> str:
        return str(self.stored(conversation_id)[-1]["id"])

    def tell(self, conversation_id: str, data: object, **given: Any) -> requests.Response:
        """A message's form: its document, or its text."""
        text = data if isinstance(data, str) else json.dumps(data)
        parts = [("data", (None, text)), *given.pop("files", [])]
        headers = {"Origin": self.url, **given.pop("headers", {})}
        path = f"/conversation/{conversation_id}"
        return self.send("POST", path, files=parts, headers=headers, **given)

    def say(self, conversation_id: str, inputs: str, **more: object) -> requests.Response:
        data = {"inputs": inputs, "id": self.leaf(conversation_id), **more}
        return self.tell(conversation_id, data)

    def kept(self) -> dict[str, Any]:
        read = superjson.read(self.send("GET", "/api/v2/user/settings").content)
        assert isinstance(read, dict)
        return read


def crashed(answer: requests.Response) -> bool:
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code == 500 and CRASHED.fullmatch(answer.text) is not None


def told(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.text


class Listener:
    """One running answer. Its updates are read one by one, and keep-alives are counted."""

    def __init__(self, guest: Guest, conversation_id: str, data: dict[str, object]) -> None:
        host = urlsplit(guest.url)
        self._connection = http.client.HTTPConnection(
            str(host.hostname), host.port, timeout=PATIENCE
        )
        body = f'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n{json.dumps(data)}'
        headers = {
            "Content-Type": "multipart/form-data; boundary=x",
            "Cookie": f"hf-chat={guest.session}",
            "Origin": guest.url,
        }
        path = f"/conversation/{conversation_id}"
        self._connection.request("POST", path, f"{body}\r\n--x--\r\n".encode(), headers)
        self.response = self._connection.getresponse()
        self.alive = 0

    def line(self) -> bytes:
        """The next line that is not a keep-alive."""
        while b'"keepAlive"' in (line := self.response.readline()):
            self.alive += 1
        return line

    def next(self) -> dict[str, Any]:
        update = json.loads(self.line())
        assert isinstance(update, dict)
        return update

    def token(self) -> str:
        update = self.next()
        assert update["type"] == "stream"
        return str(update["token"]).rstrip("\0")

    def rest(self) -> list[bytes]:
        """Every line until the end."""
        return list(iter(self.line, b""))

    def close(self) -> None:
        self.response.close()
        self._connection.close()


def eventually(true: Callable[[], bool]) -> None:
    """Wait until it is true. Fail if it never is."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


FINISHED = {"type": "status", "status": "finished"}


COMPLETED = ("", "end", {"status": "completed"})


Frame = tuple[str, str, Any]


class Reader:
    """The log of a run. Its frames are read one by one, and heartbeats are counted."""

    def __init__(self, guest: Guest, path: str, headers: dict[str, str] | None = None) -> None:
        host = urlsplit(guest.url)
        self._connection = http.client.HTTPConnection(
            str(host.hostname), host.port, timeout=PATIENCE
        )
        cookie = {"Cookie": f"hf-chat={guest.session}", **(headers or {})}
        self._connection.request("GET", path, headers=cookie)
        self.response = self._connection.getresponse()
        self.heartbeats = 0

    def next(self) -> Frame | None:
        """The next frame that is not a heartbeat: id, event and data, or None at the end."""
        fields: dict[str, str] = {}
        while line := self.response.readline().decode():
            if line == ": heartbeat\n":
                self.heartbeats += 1
                assert self.response.readline() == b"\n"
            elif line == "\n":
                return fields.get("id", ""), fields["event"], json.loads(fields["data"])
            else:
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = value
        return None

    def rest(self) -> list[Frame]:
        """Every frame until the end."""
        try:
            return list(iter(self.next, None))
        finally:
            self.close()

    def close(self) -> None:
        self.response.close()
        self._connection.close()


def log_of(conversation_id: str, generation_id: str = "") -> str:
    asked = f"?generationId={generation_id}" if generation_id else ""
    return f"/conversation/{conversation_id}/stream{asked}"


def read(guest: Guest, conversation_id: str, query: str = "", **headers: str) -> list[Frame]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reader(guest, log_of(conversation_id) + query, named).rest()


def numbers(found: list[Frame]) -> list[int]:
    return [int(number) for number, event, _ in found if event == "update"]


def text(found: list[Frame]) -> str:
    return "".join(data.get("token", "") for _, _, data in found)


class Asked:
    """A message whose run has an id. Its client reads or disconnects."""

    def __init__(self, guest: Guest, conversation_id: str, inputs: str = "Hello") -> None:
        self.id = str(uuid.uuid4())
        leaf = guest.leaf(conversation_id)
        self.listener = Listener(
            guest, conversation_id, {"inputs": inputs, "id": leaf, "generationId": self.id}
        )

    def begin(self) -> None:
        """Wait for the answer's first token."""
        self.listener.next(), self.listener.next(), self.listener.token()

    def whole(self) -> list[bytes]:
        try:
            return self.listener.rest()
        finally:
            self.leave()

    def leave(self) -> None:
        self.listener.close()
