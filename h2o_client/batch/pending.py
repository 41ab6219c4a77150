"""The queue of prompts: retries that are due come first, then new prompts from the journal."""

from __future__ import annotations

import heapq
from collections import deque

from h2o_client.batch.journal import Job, Journal

_PAGE = 64
_MOST_RETRIES = 1000  # if more retries wait in memory, no new prompt is sent


class Pending:
    """The queue. Only the thread of the engine uses it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._retries: list[tuple[float, int, Job]] = []
        self._page: deque[Job] = deque()
        self._last = -1
        self._is_at_end = False
        self._count = 0

    def put(self, job: Job, due: float) -> None:
        """Add a prompt that has to be sent again at the time ``due``."""
        self._count += 1
        heapq.heappush(self._retries, (due, self._count, job))

    def next(self, now: float) -> Job | None:
        """Remove and return the next prompt that is due; None if there is none."""
        if self._retries and self._retries[0][0] <= now:
            return heapq.heappop(self._retries)[2]
        if len(self._retries) > _MOST_RETRIES:
            return None
        if not self._page and not self._is_at_end:
            self._page.extend(self._journal.claim(self._last, _PAGE))
            self._is_at_end = len(self._page) < _PAGE
            if self._page:
                self._last = self._page[-1].index
        return self._page.popleft() if self._page else None

    def due_in(self, now: float) -> float | None:
        """Seconds until the next retry is due; None without retries."""
        return max(0.0, self._retries[0][0] - now) if self._retries else None
