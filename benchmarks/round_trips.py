"""Count the round trips of a prompt until its first token, and until the end of `chat`.

The server delays each response by 50 ms, one round trip. The session has sent a prompt before.
Later turns are measured only on the newest chat-ui: up to v0.6, a message has to wait until the
previous answer is stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prerendered import MODEL, prerendered

if TYPE_CHECKING:
    from h2o_client import H2oSession

ROUND_TRIP = 0.05
ROUNDS = 5
PROMPT = "flood 20"
_PREPARED_WITHIN = 4 * ROUND_TRIP


def one_shot(client: H2oSession) -> tuple[float, float]:
    began = time.perf_counter()
    with client.stream(PROMPT) as reply:
        next(reply)
        first = time.perf_counter() - began
    began = time.perf_counter()
    client.chat(PROMPT)
    return first, time.perf_counter() - began


def prepared(client: H2oSession) -> tuple[float, float]:
    """Like `one_shot`, with a conversation that was created ahead."""
    time.sleep(_PREPARED_WITHIN)
    began = time.perf_counter()
    with client.stream(PROMPT) as reply:
        next(reply)
        first = time.perf_counter() - began
        reply.read()
    time.sleep(_PREPARED_WITHIN)
    began = time.perf_counter()
    client.chat(PROMPT)
    return first, time.perf_counter() - began


def later_turn(client: H2oSession) -> tuple[float, float]:
    with client.conversation() as chat:
        chat.chat(PROMPT)
        time.sleep(_PREPARED_WITHIN)  # a user reads the answer
        began = time.perf_counter()
        with chat.stream(PROMPT) as reply:
            next(reply)
            first = time.perf_counter() - began
            reply.read()
        time.sleep(_PREPARED_WITHIN)
        began = time.perf_counter()
        chat.chat(PROMPT)
        return first, time.perf_counter() - began


WAYS: dict[str, Callable[[H2oSession], tuple[float, float]]] = {
    "one-shot": one_shot,
    "later turn": later_turn,
    "prepared one-shot": prepared,
}


AT_MOST = {"one-shot": (2.1, 2.1), "later turn": (1.2, 2.2), "prepared one-shot": (1.2, 1.2)}
"""Round trips until the first token, and until the end of `chat`."""


def fewest(version: str) -> dict[str, tuple[float, float]]:
    """Return the round trips until the first token, and until the end of `chat`, for each way.

    The result is the minimum of several runs, because a busy machine adds delays.
    """
    from h2o_client import H2oSession

    found = {}
    with prerendered(delay=ROUND_TRIP) as url:
        for name, way in WAYS.items():
            if way is later_turn and version == "0.4":
                continue
            ahead = int(way is prepared)
            with H2oSession(url, server_version=version, model=MODEL, prepare=ahead) as client:
                client.chat(PROMPT)
                runs = [way(client) for _ in range(ROUNDS)]
            firsts, ends = zip(*runs, strict=True)
            found[name] = (
                min(firsts) / ROUND_TRIP,
                min(ends) / ROUND_TRIP,
            )
    return found


def main() -> None:
    for version in ("0.4", "latest"):
        for name, (first, end) in fewest(version).items():
            print(
                f"chat-ui {version:6} {name:17} {first:5.2f} round trips until first token, "
                f"{end:5.2f} until end of chat()"
            )


if __name__ == "__main__":
    main()
