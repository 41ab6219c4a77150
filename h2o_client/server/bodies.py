"""A JSON body comes in, a typed value goes out. Each dialect has shapes of its own."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from starlette.requests import Request

from h2o_client.server.replies import Refusal
from h2o_client.wire import json

Uuid = Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]

_Body = TypeVar("_Body")


async def read_json(request: Request, shape: type[_Body], *, unfit: str | None = None) -> _Body:
    """The request's body. Raises `Refusal` where it is none of that shape.

    For JSON of another shape it has status 400 where ``unfit`` says why.
    """
    # A body without Content-Type is dropped on the way, as by chat-ui's own server.
    body = await request.body() if "content-type" in request.headers else b""
    try:
        return json.read_as(body, shape)
    except json.InvalidJson as exc:
        if unfit and isinstance(exc, json.UnexpectedShape):
            raise Refusal(400, unfit) from None
        raise Refusal() from None
