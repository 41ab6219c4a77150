"""The hook for instrumentation: who is told of each reply, from its opening to its end.

Nobody is, unless a plugin has called `observe_with`; a reply then costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from h2o_client.answer.stream import AnswerStream
    from h2o_client.wire.events import Event


class Observation(Protocol):
    """What is told of one reply. No method may raise or wait; threads may differ."""

    def send(self, model: str, prompt: str | None) -> None:
        """The prompt is about to be sent; None if its text is not known here."""

    def receive(self, events: Iterable[Event]) -> None:
        """The caller is handed these events."""

    def finish(self, stream: AnswerStream, reason: str, error: BaseException | None) -> None:
        """The reply has ended: see `Reply.finish_reason`. Only the first call counts."""


Observe = Callable[[str], Observation]

_observe: Observe | None = None


def observe_with(observe: Observe | None) -> None:
    """Have ``observe`` called with the base URL for each reply that is opened; None ends that."""
    global _observe
    _observe = observe


def new_observation(base_url: str) -> Observation | None:
    """An observation of a reply that is being opened; None if nobody observes."""
    return None if _observe is None else _observe(base_url)
