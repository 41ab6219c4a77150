"""Dialect C, chat-ui v0.8 to v0.9.1 (2024): a tree of messages, an API to list and read with.

A message says which one it hangs on. Measured on v0.8.4 and v0.9.1.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import ClassVar

from h2o_client.dialects.dialect import (
    Ask,
    Prompt,
    Span,
    Upload,
    Version,
    conversation_path,
)
from h2o_client.dialects.documents import (
    Entries,
    Model,
    Stored,
    has_ended,
    mapping,
    read_entries,
    read_models,
    read_stored,
)
from h2o_client.dialects.v0_7 import V0_7
from h2o_client.wire import json
from h2o_client.wire.request import Request, get, post_json

MODELS = "/api/models"

_FILES_ARE_OBJECTS = (0, 9)


class V0_8(V0_7):  # noqa: N801 - named as the version
    """As v0.7, with a tree of messages and ``/api``, which can be switched off (EXPOSE_API)."""

    letter = "C"
    name = "chat-ui v0.8 to v0.9.1"
    first: ClassVar[Version] = (0, 8)
    last: ClassVar[Version] = (0, 9, 1)
    spans: ClassVar[tuple[Span, ...]] = (
        Span((0, 8), "", "0.8 to 0.8.4"),
        Span(_FILES_ARE_OBJECTS, "tools", "0.9.0 to 0.9.1"),
    )
    chooses_ids = False
    stops = False

    def models(self) -> Ask[tuple[Model, ...]]:
        if not self.api:
            return super().models()
        return Ask(get(MODELS), read_model_list)

    def conversations(self, page: int) -> Ask[Entries]:
        if not self.api:
            return super().conversations(page)
        return Ask(
            get(f"/api/conversations?p={page}"),
            lambda body: Entries(read_entries(_array(body)), more=None),
        )

    def message(self, conversation_id: str, prompt: Prompt) -> Request:
        document = self.message_document(prompt)
        if prompt.files and self.version < _FILES_ARE_OBJECTS:
            document["files"] = self.file_texts(prompt.files)
        elif prompt.files:
            document["files"] = [_as_object(each) for each in prompt.files]
        path = conversation_path(conversation_id)
        return post_json(path, document, accept="*/*", budget="first_token")

    def message_document(self, prompt: Prompt) -> dict[str, object]:
        """What is said of a message, whatever carries it."""
        document: dict[str, object] = {"id": prompt.id}
        if prompt.text is not None:
            document["inputs"] = prompt.text
        if prompt.retry:
            document["is_retry"] = True
        if prompt.continues:
            document["is_continue"] = True
        if prompt.web_search:
            document["web_search"] = True
        return document

    def conversation(self, conversation_id: str) -> Sequence[Ask[Stored]]:
        """The page has the tree; the API, for servers whose page is another, has no branches."""
        return (*super().conversation(conversation_id), *self.api_conversation(conversation_id))

    def api_conversation(self, conversation_id: str) -> Sequence[Ask[Stored]]:
        """As the API tells it."""
        if not self.api:
            return ()
        request = get("/api" + conversation_path(conversation_id))
        return (Ask(request, self.read_api_conversation),)

    def read_api_conversation(self, body: bytes) -> Stored:
        """The document that the API gives, without branches."""
        return read_stored(mapping(json.read(body)), self.is_finished)

    def is_finished(self, message: Mapping[str, object]) -> bool:
        """The content is stored at the end of the response, in one go."""
        return bool(message.get("content")) or has_ended(message)

    def check(self, *, files: Sequence[Upload] = (), web_search: bool = False) -> None:
        """v0.8 takes images only; it refuses the files of v0.9, and v0.9 those of v0.8."""
        if files and not self.version:
            raise self.cannot(
                "Sending files", 'Say which of them it is: server_version="0.8.4", or "0.9.1".'
            )
        if self.version < _FILES_ARE_OBJECTS:
            super().check(files=files, web_search=web_search)

    def check_continue(self) -> None:
        """The last answer can be continued."""


def _as_object(upload: Upload) -> dict[str, str]:
    """A file as v0.9.0 and v0.9.1 take it (their limit: 10 MB)."""
    value = b64encode(upload.content).decode()
    return {"type": "base64", "name": upload.name, "value": value, "mime": upload.mime}


def read_model_list(body: bytes) -> tuple[Model, ...]:
    """The array that ``/api/models`` gives."""
    return read_models(_array(body))


def _array(body: bytes) -> list[object]:
    found = json.read(body)
    if not isinstance(found, list):
        raise ValueError("no list")
    return found
