"""Dialect F, chat-ui since July 2026: as v0.9.6, with runs that outlive their connection.

The source has no version for it yet. Two things differ for a client of v0.9.6: a stop that comes
late ends the next answer, and an unfinished answer has content. Measured on the build of 2026-08.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote

import msgspec

from h2o_client.dialects.dialect import Ask, Version, conversation_path
from h2o_client.dialects.documents import (
    has_ended,
    mapping,
)
from h2o_client.dialects.v0_9_6 import V0_9_6
from h2o_client.wire import json
from h2o_client.wire.request import Request, get, post_json

_NO_CONVERSATION = "000000000000000000000000"


class Latest(V0_9_6):
    """As v0.9.6, with runs that have an id, and tools that ask the user."""

    letter = "F"
    name = "chat-ui since July 2026"
    first: ClassVar[Version] = (0, 10, 1)
    last: ClassVar[Version] = (99,)
    late_stops_abort = True
    keeps_runs = True
    # Here a connection that is taken for dead too early costs one request for the log, which is
    # never silent either. Busy servers were seen to pause for over 2 s.
    head_within: ClassVar[float | None] = 30.0
    longest_silence: ClassVar[float | None] = 5.0

    def is_finished(self, message: Mapping[str, object]) -> bool:
        """What has come of an answer is stored every three seconds: content says nothing."""
        return has_ended(message)

    def answer_elicitation(
        self,
        conversation_id: str,
        elicitation_id: str,
        action: str,
        content: Mapping[str, object] | None,
    ) -> Ask[bool]:
        document: dict[str, object] = {"elicitationId": elicitation_id, "action": action}
        if content is not None:
            document["content"] = dict(content)
        request = post_json(conversation_path(conversation_id) + "/elicitation", document)
        return Ask(request, lambda body: mapping(json.read(body)).get("resume") is True)

    def run_log(self, conversation_id: str, run_id: str, *, after: int, budget: str) -> Request:
        """Server-sent events: see `wire.runlog`. As fromSeq, for some proxies drop the header."""
        path = f"{conversation_path(conversation_id)}/stream?generationId={quote(run_id, safe='')}"
        request = get(f"{path}&fromSeq={after}", budget=budget)
        # Whoever reads it asks again by itself.
        return msgspec.structs.replace(request, safe=False)

    def running(self) -> Request:
        return get("/api/v2/generations/live")


def resume_probe() -> Request:
    """A request that only servers with runs answer in JSON: nothing is there to be resumed."""
    return get(conversation_path(_NO_CONVERSATION) + "/stream")
