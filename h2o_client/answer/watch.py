"""Keep an answer's socket open while an event loop watches it."""

from __future__ import annotations

from collections.abc import Callable

from h2o_client.transport.locks import Flag, Guard


class Watch:
    """Says whether a file descriptor is watched, and delays closing it until it is not.

    If it were closed earlier, another connection could get the same number, and the watcher would
    mistake the data of that connection for data of this one.
    """

    def __init__(self) -> None:
        # Guards the next three attributes: watching cannot start once this is closed.
        self._lock = Guard()
        self.is_watched: bool = False
        self._is_closed = False
        self._is_alive: Callable[[], bool] = bool
        self._stopped = Flag()  # wakes `close`
        self._response: object = None  # the response that the descriptor belongs to
        self._descriptor: int | None = None

    def start(
        self,
        response: object,
        find: Callable[[], int | None],
        is_alive: Callable[[], bool],
    ) -> int | None:
        """Start watching the descriptor of ``response`` and return it; None if there is none.

        ``find`` returns the descriptor, and is called once for each response. ``is_alive`` tells
        whether the watcher still runs, and so can stop watching.
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
        """Note that the descriptor is no longer watched."""
        self.is_watched = False
        if self._is_closed:
            self._stopped.set()

    def close(self, seconds: float) -> None:
        """Prevent new watching, and wait at most ``seconds`` until the current watching stops."""
        with self._lock:
            self._is_closed = True
        if self.is_watched and self._is_alive():
            self._stopped.wait(seconds)
