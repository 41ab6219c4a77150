"""Measure the additional cost of the gateway, compared with the client alone.

The figures are CPU per token, and time to the first token. At full speed, the gateway sends many
tokens with one write. Tokens that arrive one by one need a write each; its system call is most of
the cost.

``python benchmarks/gateway_cost.py`` runs the client and the gateway each in a separate process,
with one server in another process. This process reads the gateway's answers and is not measured.
Needs the extra ``gateway``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prerendered import MODEL, prerendered

FLOODS = ((1, "flood 20000"), (20, "flood 5000"))
TRICKLE = (100, "trickle 50 250")  # streams, tokens a second, tokens a stream
ROUNDS = 5
FIRST_TOKENS = 100


class Measured:
    """A process that reports its CPU time on request."""

    def __init__(self, url: str, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--as", kind, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url: str = self._line()

    def ask(self, *words: object) -> float:
        """Return a figure: CPU seconds so far, or seconds to a first token."""
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)
        return float(self._line())

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def measured(url: str, kind: str) -> Iterator[Measured]:
    process = Measured(url, kind)
    try:
        yield process
    finally:
        process.close()


def be_gateway(url: str) -> None:
    """Serve, and answer each line on stdin with the CPU seconds of this process."""
    from h2o_client.gateway import gateway

    with gateway(url) as running:
        print(running.url, flush=True)
        for _ in sys.stdin:
            print(time.process_time(), flush=True)


def be_client(url: str) -> None:
    """Answer each line on stdin: "first" with the seconds to a first token.

    For a number and a prompt, stream so many answers at once, and answer with the CPU seconds.
    """
    asyncio.run(_be_client(url))


async def _be_client(url: str) -> None:
    from h2o_client import AsyncH2oSession

    async with AsyncH2oSession(url) as client:

        async def one(prompt: str) -> None:
            async with client.stream(prompt) as reply:
                async for _ in reply:
                    pass

        await client.chat("flood 1")
        print(url, flush=True)
        for line in sys.stdin:
            streams, _, prompt = line.strip().partition(" ")
            began, used = time.perf_counter(), time.process_time()
            if streams == "first":
                async with client.conversation(keep=True) as chat, chat.stream("flood 1") as reply:
                    await anext(reply)
                    print(time.perf_counter() - began, flush=True)
                continue
            await asyncio.gather(*(one(prompt) for _ in range(int(streams))))
            print(time.process_time() - used, flush=True)


class Reader:
    """A client of the gateway that does not parse the responses."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)

    async def stream(self, prompt: str) -> float:
        """Read one answer to its end. Return the seconds until its first text."""
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
        body = json.dumps(
            {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": prompt}]}
        ).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        began, first, tail = time.perf_counter(), 0.0, b""
        writer.write(head.encode() + body)
        while not tail.endswith(b"0\r\n\r\n"):
            data = await reader.read(1 << 20)
            assert data, tail
            if not first and b'"content":"' in data:
                first = time.perf_counter() - began
            tail = (tail + data)[-5:]
        writer.close()
        return first

    def streams(self, prompt: str, count: int) -> None:
        async def run() -> None:
            await asyncio.gather(*(self.stream(prompt) for _ in range(count)))

        asyncio.run(run())


def tokens_in(prompt: str) -> int:
    return int(prompt.rpartition(" ")[2])


def cpu(url: str, cases: Sequence[tuple[int, str]]) -> dict[str, dict[str, float]]:
    """Return the CPU microseconds per token of the client, and the gateway's additional ones."""
    found: dict[str, dict[str, float]] = {}
    with measured(url, "client") as client, measured(url, "gateway") as running:
        reader = Reader(running.url)
        reader.streams("flood 1", 1)
        for streams, prompt in cases:
            own, over = [], []
            count = streams * tokens_in(prompt)
            for _ in range(ROUNDS):
                used = client.ask(streams, prompt)
                before = running.ask("cpu")
                reader.streams(prompt, streams)
                own.append(1e6 * used / count)
                over.append(1e6 * (running.ask("cpu") - before) / count - own[-1])
            found[f"{prompt}, {streams} at once"] = {
                "client": statistics.median(own),
                "over": statistics.median(over),
            }
    return found


def first_tokens(url: str) -> dict[str, float]:
    """Return the client's milliseconds to the first token, and the gateway's additional ones.

    The figures are first quartiles: other programs on the machine delay the slower runs.
    """
    with measured(url, "client") as client, measured(url, "gateway") as running:
        reader = Reader(running.url)
        own, through = [], []
        for _ in range(FIRST_TOKENS):
            own.append(1e3 * client.ask("first"))
            through.append(1e3 * asyncio.run(reader.stream("flood 1")))
    quarter = FIRST_TOKENS // 4
    alone = sorted(own)[quarter]
    return {"client": alone, "over": sorted(through)[quarter] - alone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--as", dest="kind", choices=["client", "gateway"])
    parser.add_argument("url", nargs="?")
    options = parser.parse_args()
    if options.kind:
        (be_client if options.kind == "client" else be_gateway)(options.url)
        return
    with prerendered() as url:
        for what, figures in cpu(url, (*FLOODS, TRICKLE)).items():
            print(f"{what}: client {figures['client']:.2f} us CPU per token, ", end="")
            print(f"gateway {figures['over']:.2f} us more", flush=True)
        first = first_tokens(url)
        print(f"first token: client {first['client']:.2f} ms, ", end="")
        print(f"gateway {first['over']:.2f} ms more")


if __name__ == "__main__":
    main()
