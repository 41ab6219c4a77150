"""Measure the time to the first token, with a round-trip time of 50 ms (added by the server).

The comparison is with gpt4free's requests: settings, creation and message, each on a new
connection.
"""

from __future__ import annotations

import json
import statistics
import time

from prerendered import ID, MODEL, prerendered

ROUND_TRIP = 0.05
ROUNDS = 7


def warm(url: str) -> float:
    """A session that has sent a prompt before."""
    from h2o_client import H2oSession

    with H2oSession(url) as client:
        client.chat("flood 1")
        return _first(client)


def cold(url: str) -> float:
    """A new session with the argument ``server_version``."""
    from h2o_client import H2oSession

    began = time.perf_counter()
    _connected()  # once: all requests share the connection
    with H2oSession(url, server_version="0.4", model=MODEL) as client:
        return _first(client, began)


def _first(client: object, began: float | None = None) -> float:
    from h2o_client import H2oSession

    assert isinstance(client, H2oSession)
    began = time.perf_counter() if began is None else began
    with client.stream("flood 1") as reply:
        next(reply)
        return time.perf_counter() - began


def gpt4free(url: str) -> float:
    """The requests of gpt4free's provider; each new connection adds a round trip."""
    import requests

    began = time.perf_counter()
    cookies = requests.post(
        f"{url}/settings",
        data={"ethicsModalAccepted": "true", "activeModel": MODEL},
        timeout=10,
        allow_redirects=False,
    ).cookies
    _connected()
    requests.post(f"{url}/conversation", json={"model": MODEL}, cookies=cookies, timeout=10)
    _connected()
    with requests.post(
        f"{url}/conversation/{ID}",
        json={"inputs": "flood 1"},
        cookies=cookies,
        stream=True,
        timeout=10,
    ) as response:
        _connected()
        for line in response.iter_lines():
            if line.startswith(b"data:"):
                json.loads(line[5:])
                return time.perf_counter() - began
    raise AssertionError("no token came")


def _connected() -> None:
    # The server delays responses only, but opening a connection is a round trip too.
    time.sleep(ROUND_TRIP)


def medians() -> dict[str, float]:
    """Return the median seconds of each way; they run in turn."""
    ways = {"warm session": warm, "cold session": cold, "gpt4free": gpt4free}
    runs: dict[str, list[float]] = {name: [] for name in ways}
    with prerendered(delay=ROUND_TRIP) as url:
        for turn in range(ROUNDS + 1):
            for name, way in ways.items():
                seconds = way(url)
                if turn:
                    runs[name].append(seconds)
    return {name: statistics.median(found) for name, found in runs.items()}


def main() -> None:
    found = medians()
    for name, seconds in found.items():
        ratio = seconds / found["gpt4free"]
        print(f"{name:13} {1000 * seconds:6.1f} ms, ratio to gpt4free {ratio:.2f}")


if __name__ == "__main__":
    main()
