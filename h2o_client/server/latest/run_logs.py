"""The logs of runs: numbered updates, which any client can read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec

from h2o_client.server.records import Streamed, Update
from h2o_client.server.v0_9_6.answer_updates import AnswerUpdates, units
from h2o_client.wire import updates
from h2o_client.wire.events import Failure, Final, Status

_JOINED_WITHIN = 0.2  # seconds; tokens that arrive within this time become one update
_LONGEST_UPDATE = 64 * 1024  # characters, after which the update is written earlier


class Log(AnswerUpdates):
    """The updates of a run, numbered from 1. ``status`` says how it ended, None while it runs.

    ``closed`` is called at the end.
    """

    def __init__(self, generation_id: str) -> None:
        super().__init__(generation_id)
        self.status: str | None = None
        self.size: int = 0
        self.closed: Callable[[], None] = _ignore
        self._documents: list[bytes] = []
        self._said: list[str] = []
        self._length = 0
        self._due: asyncio.TimerHandle | None = None
        self._grown = asyncio.Event()

    def add_text(self, text: str) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_JOINED_WITHIN, self._write_said)
        self._said.append(text)
        self._length += len(text)
        if self._length >= _LONGEST_UPDATE:
            self._write_said()

    def add(self, update: Update) -> None:
        self._write_said()
        assert not isinstance(update, Streamed)
        self._write(update, updates.write(update).rstrip(b"\n"))

    def all(self) -> tuple[Update, ...]:
        self._write_said()
        return super().all()

    def close(self) -> None:
        self._write_said()
        self.status = _status(self._updates)
        self.closed()
        self._notify()

    def document(self, number: int) -> bytes | None:
        """The update with that number in JSON; None if it does not exist yet."""
        return self._documents[number - 1] if 0 < number <= len(self._documents) else None

    async def more(self, seconds: float) -> bool:
        """Wait for another update or the end. Return False if neither comes in that time."""
        try:
            await asyncio.wait_for(self._grown.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    def _write_said(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
            text = "".join(self._said)
            self._said.clear()
            self._length = 0
            # Without padding, which only the response to the run's own client has.
            document = msgspec.json.encode({"type": "stream", "token": text})
            self._write(Streamed(units(text)), document)

    def _write(self, update: Update, document: bytes) -> None:
        super().add(update)
        self._documents.append(document)
        self.size += len(document)
        self._notify()

    def _notify(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


class Logs:
    """Stores the logs of running answers, and ``most`` bytes of the latest ended ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._logs: dict[str, dict[str, Log]] = {}
        self._ended: dict[Log, str] = {}
        self._size = 0

    def add(self, conversation_id: str, log: Log) -> None:
        """Add the log of a new run in the conversation."""
        self._logs.setdefault(conversation_id, {})[log.generation_id] = log
        log.closed = partial(self._close, conversation_id, log)

    def find(self, conversation_id: str, generation_id: str) -> Log | None:
        """The log of a run, or None. Without an id: the log of the conversation's last run."""
        logs = self._logs.get(conversation_id, {})
        if generation_id:
            return logs.get(generation_id)
        return next(reversed(logs.values()), None)

    def running(self) -> list[tuple[str, Log]]:
        """The ids of conversations with running answers, and their logs."""
        return [
            (conversation_id, log)
            for conversation_id, logs in self._logs.items()
            for log in logs.values()
            if log.status is None
        ]

    def forget(self, conversation_id: str) -> None:
        """Remove the logs of a deleted conversation."""
        for log in self._logs.pop(conversation_id, {}).values():
            if self._ended.pop(log, None) is not None:
                self._size -= log.size

    def _close(self, conversation_id: str, log: Log) -> None:
        if self._logs.get(conversation_id, {}).get(log.generation_id) is not log:
            return  # removed in the meantime
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


def _status(told: list[Update]) -> str:
    if any(isinstance(each, Failure) for each in told):
        return "error"
    if any(isinstance(each, Final) and each.interrupted for each in told):
        return "interrupted"
    return "completed" if Status("finished") in told else "interrupted"


def _ignore() -> None:
    return None
