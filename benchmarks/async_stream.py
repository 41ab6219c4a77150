"""Compare the async interface with aiohttp and httpx: CPU per token, and the delay of tokens.

``python benchmarks/async_stream.py`` runs each of them in a separate process, in turn, with one
server in another process. It prints medians, and ratios to aiohttp with json.loads for each line.
The CPU time is that of the whole client process during the answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

Reader = Callable[[str, str], Awaitable[list[str]]]
"""Gets a server's address and a prompt, and returns the tokens of the answer."""

FLOODS = ((1, 20_000), (20, 5_000))
TRICKLE = (100, 50, 250)  # streams, tokens a second, tokens a stream
ROUNDS = 5


async def ours(url: str, prompt: str, streams: int) -> list[list[tuple[str, float]]]:
    from h2o_client import AsyncH2oSession, Timeouts

    async def one(client: AsyncH2oSession) -> list[tuple[str, float]]:
        taken = []
        async with client.stream(prompt) as reply:
            async for token in reply:
                taken.append((token, time.monotonic()))
        return taken

    async with AsyncH2oSession(url, timeout=Timeouts()) as client:
        await client.models()
        return list(await asyncio.gather(*(one(client) for _ in range(streams))))


async def aiohttp_(url: str, prompt: str, streams: int) -> list[list[tuple[str, float]]]:
    import aiohttp

    async def one(session: aiohttp.ClientSession) -> list[tuple[str, float]]:
        taken = []
        async with session.post(f"{url}/conversation/x", json={"inputs": prompt}) as response:
            async for line in response.content:
                if line.startswith(b"data:"):
                    token = json.loads(line[5:])["token"]
                    if not token["special"]:
                        taken.append((token["text"], time.monotonic()))
        return taken

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        return list(await asyncio.gather(*(one(session) for _ in range(streams))))


async def httpx_(url: str, prompt: str, streams: int) -> list[list[tuple[str, float]]]:
    import httpx

    async def one(client: httpx.AsyncClient) -> list[tuple[str, float]]:
        taken = []
        async with client.stream(
            "POST", f"{url}/conversation/x", json={"inputs": prompt}
        ) as response:
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    token = json.loads(line[5:])["token"]
                    if not token["special"]:
                        taken.append((token["text"], time.monotonic()))
        return taken

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        return list(await asyncio.gather(*(one(client) for _ in range(streams))))


CLIENTS = {"h2o-chat": ours, "aiohttp": aiohttp_, "httpx": httpx_}


def measure(client: str, url: str, prompt: str, streams: int) -> dict[str, float]:
    """Measure one run in this process: CPU microseconds per token, and milliseconds of delay."""

    async def run() -> dict[str, float]:
        # The first answer, of one token, is not measured: it imports modules and connects.
        await CLIENTS[client](url, "flood 1", 1)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        answers = await CLIENTS[client](url, prompt, streams)
        used = time.process_time() - began
        tokens = [token for answer in answers for token in answer]
        found = {
            "cpu": 1e6 * used / len(tokens),
            "tokens": len(tokens),
            "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024,
        }
        if prompt.startswith("trickle"):
            late = sorted(1000 * (taken - float(sent)) for sent, taken in tokens)
            found["median"] = late[len(late) // 2]
            found["p99"] = late[int(len(late) * 0.99)]
        return found

    return asyncio.run(run())


def medians(
    url: str, prompt: str, streams: int, clients: list[str], *, rounds: int = ROUNDS
) -> dict[str, dict[str, float]]:
    """The median of each figure for each client; they run in turn, each in its own process."""
    runs: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
    for _ in range(rounds):
        for client in clients:
            command = [sys.executable, __file__, "--one", client, url, prompt, str(streams)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs[client].append(json.loads(done.stdout))
    return {
        client: {name: statistics.median(run[name] for run in found) for name in found[0]}
        for client, found in runs.items()
    }


def compared(url: str, prompt: str, streams: int, clients: list[str], rounds: int) -> None:
    """Print a line for each client."""
    found = medians(url, prompt, streams, clients, rounds=rounds)
    print(f"{prompt}, {streams} at once")
    for client, figures in found.items():
        ratio = figures["cpu"] / found["aiohttp"]["cpu"]
        line = f"  {client:9} {figures['cpu']:7.2f} us CPU per token, ratio to aiohttp {ratio:5.2f}"
        if "median" in figures:
            line += f"; median delay {figures['median']:.1f} ms"
            line += f", 99th percentile {figures['p99']:.1f} ms"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=4, metavar=("CLIENT", "URL", "PROMPT", "STREAMS"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.one:
        client, url, prompt, streams = options.one
        print(json.dumps(measure(client, url, prompt, int(streams))))
        return
    from prerendered import prerendered

    with prerendered() as url:
        for streams, tokens in FLOODS:
            compared(url, f"flood {tokens}", streams, list(CLIENTS), options.rounds)
        streams, rate, tokens = TRICKLE
        compared(url, f"trickle {rate} {tokens}", streams, ["h2o-chat", "aiohttp"], options.rounds)


if __name__ == "__main__":
    main()
