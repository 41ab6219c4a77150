"""An event loop that watches an answer's socket, and closing that waits until it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable

from h2o_client.transport.locks import Guard


class Watch:
    """Whether somebody watches a descriptor: then it is not closed before they have stopped.

    Another connection could get the same number, and the watcher would take it for this one.
    """

    def __init__(self) -> None:
        self._lock = Guard()  # guards the three below, so that nobody starts once it is closed
        self.is_watched: bool = False
        self._is_closed = False
        self._is_alive: Callable[[], bool] = bool
        self._stopped = threading.Event()  # set only for `close`, which waits
        self._response: object = None  # of which the descriptor is
        self._descriptor: int | None = None

    def start(
        self,
        response: object,
        find: Callable[[], int | None],
        is_alive: Callable[[], bool],
    ) -> int | None:
        """Start watching the descriptor of ``response``, and return it; None if that cannot be.

        ``find`` finds it, once for each response. ``is_alive`` tells whether the watcher can stop.
        """
        with self._lock:
            if self._is_closed:
                return None
            if self._response is not response or self._descriptor is None:
                self._response, self._descriptor = response, find()
            if self._descriptor is not None:
                self.is_watched, self._is_alive = True, is_alive
            return self._descriptor

    def stop(self) -> None:
        """The descriptor is not watched any more."""
        self.is_watched = False
        if self._is_closed:
            self._stopped.set()

    def close(self, seconds: float) -> None:
        """Let nobody start any more; wait, for at most ``seconds``, until nobody watches."""
        with self._lock:
            self._is_closed = True
        if self.is_watched and self._is_alive():
            self._stopped.wait(seconds)
