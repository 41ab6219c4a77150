"""Parse JSON bodies into typed values. Each dialect has its own types."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from starlette.requests import Request

from h2o_client.server.replies import Refusal
from h2o_client.wire import json

Uuid = Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]

_Body = TypeVar("_Body")


async def read_json(request: Request, shape: type[_Body], *, unfit: str | None = None) -> _Body:
    """Read the request's body. Raises `Refusal` if it does not have the type ``shape``.

    If ``unfit`` is given, valid JSON of another type is refused with status 400 and this text.
    """
    # Like chat-ui's own server, ignore a body without Content-Type.
    body = await request.body() if "content-type" in request.headers else b""
    try:
        return json.read_as(body, shape)
    except json.InvalidJson as exc:
        if unfit and isinstance(exc, json.UnexpectedShape):
            raise Refusal(400, unfit) from None
        raise Refusal() from None
