"""Compare the CPU per token of the blocking stream with other clients.

The lower bound is a raw socket with msgspec.
"""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import msgspec

from prerendered import ID, MODEL, prerendered

Client = Callable[[str, str], tuple[int, float]]
"""Gets an address and a prompt, and returns the number of tokens and the CPU seconds."""

TOKENS = 20_000
ROUNDS = 7


class _Clock:
    seconds = 0.0


@contextmanager
def _timed() -> Iterator[_Clock]:
    clock = _Clock()
    began = time.process_time()
    yield clock
    clock.seconds = time.process_time() - began


class _Text(msgspec.Struct):
    text: str = ""
    special: bool = False


class _Event(msgspec.Struct):
    token: _Text | None = None


def ours(url: str, prompt: str) -> tuple[int, float]:
    from h2o_client import H2oSession

    version = "0.7" if prompt.endswith("lines") else "0.4"
    with H2oSession(url, server_version=version, model=MODEL) as client:
        count = 0
        with client.stream(prompt) as reply, _timed() as clock:
            for _ in reply:
                count += 1
    return count, clock.seconds


def floor(url: str, prompt: str) -> tuple[int, float]:
    """The lower bound: recv, find the lines, decode each with msgspec."""
    parts = urlsplit(url)
    decode = msgspec.json.Decoder(_Event).decode
    body = json.dumps({"inputs": prompt})
    count, rest = 0, b""
    with socket.create_connection((str(parts.hostname), parts.port or 80)) as sock:
        sock.sendall(
            f"POST /conversation/{ID} HTTP/1.1\r\nHost: x\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        with _timed() as clock:
            while data := sock.recv(1 << 18):
                lines = (rest + data).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    if line.startswith(b"data:"):
                        token = decode(line[5:]).token
                        if token is not None and not token.special:
                            count += 1
                if rest.endswith(b"0\r\n\r\n") or (lines[-1:] == [b"\r"] and b"0\r" in lines[-3:]):
                    break
    return count, clock.seconds


def requests_lines(url: str, prompt: str) -> tuple[int, float]:
    import requests

    count = 0
    address = f"{url}/conversation/{ID}"
    response = requests.post(address, json={"inputs": prompt}, stream=True, timeout=60)
    with response, _timed() as clock:
        for line in response.iter_lines():
            if line.startswith(b"data:"):
                count += not json.loads(line[5:])["token"]["special"]
            elif line.startswith(b"{"):
                update = json.loads(line)
                count += update["type"] == "stream" and update["token"].rstrip("\0") != ""
    return count, clock.seconds


def httpx_sse(url: str, prompt: str) -> tuple[int, float]:
    import httpx
    from httpx_sse import connect_sse

    count = 0
    address = f"{url}/conversation/{ID}"
    with (
        httpx.Client(timeout=60) as client,
        connect_sse(client, "POST", address, json={"inputs": prompt}) as source,
        _timed() as clock,
    ):
        for event in source.iter_sse():
            count += not json.loads(event.data)["token"]["special"]
    return count, clock.seconds


def huggingface(url: str, prompt: str) -> tuple[int, float]:
    from huggingface_hub import InferenceClient

    client = InferenceClient(model=f"{url}/conversation/{ID}", timeout=60)
    count = 0
    stream = client.text_generation(prompt, stream=True, details=True)
    with _timed() as clock:
        for event in stream:
            count += not event.token.special
    return count, clock.seconds


def medians(
    url: str, prompt: str, clients: dict[str, Client], *, rounds: int = ROUNDS
) -> dict[str, float]:
    """Return the CPU microseconds per token of each client; they run in turn, in this process."""
    runs: dict[str, list[float]] = {name: [] for name in clients}
    for turn in range(rounds + 1):
        for name, client in clients.items():
            count, seconds = client(url, prompt)
            assert count == TOKENS, f"{name} found {count} tokens"
            if turn:  # the first is not counted: it imports and warms up
                runs[name].append(1e6 * seconds / count)
    return {name: statistics.median(found) for name, found in runs.items()}


CASES: dict[str, tuple[str, dict[str, Client]]] = {
    "one chunk per token": (
        f"flood {TOKENS} chunks",
        {
            "h2o-chat": ours,
            "socket + msgspec": floor,
            "requests": requests_lines,
            "httpx-sse": httpx_sse,
            "huggingface_hub": huggingface,
        },
    ),
    "16 KiB chunks": (f"flood {TOKENS} blocks", {"h2o-chat": ours, "requests": requests_lines}),
    "without chunks": (f"flood {TOKENS} close", {"h2o-chat": ours, "requests": requests_lines}),
    "JSON lines": (f"flood {TOKENS} lines", {"h2o-chat": ours, "requests": requests_lines}),
}


def main() -> None:
    with prerendered() as url:
        for name, (prompt, clients) in CASES.items():
            found = medians(url, prompt, clients)
            print(name)
            for client, cpu in found.items():
                ratio = found["h2o-chat"] / cpu
                print(f"  {client:17} {cpu:7.2f} us CPU per token; ratio of h2o-chat {ratio:.2f}")


if __name__ == "__main__":
    main()
