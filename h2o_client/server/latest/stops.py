"""Stop running answers, or the next one if none is running."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from msgspec import UNSET

from h2o_client.server.latest.bodies import Stop
from h2o_client.server.v0_9_6.runs import Run

_MARK_LASTS = 5.0  # seconds
_STOPPED_AFTER = 0.3  # seconds


class Stops:
    """Stops runs.

    A stop without a running answer marks the conversation for five seconds. A run that starts in
    this time is stopped after 0.3 s, and removes the mark.
    """

    def __init__(self) -> None:
        self._marks: dict[str, float] = {}

    async def stop(self, conversation_id: str, runs: Sequence[Run], asked: Stop) -> None:
        """Stop the conversation's running ``runs``, and wait until they are stored."""
        running = [run for run in runs if run.is_running]
        if not running:
            self._mark(conversation_id)
        for run in running:
            await run.stop(partial(_seen, run, asked))

    def note_start(self, run: Run) -> None:
        """Note that a run has started. A mark stops it."""
        if run.name in self._marks and self._marks[run.name] > _now():
            loop = asyncio.get_running_loop()
            loop.call_later(_STOPPED_AFTER, self._stop_marked, run)

    def forget(self, conversation_id: str) -> None:
        """Remove the mark of a deleted conversation."""
        self._marks.pop(conversation_id, None)

    def _mark(self, conversation_id: str) -> None:
        moment = _now()
        self._marks = {name: ends for name, ends in self._marks.items() if ends > moment}
        self._marks[conversation_id] = moment + _MARK_LASTS

    def _stop_marked(self, run: Run) -> None:
        if run.is_running and self._marks.pop(run.name, None) is not None:
            run.abort()


def _seen(run: Run, asked: Stop, text: str) -> str:
    # Cut the text to what the client has received, if the stop is for this run.
    if asked.generation_id != run.updates.generation_id or asked.seen is UNSET:
        return text
    units = text.encode("utf-16-le", "surrogatepass")[: 2 * max(0, int(asked.seen))]
    # "ignore" drops half of a surrogate pair at the end.
    return units.decode("utf-16-le", "ignore")


def _now() -> float:
    return asyncio.get_running_loop().time()
