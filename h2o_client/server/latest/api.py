"""The routes under ``/api`` with more fields than v0.10.0."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from h2o_client.server.records import Conversation, Shared
from h2o_client.server.v0_9_6 import api
from h2o_client.server.v0_9_6.preferences import Preferences
from h2o_client.server.v0_9_6.response_documents import Document
from h2o_client.wire.pagedata import UNDEFINED


class LatestPreferences(Preferences):
    """A session's settings, which include artifacts."""

    artifacts_overrides: dict[str, bool] = msgspec.field(default_factory=dict)


class Api(api.Api):
    """The routes of v0.10.0, with later additions."""

    preferences: ClassVar[type[Preferences]] = LatestPreferences

    def tree(self, found: Conversation | Shared) -> Document:
        return {**super().tree(found), "deployedSpaces": UNDEFINED}

    def _model_entry(self) -> Document:
        return {**super()._model_entry(), **_ARTIFACTS}

    def _model_in_full(self) -> Document:
        return {**super()._model_in_full(), **_ARTIFACTS}


_ARTIFACTS: Document = {"supportsArtifacts": False}
