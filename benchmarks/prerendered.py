"""A chat-ui of 2023 that costs next to nothing: what it sends is made before anybody asks.

It runs in a process of its own, so that its work is in no client's figures. The prompt says what is
wanted: ``flood 20000`` sends so many tokens as fast as they are taken, one HTTP chunk each;
``trickle 50 200`` sends 200 tokens, 50 a second, each with the time of its sending.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import multiprocessing.connection
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from h2o_client.wire import pagedata
from h2o_client.wire.events import Token
from h2o_client.wire.tgi import write_token

MODEL = "benchmark"
_LAYOUT = {
    "conversations": [],
    "settings": {"shareConversationsWithModelAuthors": True, "activeModel": MODEL},
    "models": [{"id": MODEL, "name": MODEL, "parameters": {}}],
    "user": None,
    "requiresLogin": False,
    "messagesBeforeLogin": 0,
}
_COOKIE = "Set-Cookie: hf-chat=benchmark; Path=/; HttpOnly\r\n"
_HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    f"{_COOKIE}Transfer-Encoding: chunked\r\n\r\n"
).encode()
_END = write_token(Token("</s>", special=True), generated_text="all of it")


def chunk(payload: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def flood(count: int) -> bytes:
    """An answer of so many tokens, one HTTP chunk each."""
    token = chunk(write_token(Token(" token", id=1, logprob=-0.5)))
    return token * count + chunk(_END) + b"0\r\n\r\n"


class _Server:
    def __init__(self) -> None:
        self._floods: dict[int, bytes] = {}
        self._page = pagedata.write([pagedata.Data(_LAYOUT), None])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                size = 0
                for line in head.split("\r\n"):
                    if line.lower().startswith("content-length:"):
                        size = int(line.split(":")[1])
                body = await reader.readexactly(size) if size else b""
                method, path, _ = head.split(" ", 2)
                await self._answer(method, path, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        if path == "/__data.json":
            self._plain(writer, self._page)
        elif (method, path) == ("POST", "/conversation"):
            self._plain(writer, b'{"conversationId":"6b02c9d11306e1473508e3f3"}')
        elif method == "POST" and path.startswith("/conversation/") and path.count("/") == 2:
            kind, *numbers = json.loads(body)["inputs"].split()
            writer.write(_HEAD)
            if kind == "flood":
                count = int(numbers[0])
                writer.write(self._floods.setdefault(count, flood(count)))
                await writer.drain()
            else:
                await self._trickle(float(numbers[0]), int(numbers[1]), writer)
        elif path == "/api/models":
            self._plain(writer, b"<!doctype html>", status="404 Not Found")
        else:
            self._plain(writer, b"")

    async def _trickle(self, rate: float, count: int, writer: asyncio.StreamWriter) -> None:
        due = time.monotonic()
        for _ in range(count):
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            # CLOCK_MONOTONIC is one clock for all processes of a machine.
            writer.write(chunk(write_token(Token(f"{time.monotonic():.6f} "))))
        writer.write(chunk(_END) + b"0\r\n\r\n")
        await writer.drain()

    def _plain(self, writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{_COOKIE}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _run(ready: multiprocessing.connection.Connection) -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        server = await asyncio.start_server(_Server().serve, sock=listener)
        ready.send(listener.getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def prerendered() -> Iterator[str]:
    """The server's address, for as long as it is needed."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()
