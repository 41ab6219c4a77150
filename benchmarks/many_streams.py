"""Measure thousands of async streams: memory per stream, delay of tokens, time to open them.

Each stream gets one token every two seconds, from the newest chat-ui. Each run has a separate
process. The limit of open files must be high enough (``ulimit -n``).
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from memory import resident
from prerendered import MODEL, prerendered

if TYPE_CHECKING:
    from h2o_client import AsyncReply

STREAMS = (1_000, 5_000)
RATE = 0.5  # tokens a second
_OPENED_WITHIN = 600  # tokens: longer than it takes to open all streams
_LISTENED_FOR = 10.0  # seconds


async def _measured(url: str, streams: int) -> None:
    from h2o_client import AsyncH2oSession

    late: list[float] = []
    opened: list[AsyncReply] = []
    listening = False

    async def listen(reply: AsyncReply) -> None:
        async for token in reply:
            if listening:
                late.append(1000 * (time.monotonic() - float(token)))

    async with AsyncH2oSession(url, server_version="latest", model=MODEL) as client:
        await client.chat("flood 1")
        gc.collect()
        before, began = resident(), time.perf_counter()
        prompt = f"trickle {RATE} {_OPENED_WITHIN}"

        async def open_one() -> None:
            reply = client.stream(prompt, keep=True)
            await reply
            opened.append(reply)

        await asyncio.gather(*(open_one() for _ in range(streams)))
        took = time.perf_counter() - began
        tasks = [asyncio.create_task(listen(reply)) for reply in opened]
        await asyncio.sleep(2 / RATE)
        gc.collect()
        memory = resident() - before
        await asyncio.sleep(1 / RATE)  # the collection delays the tokens that arrive during it
        listening = True
        await asyncio.sleep(_LISTENED_FOR)
        listening = False
        late.sort()
        print(
            json.dumps(
                {
                    "kilobytes": memory / streams / 1000,
                    "open": took,
                    "median": late[len(late) // 2],
                    "p99": late[int(len(late) * 0.99)],
                }
            ),
            flush=True,
        )
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def figures(url: str, streams: int) -> dict[str, float]:
    """Return kilobytes per stream, seconds to open all, and milliseconds of delay (median, p99)."""
    _allow_files()
    command = [sys.executable, __file__, url, str(streams)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _allow_files() -> None:
    """Raise the limit of open files to its maximum, also for child processes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    _allow_files()
    if len(sys.argv) == 3:
        asyncio.run(_measured(sys.argv[1], int(sys.argv[2])))
        return
    for streams in STREAMS:
        with prerendered() as url:
            found = figures(url, streams)
        print(
            f"{streams:5} streams: {found['kilobytes']:.1f} KB per stream, "
            f"{found['open']:.1f} s to open all, median delay {found['median']:.1f} ms, "
            f"99th percentile {found['p99']:.1f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
