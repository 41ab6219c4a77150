"""Measure batches: the rate compared with plain async code, memory, and use of a rate limit.

``python benchmarks/batch.py rate`` compares a batch of 2,000 prompts with `AsyncH2oSession.chat`
under a semaphore, in turn, each in a separate process. ``memory`` sends 100,000 prompts and prints
the peak memory of the process. ``limited`` uses a server that allows 300 messages a minute and
fails on 5 % of them, and prints how much of this rate was used and how many attempts were refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from prerendered import prerendered

PROMPT = "flood 20 chunks"
COUNT, ROUNDS = 2_000, 3
CONCURRENCY = (8, 32)
MANY = 100_000
PER_MINUTE, FAULTS, MINUTES = 300, 0.05, 6


def plain(url: str, count: int, concurrency: int) -> float:
    """Return the seconds with gather and a semaphore."""
    from h2o_client import AsyncH2oSession

    async def one(client: AsyncH2oSession, room: asyncio.Semaphore) -> None:
        async with room:
            await client.chat(PROMPT)

    async def run() -> float:
        async with AsyncH2oSession(url) as client:
            await client.chat(PROMPT)
            began = time.perf_counter()
            room = asyncio.Semaphore(concurrency)
            await asyncio.gather(*(one(client, room) for _ in range(count)))
            return time.perf_counter() - began

    return asyncio.run(run())


def batch(url: str, count: int, concurrency: int) -> float:
    """Return the seconds with a batch and a journal on disk."""
    from h2o_client import H2oSession

    with tempfile.TemporaryDirectory() as folder, H2oSession(url) as client:
        client.chat(PROMPT)
        began = time.perf_counter()
        prompts = (PROMPT for _ in range(count))
        journal = Path(folder, "journal")
        with client.batch(prompts, concurrency=concurrency, journal=journal) as results:
            answered = sum(each.answer is not None for each in results)
        assert answered == count
        return time.perf_counter() - began


WAYS: dict[str, Callable[[str, int, int], float]] = {"plain": plain, "batch": batch}


def one(way: str, url: str, count: int, concurrency: int) -> dict[str, float]:
    """Measure one run in this process."""
    seconds = WAYS[way](url, count, concurrency)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    return {"rate": count / seconds, "cpu": 1000 * cpu / count, "memory": used.ru_maxrss / 1024}


def measured(way: str, url: str, count: int, concurrency: int) -> dict[str, float]:
    """Measure one run in a separate process."""
    command = [sys.executable, __file__, "--one", way, url, str(count), str(concurrency)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def rates(url: str, concurrency: int, *, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median rate of each way, in prompts per second."""
    runs: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            runs[way].append(measured(way, url, COUNT, concurrency)["rate"])
    return {way: statistics.median(found) for way, found in runs.items()}


def limited(per_minute: int | None) -> dict[str, float]:
    """Measure how much of a server's rate limit is used, and how many messages it refuses."""
    from h2o_client import H2oSession
    from h2o_client.server import Access, EngineFailure, Limits, Turn, serve
    from h2o_client.wire.events import Final, Token

    chance = random.Random(1)
    messages: list[int] = []

    def engine(
        turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        time.sleep(chance.uniform(0.2, 1.0))
        if chance.random() < FAULTS:
            raise EngineFailure("A fault", status=500)
        yield Token("Hello")
        yield Final()

    def note(access: Access) -> None:
        is_message = access.method == "POST" and access.path.count("/") == 2
        if is_message and access.status is not None:
            messages.append(access.status)

    limits = Limits(messages_per_minute=PER_MINUTE)
    with (
        serve(
            engine,
            chat_ui="0.4",
            limits=limits,
            on_access=note,
            quiet=True,
            max_generations=16,
        ) as server,
        H2oSession(server.url) as client,
    ):
        prompts = (f"prompt {number}" for number in range(10 * PER_MINUTE * MINUTES))
        began = time.perf_counter()
        with client.batch(prompts, concurrency=16, per_minute=per_minute) as results:
            threading.Timer(MINUTES * 60, results.stop).start()
            answered = sum(each.answer is not None for each in results)
        minutes = (time.perf_counter() - began) / 60
    taken = sum(status != 429 for status in messages)
    refused = len(messages) - taken
    return {
        "answered": answered,
        "used": taken / (PER_MINUTE * minutes),
        "refused": refused / len(messages),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("rate", "memory", "limited"), default="rate")
    parser.add_argument("--one", nargs=4, metavar=("WAY", "URL", "COUNT", "CONCURRENCY"))
    options = parser.parse_args()
    if options.one:
        way, url, count, concurrency = options.one
        print(json.dumps(one(way, url, int(count), int(concurrency))))
    elif options.what == "limited":
        for per_minute in (PER_MINUTE, None):
            found = limited(per_minute)
            how = "passed" if per_minute else "learned"
            print(
                f"limit of {PER_MINUTE} a minute, {how}: {100 * found['used']:.1f} % used, "
                f"{100 * found['refused']:.2f} % refused",
                flush=True,
            )
    else:
        with prerendered() as url:
            if options.what == "memory":
                found = measured("batch", url, MANY, 32)
                print(f"{MANY} prompts: {found['memory']:.0f} MB, {found['rate']:.0f} a second")
                return
            for concurrency in CONCURRENCY:
                found = rates(url, concurrency)
                ratio = found["batch"] / found["plain"]
                print(
                    f"{concurrency} at once: {found['batch']:.0f} a second, "
                    f"ratio to plain {ratio:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
