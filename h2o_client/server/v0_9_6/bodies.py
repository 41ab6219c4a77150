"""The shapes of the bodies that the routes take. What they do not know, they ignore."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from h2o_client.server.bodies import Uuid
from h2o_client.server.forms import Form
from h2o_client.server.replies import Refusal
from h2o_client.wire import json


class Creation(msgspec.Struct, rename="camel"):
    """A new conversation, or with ``from_share`` a copy of a shared one."""

    model: str
    preprompt: str | UnsetType = UNSET
    from_share: str | UnsetType = UNSET


class Import(msgspec.Struct, rename="camel"):
    """A copy of a shared conversation."""

    share_id: str


class Change(msgspec.Struct):
    """A new title, another model, both or nothing; of whatever type."""

    title: object | UnsetType = UNSET
    model: object | UnsetType = UNSET


class Question(msgspec.Struct):
    """A message of the user's, after the one called ``id``; or about it, with ``is_retry``."""

    id: Uuid | UnsetType = UNSET
    inputs: Annotated[str, msgspec.Meta(min_length=1)] | UnsetType = UNSET
    is_retry: bool | UnsetType = UNSET
    tools: list[str] | UnsetType = msgspec.field(name="selectedMcpServerNames", default=UNSET)
    timezone: str | UnsetType = UNSET

    @property
    def text(self) -> str:
        """What is asked; nothing where nothing is said."""
        return "" if isinstance(self.inputs, UnsetType) else self.inputs.replace("\r\n", "\n")


_Question = TypeVar("_Question", bound=Question)


def read_question(form: Form, shape: type[_Question]) -> _Question:
    """The question in a message's form. Raises `Refusal` where there is none."""
    if not form.fields.get("data"):
        raise Refusal(400, "Invalid request")
    try:
        return json.read_as(form.fields["data"].encode(), shape)
    except ValueError:
        raise Refusal() from None
