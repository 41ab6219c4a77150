"""Dialect B, chat-ui v0.7 (autumn 2023): JSON settings, answers in JSON lines that never end.

Measured on v0.7.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import ClassVar

from h2o_client.dialects.dialect import (
    Ask,
    Dialect,
    Prompt,
    Search,
    Upload,
    Version,
    conversation_path,
)
from h2o_client.dialects.documents import Created, Settings
from h2o_client.dialects.v0_3 import V0_3
from h2o_client.errors import UnsupportedError
from h2o_client.wire.request import Request, post_json


class V0_7(V0_3):  # noqa: N801 - named as the version
    """As v0.3, but for JSON settings, preprompts and JSON lines."""

    letter = "B"
    name = "chat-ui v0.7"
    first: ClassVar[Version] = (0, 7)
    last: ClassVar[Version] = (0, 7)
    samples = False
    has_preprompt = True
    passes_model_on = False
    answers_in_lines = True
    keeps_failed = True
    stores_at_end = False
    loses_late_titles = True
    skip = "01"

    def change_settings(self, settings: Settings) -> Request:
        return Dialect.change_settings(self, settings)

    def check_settings(self, before: Settings, after: Settings) -> None:
        return Dialect.check_settings(self, before, after)

    def create(self, model: str, preprompt: str | None) -> Ask[Created]:
        return Dialect.create(self, model, preprompt)

    def message(self, conversation_id: str, prompt: Prompt) -> Request:
        document: dict[str, object] = {
            "inputs": prompt.text,
            "id": prompt.id,
            "response_id": prompt.answer_id,
            "is_retry": prompt.retry,
            "web_search": prompt.web_search,
        }
        if prompt.files:
            document["files"] = self.file_texts(prompt.files)
        path = conversation_path(conversation_id)
        return post_json(path, document, accept="*/*", budget="first_token")

    def web_search(self, conversation_id: str, prompt: str) -> Search | None:
        return None

    def file_texts(self, files: Sequence[Upload]) -> list[str]:
        """Files as this version takes them, in base64 (its limits: 2 MB, 224 x 224)."""
        return [b64encode(each.content).decode() for each in files]

    def check(self, *, files: Sequence[Upload] = (), web_search: bool = False) -> None:
        """Images are all that a message can have here, and a web search."""
        if not all(each.is_image for each in files):
            name = f"chat-ui v{self.span}" if self.span else self.name
            raise UnsupportedError("Sending files that are no images", name)

    def summarize(self, conversation_id: str) -> Ask[str]:
        return Dialect.summarize(self, conversation_id)
