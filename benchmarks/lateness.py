"""Compare the delay from a token's bytes to the caller with that of a raw socket."""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from prerendered import ID, prerendered

PROMPT = "trickle 200 300"
ROUNDS = 3


def ours(url: str) -> list[float]:
    from h2o_client import H2oSession

    with H2oSession(url) as client, client.stream(PROMPT) as reply:
        return [1000 * (time.monotonic() - float(token)) for token in reply]


def raw_socket(url: str) -> list[float]:
    """The lower bound: recv, and the time."""
    parts = urlsplit(url)
    body = json.dumps({"inputs": PROMPT})
    late = []
    with socket.create_connection((str(parts.hostname), parts.port or 80)) as sock:
        sock.sendall(
            f"POST /conversation/{ID} HTTP/1.1\r\nHost: x\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        while b"0\r\n\r\n" not in (data := sock.recv(1 << 16)) and data:
            now = time.monotonic()
            for line in data.split(b"\n"):
                if line.startswith(b"data:"):
                    late.append(1000 * (now - float(json.loads(line[5:])["token"]["text"])))
    return late


def medians() -> dict[str, float]:
    """Return the median delay of each, in milliseconds."""
    ways: dict[str, Callable[[str], list[float]]] = {"h2o-chat": ours, "raw socket": raw_socket}
    found: dict[str, list[float]] = {name: [] for name in ways}
    with prerendered() as url:
        for _ in range(ROUNDS):
            for name, way in ways.items():
                found[name] += way(url)
    return {name: statistics.median(late) for name, late in found.items()}


def main() -> None:
    found = medians()
    for name, late in found.items():
        print(f"{name:10} median delay {late:.3f} ms")
    print(f"additional delay of h2o-chat {found['h2o-chat'] - found['raw socket']:.3f} ms")


if __name__ == "__main__":
    main()
