"""The types of the JSON bodies of requests."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from h2o_client.server.bodies import Uuid


class Creation(msgspec.Struct):
    """A new conversation, or with ``from_share`` a copy of a shared one."""

    model: str
    from_share: str | msgspec.UnsetType = msgspec.field(name="fromShare", default=msgspec.UNSET)


class Renaming(msgspec.Struct):
    """A new title."""

    title: str


class Vote(msgspec.Struct):
    """A user's vote for an answer."""

    score: Literal[-1, 0, 1]


class Options(msgspec.Struct):
    """The options of a prompt. They may be missing, but not null."""

    id: Uuid | msgspec.UnsetType = msgspec.UNSET
    response_id: Uuid | msgspec.UnsetType = msgspec.UNSET
    is_retry: bool | msgspec.UnsetType = msgspec.UNSET
    web_search_id: str | msgspec.UnsetType = msgspec.UNSET


class Question(msgspec.Struct):
    """A message of the user."""

    inputs: str
    options: Options
    parameters: dict[str, Any] | None = None
    stream: bool = False
