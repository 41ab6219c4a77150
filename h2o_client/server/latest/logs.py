"""The logs of all runs, by conversation; bounded."""

from __future__ import annotations

from functools import partial

from h2o_client.server.latest.log import Log


class Logs:
    """Keeps the logs of what runs, and ``most`` bytes of those that have ended: the eldest go."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._logs: dict[str, dict[str, Log]] = {}
        self._ended: dict[Log, str] = {}
        self._size = 0

    def add(self, conversation_id: str, log: Log) -> None:
        """Keep the log of a run that has begun in the conversation."""
        self._logs.setdefault(conversation_id, {})[log.generation_id] = log
        log.closed = partial(self._close, conversation_id, log)

    def find(self, conversation_id: str, generation_id: str) -> Log | None:
        """The log of a run, or of the conversation's last where no id is given; or None."""
        logs = self._logs.get(conversation_id, {})
        if generation_id:
            return logs.get(generation_id)
        return next(reversed(logs.values()), None)

    def running(self) -> list[tuple[str, Log]]:
        """Those of the runs that have not ended, each behind its conversation's id."""
        return [
            (conversation_id, log)
            for conversation_id, logs in self._logs.items()
            for log in logs.values()
            if log.status is None
        ]

    def forget(self, conversation_id: str) -> None:
        """The conversation has been deleted."""
        for log in self._logs.pop(conversation_id, {}).values():
            if self._ended.pop(log, None) is not None:
                self._size -= log.size

    def _close(self, conversation_id: str, log: Log) -> None:
        if self._logs.get(conversation_id, {}).get(log.generation_id) is not log:
            return  # forgotten meanwhile
        self._ended[log] = conversation_id
        self._size += log.size
        while self._size > self._most:
            self._expire(next(iter(self._ended)))

    def _expire(self, log: Log) -> None:
        conversation_id = self._ended.pop(log)
        self._size -= log.size
        del self._logs[conversation_id][log.generation_id]
        if not self._logs[conversation_id]:
            del self._logs[conversation_id]
