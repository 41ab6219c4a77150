"""The events of the two event streams: the log of a run, and the session's running answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from h2o_client.server.latest.event_stream import Frames
from h2o_client.server.latest.run_logs import Log, Logs
from h2o_client.server.store import Store
from h2o_client.wire.runlog import write_end, write_update
from h2o_client.wire.sse import write_comment, write_event

_HEARTBEAT = write_comment(" heartbeat")
_HEARTBEAT_EVERY = 0.26
_TICK = 2.0
_IDLE = 2


async def of_log(log: Log, after: int) -> Frames:
    """Yield the updates after the number ``after`` as they arrive, heartbeats, and the end."""
    number = after + 1
    while True:
        while (document := log.document(number)) is not None:
            yield write_update(number, document)
            number += 1
        if log.status is not None:
            break
        if not await log.more(_HEARTBEAT_EVERY):
            yield _HEARTBEAT
    yield write_end(log.status)


async def of_no_log(status: str) -> Frames:
    """Yield only the end."""
    yield write_end(status)


async def of_all(store: Store, logs: Logs, session: str) -> Frames:
    """Yield, every two seconds, the session's running answers and those that have just ended.

    The stream ends when there is no running answer twice in a row.
    """
    before: list[tuple[str, Log]] = []
    idle = 0
    while True:
        running = [
            (conversation_id, log)
            for conversation_id, log in logs.running()
            if store.conversation(session, conversation_id) is not None
        ]
        ended = [each for each in before if each[1].status is not None]
        yield _json(
            "sync",
            {"running": _listed(store, session, running), "ended": _listed(store, session, ended)},
        )
        before = running
        idle = 0 if running else idle + 1
        if idle == _IDLE:
            break
        await asyncio.sleep(_TICK)
    yield _json("idle", {})


def _listed(store: Store, session: str, runs: Sequence[tuple[str, Log]]) -> list[Mapping[str, str]]:
    # Deleted conversations are left out.
    found = [(store.conversation(session, each), log.status) for each, log in runs]
    return [
        {
            "conversationId": conversation.id,
            **({} if status is None else {"status": status}),
            "title": conversation.title,
        }
        for conversation, status in found
        if conversation is not None
    ]


def _json(event: str, document: Mapping[str, object]) -> bytes:
    # chat-ui sends a space here, which clients ignore.
    return write_event(b" " + msgspec.json.encode(document), event=event)
