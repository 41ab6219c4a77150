"""`make bench`: every benchmark, one table of ratios, and one picture.

The ratios compare this library with others in the same run, on this machine. They are written to
``results.json`` and ``results.png`` in this folder, which are not in the repository.
"""

from __future__ import annotations

import json
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import async_stream
import blocking_stream
import first_token
import gateway_cost
import growth
import imports
import lateness
import many_streams
import memory
import prompt
import round_trips
from prerendered import prerendered

HERE = Path(__file__).parent
PACKAGES = ("h2o-chat", "requests", "msgspec", "aiohttp", "httpx", "httpx-sse", "huggingface_hub")


class Row(NamedTuple):
    """A result and its limit."""

    what: str
    rival: str
    figure: float
    most: float
    unit: str = ""


def blocking(url: str) -> list[Row]:
    """CPU per token of the blocking stream."""
    most = {
        "socket + msgspec": 3.0,
        "requests": 0.45,
        "httpx-sse": 0.20,
        "huggingface_hub": 0.06,
    }
    stricter = {("one chunk per token", "requests"): 0.40, ("JSON lines", "requests"): 0.40}
    rows = []
    for case, (wanted, clients) in blocking_stream.CASES.items():
        found = blocking_stream.medians(url, wanted, clients)
        for rival in clients:
            if rival != "h2o-chat":
                ratio = found["h2o-chat"] / found[rival]
                limit = stricter.get((case, rival), most[rival])
                rows.append(Row(f"CPU per token, {case}", rival, ratio, limit))
    return rows


def asynchronous(url: str) -> list[Row]:
    """CPU per token of the async stream, and the delay of its tokens."""
    rows = []
    for streams, tokens in async_stream.FLOODS:
        found = async_stream.medians(url, f"flood {tokens}", streams, ["h2o-chat", "aiohttp"])
        ratio = found["h2o-chat"]["cpu"] / found["aiohttp"]["cpu"]
        what = f"async, {streams} stream{'s' * (streams > 1)} at full speed"
        rows.append(Row(f"CPU per token, {what}", "aiohttp", ratio, 0.8))
    streams, rate, tokens = async_stream.TRICKLE
    wanted = f"trickle {rate} {tokens}"
    found = async_stream.medians(url, wanted, streams, ["h2o-chat", "aiohttp"])
    ratio = found["h2o-chat"]["cpu"] / found["aiohttp"]["cpu"]
    what = f"async, {streams} streams, {rate} tokens/s"
    ours = found["h2o-chat"]
    return [
        *rows,
        Row(f"CPU per token, {what}", "aiohttp", ratio, 2.0),
        Row(f"median delay, {what}", "", ours["median"], 20, "ms"),
        Row(f"99th percentile delay, {what}", "", ours["p99"], 100, "ms"),
    ]


def gateway(url: str) -> list[Row]:
    """The additional cost of the gateway, compared with the client alone."""
    floods = gateway_cost.cpu(url, gateway_cost.FLOODS)
    rows = [
        Row(f"additional CPU per token, gateway, {what}", "the client", figures["over"], 10, "us")
        for what, figures in floods.items()
    ]
    over = gateway_cost.first_tokens(url)["over"]
    return [*rows, Row("additional time to first token, gateway", "the client", over, 3, "ms")]


def others(url: str) -> list[Row]:
    """Times to the first token, delays, imports and memory."""
    first = first_token.medians()
    late = lateness.medians()
    importing = imports.ratios()
    rows = [
        Row(f"time to first token, {way}", "gpt4free", first[way] / first["gpt4free"], most)
        for way, most in (("warm session", 0.70), ("cold session", 1.05))
    ]
    return [
        *rows,
        Row(
            "additional delay of a token",
            "raw socket",
            late["h2o-chat"] - late["raw socket"],
            1,
            "ms",
        ),
        Row("time of import h2o_client", "import requests", importing["h2o_client"], 1.35),
        Row("time of import H2oSession", "import requests", importing["H2oSession"], 1.35),
        Row(
            "memory for a million tokens, without the text",
            "",
            memory.beyond_the_text(url),
            10,
            "MB",
        ),
    ]


def prompts(url: str) -> list[Row]:
    """CPU and round trips of a short prompt, and the cost of thousands of streams."""
    rows = []
    for era in prompt.VERSIONS:
        for at_once in (0, 32):
            rival, most = ("aiohttp", 2.0) if at_once else ("requests", 0.7)
            found = prompt.medians(url, era, at_once, rounds=3)
            face = f"async, {at_once} at once" if at_once else "blocking"
            ratio = found["h2o-chat"]["cpu"] / found[rival]["cpu"]
            rows.append(Row(f"CPU per prompt, {era}, {face}", rival, ratio, most))
    for way, (first, end) in round_trips.fewest("latest").items():
        to_first, to_end = round_trips.AT_MOST[way]
        rows.append(Row(f"round trips until first token, {way}", "", first, to_first))
        rows.append(Row(f"round trips until end of chat(), {way}", "", end, to_end))
    for streams in many_streams.STREAMS:
        figures = many_streams.figures(url, streams)
        what = f"{streams:,} async streams"
        rows.append(Row(f"memory per stream, {what}", "", figures["kilobytes"], 20, "KB"))
        rows.append(Row(f"99th percentile delay, {what}", "", figures["p99"], 50, "ms"))
    return rows


def drawn(rows: list[Row], curves: dict[str, growth.Points]) -> None:
    """Draw the ratios, and the cost of growing work."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(1, 1 + len(curves), figsize=(6 + 4 * len(curves), 7))
    ratios = [row for row in rows if row.rival and not row.unit]
    names = [f"{row.what} / {row.rival}" for row in ratios]
    places[0].barh(names, [row.figure / row.most for row in ratios])
    places[0].axvline(1.0, color="black")
    places[0].invert_yaxis()
    places[0].set_title("result / limit")
    for place, (name, points) in zip(places[1:], curves.items(), strict=True):
        place.loglog([amount for amount, _ in points], [cost for _, cost in points], marker="o")
        place.set_title(f"CPU seconds for {name}")
    figure.tight_layout()
    figure.savefig(HERE / "results.png", dpi=100)


def main() -> int:
    with prerendered() as url:
        rows = blocking(url) + asynchronous(url) + prompts(url) + gateway(url) + others(url)
        curves = {name: measure(url) for name, measure in growth.MEASURES.items()}
    rows += [
        Row(f"cost growth, {name}", "previous size", growth.steepness(points), 2.0)
        for name, points in curves.items()
    ]
    versions = {name: version(name) for name in PACKAGES}
    (HERE / "results.json").write_text(
        json.dumps(
            {
                "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "python": platform.python_version(),
                "versions": versions,
                "rows": [row._asdict() for row in rows],
                "growth": curves,
            },
            indent=1,
        ),
        encoding="utf-8",
    )
    drawn(rows, curves)
    print(f"Python {platform.python_version()}, {', '.join(map(' '.join, versions.items()))}\n")
    print(f"{'measurement':59} {'compared with':17} {'result':>9} {'limit':>9}")
    for row in rows:
        figure = f"{row.figure:.2f}{' ' + row.unit if row.unit else ''}"
        print(f"{row.what:59} {row.rival:17} {figure:>9} {row.most:>9.2f}")
    missed = [row.what for row in rows if row.figure > row.most]
    print(f"\n{len(missed)} of {len(rows)} above the limit: {', '.join(missed) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
