"""The hook for instrumentation. A plugin is notified of each reply's start, events, and end.

Without a plugin, no events are collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from h2o_client.answer.stream import AnswerStream
    from h2o_client.wire.events import Event


class Observation(Protocol):
    """Receives the events of one reply.

    The methods must not raise or block. Different threads may call them.
    """

    def send(self, model: str, prompt: str | None) -> None:
        """The prompt is about to be sent. ``prompt`` is None if its text is not known."""

    def receive(self, events: Iterable[Event]) -> None:
        """These events are about to be returned to the caller."""

    def finish(self, stream: AnswerStream, reason: str, error: BaseException | None) -> None:
        """The reply has ended; ``reason`` is `Reply.finish_reason`. Ignore later calls."""


Observe = Callable[[str], Observation]

_observe: Observe | None = None


def observe_with(observe: Observe | None) -> None:
    """Call ``observe`` with the base URL whenever a reply is opened. None turns that off."""
    global _observe
    _observe = observe


def new_observation(base_url: str) -> Observation | None:
    """Return an observation for a reply that is being opened; None without instrumentation."""
    return None if _observe is None else _observe(base_url)
