"""Measure how soon the model is stopped after a client of the gateway disconnects.

In ``python benchmarks/gateway_leaving.py``, clients disconnect 100 times: in a stream, while they
wait for a whole answer, and before the first token. It runs with each version of the bundled
chat-ui, and also counts the conversations that are left. Needs the extras ``gateway`` and
``local``.
"""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from h2o_client import H2oSession
from h2o_client.gateway import gateway
from h2o_client.server import serve
from h2o_client.server.engine import Turn
from h2o_client.wire.events import Final, Token

TIMES = 100
VERSIONS = ("0.4", "0.9.6", "latest")
WAYS = ("streamed", "whole", "before the first token")
_COOKIE = "hf-chat=leaving"


class Endless:
    """A model with a token every 5 ms until it is stopped; a prompt can make it silent."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.stopped_at = 0.0
        self.over = threading.Event()

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        self.asked.set()
        try:
            while not stopped():
                time.sleep(0.005)
                if "silent" not in turns[-1].content:
                    yield Token("word ")
        finally:
            self.stopped_at = time.monotonic()
            self.over.set()

    def title(self, message: str) -> str:
        return "A title"


def leave(url: str, model: Endless, way: str) -> float:
    """Return the seconds from the client's disconnect until the model is stopped."""
    model.asked.clear()
    model.over.clear()
    prompt = "silent" if way == "before the first token" else "Hello"
    body = json.dumps(
        {
            "model": "m",
            "stream": way != "whole",
            "messages": [{"role": "user", "content": prompt}],
        }
    )
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body.encode())
        )
        assert model.asked.wait(60)
        if way == "streamed":
            found = b""
            while b"word" not in found:
                found += sock.recv(65536)
        else:
            time.sleep(0.02)
    left_at = time.monotonic()
    assert model.over.wait(60)
    return model.stopped_at - left_at


def left_over(url: str) -> int:
    """Return the number of conversations that are left after the cleanup."""
    end = time.monotonic() + 10
    with H2oSession(url, cookies=_COOKIE) as client:
        while (count := sum(1 for _ in client.conversations())) and time.monotonic() < end:
            time.sleep(0.05)
    return count


def main() -> None:
    for version in VERSIONS:
        model = Endless()
        with (
            serve(model, chat_ui=version, model="m") as server,
            gateway(server.url, cookies=_COOKIE) as running,
        ):
            for way in WAYS:
                took = sorted(leave(running.url, model, way) for _ in range(TIMES))
                print(
                    f"chat-ui {version}, {way}: stopped after {statistics.median(took):.3f} s "
                    f"(median), {took[-1]:.3f} s (maximum; limit 0.5 s); "
                    f"{left_over(server.url)} conversations left",
                    flush=True,
                )


if __name__ == "__main__":
    main()
