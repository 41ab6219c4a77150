"""Measure a short prompt: create a conversation, read 20 tokens, delete the conversation.

The comparison is with the same three requests, sent with requests, http.client or aiohttp. "CPU" is
the time of the whole client process; "wall" is the time of all prompts divided by their number.
Each client runs in a separate process, in turn, with the oldest and the newest chat-ui.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from prerendered import MODEL, prerendered

TOKENS = 20
PROMPTS = 192
AT_ONCE = (1, 8, 32, 128)
VERSIONS = ("0.4", "latest")
ROUNDS = 5


def _message(version: str) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a message in the format of the version."""
    prompt = f"flood {TOKENS}"
    if version == "0.4":
        return json.dumps({"inputs": prompt}).encode(), {"Content-Type": "application/json"}
    document = json.dumps({"id": "root", "inputs": prompt})
    body = f'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n{document}\r\n--x--\r\n'
    return body.encode(), {"Content-Type": "multipart/form-data; boundary=x"}


def _is_token(line: bytes) -> bool:
    if line.startswith(b"data:"):
        return not json.loads(line[5:])["token"]["special"]
    return line.startswith(b"{") and json.loads(line)["type"] == "stream"


def ours(url: str, version: str, prompts: int) -> None:
    from h2o_client import H2oSession

    with H2oSession(url, server_version=version, model=MODEL) as client:
        for _ in range(prompts):
            assert len(list(client.stream(f"flood {TOKENS}"))) == TOKENS


def requests_(url: str, version: str, prompts: int) -> None:
    import requests

    body, headers = _message(version)
    with requests.Session() as session:
        for _ in range(prompts):
            made = session.post(f"{url}/conversation", json={"model": MODEL}, timeout=60)
            address = f"{url}/conversation/{made.json()['conversationId']}"
            with session.post(
                address, data=body, headers=headers, stream=True, timeout=60
            ) as response:
                assert sum(map(_is_token, response.iter_lines())) == TOKENS
            assert session.delete(address, timeout=60).ok


def http_client(url: str, version: str, prompts: int) -> None:
    parts = urlsplit(url)
    body, headers = _message(version)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    made = json.dumps({"model": MODEL})
    for _ in range(prompts):
        connection.request("POST", "/conversation", made, {"Content-Type": "application/json"})
        path = f"/conversation/{json.loads(connection.getresponse().read())['conversationId']}"
        connection.request("POST", path, body, headers)
        assert sum(map(_is_token, connection.getresponse())) == TOKENS
        connection.request("DELETE", path)
        connection.getresponse().read()
    connection.close()


async def ours_async(url: str, version: str, prompts: int, at_once: int) -> None:
    from h2o_client import AsyncH2oSession

    async with AsyncH2oSession(url, server_version=version, model=MODEL) as client:

        async def some(count: int) -> None:
            for _ in range(count):
                async with client.stream(f"flood {TOKENS}") as reply:
                    tokens = [token async for token in reply]
                assert len(tokens) == TOKENS

        await asyncio.gather(*(some(prompts // at_once) for _ in range(at_once)))


async def aiohttp_(url: str, version: str, prompts: int, at_once: int) -> None:
    import aiohttp

    body, headers = _message(version)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def some(count: int) -> None:
            for _ in range(count):
                async with session.post(f"{url}/conversation", json={"model": MODEL}) as made:
                    address = f"{url}/conversation/{(await made.json())['conversationId']}"
                async with session.post(address, data=body, headers=headers) as response:
                    tokens = [line async for line in response.content if _is_token(line)]
                assert len(tokens) == TOKENS
                async with session.delete(address) as deleted:
                    await deleted.read()

        await asyncio.gather(*(some(prompts // at_once) for _ in range(at_once)))


BLOCKING: dict[str, Callable[[str, str, int], None]] = {
    "h2o-chat": ours,
    "requests": requests_,
    "http.client": http_client,
}
ASYNC: dict[str, Callable[[str, str, int, int], Awaitable[None]]] = {
    "h2o-chat": ours_async,
    "aiohttp": aiohttp_,
}


def measure(client: str, url: str, version: str, at_once: int) -> dict[str, float]:
    """Measure one run in this process: milliseconds per prompt. ``at_once`` 0 means blocking."""

    async def run() -> dict[str, float]:
        # Imports and the first connection are not measured.
        await ASYNC[client](url, version, at_once, at_once)
        began, used = time.perf_counter(), time.process_time()
        await ASYNC[client](url, version, max(PROMPTS, 3 * at_once), at_once)
        return _by_prompt(began, used, max(PROMPTS, 3 * at_once))

    if at_once:
        return asyncio.run(run())
    BLOCKING[client](url, version, 5)
    began, used = time.perf_counter(), time.process_time()
    BLOCKING[client](url, version, PROMPTS)
    return _by_prompt(began, used, PROMPTS)


def _by_prompt(began: float, used: float, prompts: int) -> dict[str, float]:
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    return {"cpu": 1000 * cpu / prompts, "wall": 1000 * wall / prompts}


def medians(
    url: str, version: str, at_once: int, *, rounds: int = ROUNDS
) -> dict[str, dict[str, float]]:
    """The median of each figure, for each client; they run in turn."""
    clients = list(ASYNC if at_once else BLOCKING)
    runs: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
    for _ in range(rounds):
        for client in clients:
            command = [sys.executable, __file__, "--one", client, url, version, str(at_once)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs[client].append(json.loads(done.stdout))
    return {
        client: {name: statistics.median(run[name] for run in found) for name in found[0]}
        for client, found in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=4, metavar=("CLIENT", "URL", "VERSION", "AT_ONCE"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--at-once", type=int, nargs="*", default=(0, *AT_ONCE))
    options = parser.parse_args()
    if options.one:
        client, url, version, at_once = options.one
        print(json.dumps(measure(client, url, version, int(at_once))))
        return
    with prerendered() as url:
        for version in VERSIONS:
            for at_once in options.at_once:
                found = medians(url, version, at_once, rounds=options.rounds)
                print(
                    f"chat-ui {version}, {f'async, {at_once} at once' if at_once else 'blocking'}"
                )
                for client, figures in found.items():
                    ratio = found["h2o-chat"]["cpu"] / figures["cpu"]
                    print(
                        f"  {client:12} {figures['cpu']:6.2f} ms CPU, {figures['wall']:6.2f} ms "
                        f"wall per prompt; CPU ratio of h2o-chat {ratio:.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
