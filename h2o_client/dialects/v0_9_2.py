"""Dialect D, chat-ui v0.9.2 to v0.9.5 (late 2024 to 2025): messages as multipart forms.

Measured on v0.9.4 and v0.9.5, which heeds a stop and deletes as v0.9.6 does.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from h2o_client.dialects.dialect import (
    Dialect,
    Prompt,
    Span,
    Upload,
    Version,
    conversation_path,
)
from h2o_client.dialects.v0_8 import V0_8
from h2o_client.wire.request import Part, Request, delete, post_multipart

_LAST = (0, 9, 5)


class V0_9_2(V0_8):  # noqa: N801 - named as the version
    """As v0.8, with forms that carry files."""

    letter = "D"
    name = "chat-ui v0.9.2 to v0.9.5"
    first: ClassVar[Version] = (0, 9, 2)
    last: ClassVar[Version] = _LAST
    loses_late_titles = False
    spans: ClassVar[tuple[Span, ...]] = (
        Span((0, 9, 2), "", "0.9.2 to 0.9.4"),
        Span(_LAST, "publicConfig", "0.9.5"),
    )

    def __init__(self, *, version: Version = (), api: bool = True) -> None:
        super().__init__(version=version, api=api)
        self.stops: bool = version >= _LAST

    def told_by_answer(self, content_type: str) -> Dialect:
        """v0.9.5 calls its lines what they are."""
        found = _LAST if "jsonl" in content_type else self.spans[0].first
        return self if self.version == found else V0_9_2(version=found, api=self.api)

    def delete_all(self) -> Request:
        return delete("/api/conversations") if self.version >= _LAST else super().delete_all()

    def message(self, conversation_id: str, prompt: Prompt) -> Request:
        parts = [Part("data", msgspec.json.encode(self.message_document(prompt)))]
        parts += [
            # The server tells text from base64 by the name's beginning.
            Part("files", b64encode(each.content), f"base64;{each.name}", each.mime)
            for each in prompt.files
        ]
        path = conversation_path(conversation_id)
        return post_multipart(path, parts, accept="*/*", budget="first_token")

    def check(self, *, files: Sequence[Upload] = (), web_search: bool = False) -> None:
        """Files and web searches are part of a message here."""
