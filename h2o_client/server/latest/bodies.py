"""The types of the bodies that only the latest chat-ui accepts."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request

from h2o_client.server.bodies import Uuid
from h2o_client.server.replies import Refusal
from h2o_client.server.v0_9_6 import bodies
from h2o_client.wire import json


class Question(bodies.Question):
    """A message with the id of its run, or the continuation of a message after an elicitation."""

    generation_id: Uuid | UnsetType = msgspec.field(name="generationId", default=UNSET)
    resumes: Uuid | UnsetType = msgspec.field(name="resumeElicitationId", default=UNSET)


class Stop(msgspec.Struct, rename="camel"):
    """The run to stop, and how much of its text the client has received, in UTF-16 units."""

    generation_id: str | UnsetType = UNSET
    seen: float | UnsetType = msgspec.field(name="seenContentLength", default=UNSET)


class Elicited(msgspec.Struct, rename="camel"):
    """A user's answer to an elicitation."""

    elicitation_id: Uuid
    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | UnsetType = UNSET


async def read_stop(request: Request) -> Stop:
    """Read the body of a stop, which may be empty or invalid."""
    try:
        return json.read_as(await request.body(), Stop)
    except json.InvalidJson:
        return Stop()


async def expect_elicited(request: Request) -> None:
    """Raise `Refusal` if the body is not an answer to an elicitation."""
    try:
        json.read_as(await request.body(), Elicited)
    except json.InvalidJson:
        raise Refusal(400, "Invalid elicitation response") from None
