"""A fake chat-ui with prepared answers, which needs almost no processor time.

It runs in a separate process, so that its work is not measured. The prompt selects the answer.
``flood 20000 chunks`` sends 20000 tokens at full speed, one HTTP chunk each. Instead of ``chunks``:
``blocks`` sends 16 KiB chunks, ``close`` a body without chunks, and ``lines`` the padded JSON lines
of chat-ui v0.9 and later, with a keepAlive after every tenth. ``trickle 50 200`` sends 200 tokens,
50 per second; each contains the time at which it is sent. ``line 1000000`` sends one token of so
many bytes. A message in a form, as the newest chat-ui requires, is answered with JSON lines. Each
response is delayed by ``delay`` seconds, like a round trip.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from heapq import heappop, heappush
from itertools import count
from queue import Empty, SimpleQueue

from h2o_client.wire import pagedata, superjson
from h2o_client.wire.events import Final, Status, Token
from h2o_client.wire.tgi import write_token
from h2o_client.wire.updates import write as write_update

MODEL = "benchmark"
ID = "6b02c9d11306e1473508e3f3"
_numbers = count(1)
_LAYOUT = {
    "conversations": [],
    "settings": {"shareConversationsWithModelAuthors": True, "activeModel": MODEL},
    "models": [{"id": MODEL, "name": MODEL, "parameters": {}}],
    "user": None,
    "requiresLogin": False,
    "messagesBeforeLogin": 0,
}
_PAGE = pagedata.write([pagedata.Data(_LAYOUT), None])
_STORED = superjson.write(
    {
        "title": MODEL,
        "modelId": MODEL,
        "messages": [
            {"id": "root", "from": "system", "content": "", "children": ["question"]},
            {
                "id": "question",
                "from": "user",
                "content": "flood 20",
                "ancestors": ["root"],
                "children": ["answer"],
            },
            {
                "id": "answer",
                "from": "assistant",
                "content": "all of it",
                "ancestors": ["root", "question"],
                "children": [],
                "updates": [{"type": "finalAnswer", "text": "all of it", "interrupted": False}],
            },
        ],
    }
)
_CREATED = b'{"conversationId":"%%b","conversation":%b}' % json.dumps(_STORED.decode()).encode()
_COOKIE = "Set-Cookie: hf-chat=benchmark; Path=/; HttpOnly\r\n"
_STREAM = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{_COOKIE}"
_TOKEN = write_token(Token(" token", id=1, logprob=-0.5))
_END = write_token(Token("</s>", special=True), generated_text="all of it")
_AT_ONCE = 10_000  # tokens that are sent in one piece


def chunk(payload: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def blocks(payload: bytes) -> bytes:
    """Chunks of 16 KiB."""
    size = 1 << 14
    return b"".join(chunk(payload[at : at + size]) for at in range(0, len(payload), size))


def _lines(count: int) -> bytes:
    token, alive = write_update(Token(" token")), write_update(Status("keepAlive"))
    return b"".join(
        chunk(token) + (chunk(alive) if place % 10 == 9 else b"") for place in range(count)
    )


_PIECES = {
    "chunks": chunk(_TOKEN) * _AT_ONCE,
    "blocks": blocks(_TOKEN * _AT_ONCE),
    "close": _TOKEN * _AT_ONCE,
    "lines": _lines(_AT_ONCE),
}


class _Trickle:
    """An answer with one token every so many seconds."""

    def __init__(
        self, sock: socket.socket, every: float, count: int, write: Callable[[Token], bytes]
    ) -> None:
        self.over = threading.Event()
        self.due = time.monotonic() + every
        self._socket = sock
        self._every = every
        self._left = count
        self._write = write

    def send(self) -> bool:
        """Send the token that is due. Return whether another one follows."""
        try:
            # All processes of a machine share CLOCK_MONOTONIC.
            self._socket.sendall(chunk(self._write(Token(f"{time.monotonic():.6f} "))))
        except OSError:
            self._left = 1
        self._left -= 1
        self.due += self._every
        if not self._left:
            self.over.set()
        return self._left > 0


class _Tricklers(threading.Thread):
    """Sends all trickled tokens in one thread: thousands of threads would disturb the client."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._new: SimpleQueue[_Trickle] = SimpleQueue()

    def add(self, trickle: _Trickle) -> None:
        self._new.put(trickle)

    def run(self) -> None:
        order = count()
        waiting: list[tuple[float, int, _Trickle]] = []
        while True:
            left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            with suppress(Empty):
                trickle = self._new.get(timeout=left)
                heappush(waiting, (trickle.due, next(order), trickle))
            while waiting and waiting[0][0] <= time.monotonic():
                trickle = heappop(waiting)[2]
                if trickle.send():
                    heappush(waiting, (trickle.due, next(order), trickle))


_tricklers = _Tricklers()


class _Client(threading.Thread):
    def __init__(self, sock: socket.socket, delay: float) -> None:
        super().__init__(daemon=True)
        self._socket = sock
        self._delay = delay

    def run(self) -> None:
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError), self._socket, self._socket.makefile("rb") as file:
            while line := file.readline():
                size = 0
                while (header := file.readline()) not in (b"\r\n", b""):
                    if header.lower().startswith(b"content-length:"):
                        size = int(header.split(b":")[1])
                body = file.read(size)
                if self._delay:
                    time.sleep(self._delay)
                method, path, _ = line.decode().split(" ", 2)
                if not self._answered(method, path, body):
                    return

    def _answered(self, method: str, path: str, body: bytes) -> bool:
        """Whether the connection can be used again."""
        if path == "/__data.json":
            self._plain(_PAGE)
        elif (method, path) == ("POST", "/conversation"):
            self._plain(_CREATED % f"{next(_numbers):024x}".encode())
        elif method == "POST" and body.startswith(b"--"):
            document = json.loads(body.partition(b"\r\n\r\n")[2].partition(b"\r\n")[0])
            words = str(document["inputs"]).split()
            return self._message(*words, *["lines"] * (len(words) == 2))
        elif method == "POST" and b'"inputs"' in body:
            return self._message(*json.loads(body)["inputs"].split())
        elif path.startswith("/api/v2/conversations/"):
            self._plain(_STORED)
        elif path == "/api/models":
            self._plain(b"<!doctype html>", status="404 Not Found")
        else:
            self._plain(b"")
        return True

    def _message(self, kind: str, *words: str) -> bool:
        if kind == "trickle":
            self._trickle(float(words[0]), int(words[1]), lines=words[-1] == "lines")
        elif kind == "line":
            self._socket.sendall(f"{_STREAM}Transfer-Encoding: chunked\r\n\r\n".encode())
            text = chunk(write_token(Token("x" * int(words[0]))))
            self._socket.sendall(text + chunk(_END) + b"0\r\n\r\n")
        else:
            return self._flood(int(words[0]), words[1] if len(words) > 1 else "chunks")
        return True

    def _flood(self, count: int, framing: str) -> bool:
        chunked = framing != "close"
        how = "Transfer-Encoding: chunked" if chunked else "Connection: close"
        self._socket.sendall(f"{_STREAM}{how}\r\n\r\n".encode())
        piece = _PIECES[framing]
        whole, rest = divmod(count, _AT_ONCE)
        for _ in range(whole):
            self._socket.sendall(piece)
        if framing == "lines":
            final = write_update(Final("all of it", interrupted=False))
            self._socket.sendall(_lines(rest) + chunk(final) + chunk(b" " * 4096) + b"0\r\n\r\n")
        elif chunked:
            wrap = chunk if framing == "chunks" else blocks
            tokens = wrap(_TOKEN) * rest if framing == "chunks" else blocks(_TOKEN * rest)
            self._socket.sendall(tokens + chunk(_END) + b"0\r\n\r\n")
        else:
            self._socket.sendall(_TOKEN * rest + _END)
        return chunked

    def _trickle(self, rate: float, count: int, *, lines: bool) -> None:
        self._socket.sendall(f"{_STREAM}Transfer-Encoding: chunked\r\n\r\n".encode())
        end = write_update(Final("all of it", interrupted=False)) if lines else _END
        trickle = _Trickle(self._socket, 1 / rate, count, write_update if lines else write_token)
        _tricklers.add(trickle)
        trickle.over.wait()
        self._socket.sendall(chunk(end) + b"0\r\n\r\n")

    def _plain(self, body: bytes, status: str = "200 OK") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{_COOKIE}"
        self._socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _run(ready: multiprocessing.connection.Connection, delay: float) -> None:
    threading.stack_size(1 << 18)  # there may be thousands
    _tricklers.start()
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        ready.send(listener.getsockname()[1])
        while True:
            sock, _ = listener.accept()
            _Client(sock, delay).start()


@contextmanager
def prerendered(*, delay: float = 0.0) -> Iterator[str]:
    """Run the server, and yield its address."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run, args=(there, delay), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()
