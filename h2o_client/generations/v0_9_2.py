"""Generation D, chat-ui v0.9.2 to v0.9.5 (late 2024 to 2025): messages as multipart forms.

Measured on v0.9.4; that v0.9.5 heeds a stop is read in its source.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from h2o_client.generations.generation import Prompt, Upload, Version, conversation_path
from h2o_client.generations.v0_8 import V0_8
from h2o_client.wire.request import Part, Request, post_multipart

_STOPS_SINCE = (0, 9, 5)


class V0_9_2(V0_8):  # noqa: N801 - named as the version
    """As v0.8, with forms that carry files."""

    letter = "D"
    name = "chat-ui v0.9.2 to v0.9.5"
    first: ClassVar[Version] = (0, 9, 2)
    last: ClassVar[Version] = (0, 9, 5)

    def __init__(self, *, version: Version = (), api: bool = True) -> None:
        super().__init__(version=version, api=api)
        self.stops: bool = version >= _STOPS_SINCE

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
