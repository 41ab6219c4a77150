"""How the cost grows with the number of tokens, of concurrent streams, and of bytes in a line."""

from __future__ import annotations

import asyncio
import time

from prerendered import prerendered

TOKENS = (10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
STREAMS = (1, 10, 100, 1_000)
LINES = (1 << 10, 1 << 14, 1 << 18, 1 << 20, 1 << 22, 1 << 24)

Points = list[tuple[int, float]]
"""Pairs of the amount of work and the CPU seconds."""


def by_tokens(url: str) -> Points:
    """Measure one stream of so many tokens."""
    from h2o_client import H2oSession

    found = []
    with H2oSession(url) as client:
        client.chat("flood 1000")
        for count in TOKENS:
            began = time.process_time()
            with client.stream(f"flood {count} blocks") as reply:
                for _ in reply:
                    pass
            found.append((count, time.process_time() - began))
    return found


def by_streams(url: str) -> Points:
    """Measure so many concurrent streams of a hundred tokens, in asyncio."""
    from h2o_client import AsyncH2oSession

    async def run(count: int) -> float:
        async with AsyncH2oSession(url) as client:
            await client.chat("flood 1")
            began = time.process_time()
            answers = await asyncio.gather(*(client.chat("flood 100") for _ in range(count)))
            assert len(answers) == count
            return time.process_time() - began

    return [(count, asyncio.run(run(count))) for count in STREAMS]


def by_line(url: str) -> Points:
    """Measure one token of so many bytes."""
    from h2o_client import H2oSession

    found = []
    with H2oSession(url) as client:
        client.chat("flood 1000")
        for size in LINES:
            began = time.process_time()
            # A line may have 16 MiB, including the JSON around the text.
            assert len(client.chat(f"line {size - 200}").text) == size - 200
            found.append((size, time.process_time() - began))
    return found


def steepness(points: Points) -> float:
    """The cost of a unit at the largest size, divided by its cost at the previous size."""
    (before, cost_before), (after, cost_after) = points[-2:]
    return (cost_after / after) / (cost_before / before)


MEASURES = {
    "tokens of a stream": by_tokens,
    "concurrent streams": by_streams,
    "bytes of a line": by_line,
}


def main() -> None:
    with prerendered() as url:
        for name, measure in MEASURES.items():
            points = measure(url)
            print(name)
            for amount, seconds in points:
                print(f"  {amount:12,} {seconds:9.4f} s, {1e6 * seconds / amount:9.3f} us each")
            print(f"  cost growth: {steepness(points):.2f}")


if __name__ == "__main__":
    main()
