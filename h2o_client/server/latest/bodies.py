"""The shapes of the bodies that only the newest chat-ui takes."""

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
    """A message, which names its run; or what a message that was put off goes on with."""

    generation_id: Uuid | UnsetType = msgspec.field(name="generationId", default=UNSET)
    resumes: Uuid | UnsetType = msgspec.field(name="resumeElicitationId", default=UNSET)


class Stop(msgspec.Struct, rename="camel"):
    """Which run is to be stopped, and how much of it its reader has seen, in UTF-16 units."""

    generation_id: str | UnsetType = UNSET
    seen: float | UnsetType = msgspec.field(name="seenContentLength", default=UNSET)


class Elicited(msgspec.Struct, rename="camel"):
    """What a user answers to what a tool has asked."""

    elicitation_id: Uuid
    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | UnsetType = UNSET


async def read_stop(request: Request) -> Stop:
    """The body of a stop, which may say nothing, or something else."""
    try:
        return json.read_as(await request.body(), Stop)
    except json.InvalidJson:
        return Stop()


async def expect_elicited(request: Request) -> None:
    """Raises `Refusal` where the body is no answer to what was asked."""
    try:
        json.read_as(await request.body(), Elicited)
    except json.InvalidJson:
        raise Refusal(400, "Invalid elicitation response") from None
