"""The JSON bodies that the routes take, as typed values."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from starlette.requests import Request

from h2o_client.server.replies import Refusal


class Creation(msgspec.Struct):
    """A new conversation, or with ``from_share`` a copy of a shared one."""

    model: str
    from_share: str | msgspec.UnsetType = msgspec.field(name="fromShare", default=msgspec.UNSET)


class Renaming(msgspec.Struct):
    """A new title."""

    title: str


class Vote(msgspec.Struct):
    """What a user thinks of an answer."""

    score: Literal[-1, 0, 1]


_Uuid = Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


class Options(msgspec.Struct):
    """The options of a question. Absent is fine, null is not."""

    id: _Uuid | msgspec.UnsetType = msgspec.UNSET
    response_id: _Uuid | msgspec.UnsetType = msgspec.UNSET
    is_retry: bool | msgspec.UnsetType = msgspec.UNSET
    web_search_id: str | msgspec.UnsetType = msgspec.UNSET


class Question(msgspec.Struct):
    """A message of the user's."""

    inputs: str
    options: Options
    parameters: dict[str, Any] | None = None
    stream: bool = False


_Body = TypeVar("_Body", bound=msgspec.Struct)


async def read_json(request: Request, shape: type[_Body]) -> _Body:
    """The request's body. Raises `Refusal` where it is none of that shape."""
    # A body without Content-Type is dropped on the way, as by chat-ui's own server.
    body = await request.body() if "content-type" in request.headers else b""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError:
        raise Refusal() from None
