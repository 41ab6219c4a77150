"""The types of the bodies of requests. Unknown fields are ignored."""

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
    """A new title, another model, both or nothing, of any type."""

    title: object | UnsetType = UNSET
    model: object | UnsetType = UNSET


class Question(msgspec.Struct):
    """A message after the message ``id``; with ``is_retry``, a retry or edit of that message."""

    id: Uuid | UnsetType = UNSET
    inputs: Annotated[str, msgspec.Meta(min_length=1)] | UnsetType = UNSET
    is_retry: bool | UnsetType = UNSET
    tools: list[str] | UnsetType = msgspec.field(name="selectedMcpServerNames", default=UNSET)
    timezone: str | UnsetType = UNSET

    @property
    def text(self) -> str:
        """The text of the prompt; "" if there is none."""
        return "" if isinstance(self.inputs, UnsetType) else self.inputs.replace("\r\n", "\n")


_Question = TypeVar("_Question", bound=Question)


def read_question(form: Form, shape: type[_Question]) -> _Question:
    """Read the prompt from a form. Raises `Refusal` if it is invalid."""
    if not form.fields.get("data"):
        raise Refusal(400, "Invalid request")
    try:
        return json.read_as(form.fields["data"].encode(), shape)
    except ValueError:
        raise Refusal() from None
