"""Requests for answers that outlive their connection, on chat-ui since July 2026."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from h2o_client.dialects.conversation_requests import conversation_path
from h2o_client.errors import TimeoutName
from h2o_client.wire.request import Request, get

_NO_CONVERSATION = "000000000000000000000000"


def run_log_request(
    conversation_id: str, run_id: str, *, after: int, budget: TimeoutName
) -> Request:
    """The log of a run as server-sent events, after update number ``after``. See `wire.runlog`.

    ``budget`` is the response's timeout.
    """
    path = f"{conversation_path(conversation_id)}/stream?generationId={quote(run_id, safe='')}"
    # Uses fromSeq, because some proxies drop the header Last-Event-ID.
    request = get(f"{path}&fromSeq={after}", budget=budget)
    # The reader of the log retries by itself.
    return msgspec.structs.replace(request, safe=False)


def running_request() -> Request:
    """The list of running answers, which the server sends repeatedly."""
    return get("/api/v2/generations/live")


def resume_probe() -> Request:
    """A request that only servers with runs answer in JSON. It has no effect."""
    return get(conversation_path(_NO_CONVERSATION) + "/stream")
