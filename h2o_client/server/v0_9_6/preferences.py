"""A session's settings in the format of chat-ui v0.10.0."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from h2o_client.server.records import Settings
from h2o_client.wire import json
from h2o_client.wire.pagedata import UNDEFINED


class Preferences(msgspec.Struct, rename="camel", kw_only=True):
    """The posted document. Missing fields are reset to their defaults."""

    share_conversations_with_model_authors: bool = True
    welcome_modal_seen: bool | UnsetType = UNSET
    active_model: str | UnsetType = UNSET
    streaming_mode: Literal["raw", "smooth"] = "smooth"
    direct_paste: bool = False
    haptics_enabled: bool = True
    hide_prompt_examples: dict[str, bool] = {}
    custom_prompts: dict[str, str] = {}
    custom_prompts_enabled: dict[str, bool] = {}
    multimodal_overrides: dict[str, bool] = {}
    tools_overrides: dict[str, bool] = {}
    provider_overrides: dict[str, str] = {}
    reasoning_effort_overrides: dict[str, str] = {}
    reasoning_overrides: dict[str, bool] = {}
    billing_organization: str | UnsetType = UNSET


def shown(settings: Settings, shape: type[Preferences], *, model: str) -> dict[str, object]:
    """The document in responses. Its model is always the server's."""
    kept = json.read_as(settings.document or b"{}", shape)
    document: dict[str, object] = msgspec.to_builtins(kept)
    return {
        "billingOrganization": UNDEFINED,
        **document,
        "welcomeModalSeen": settings.accepted_at is not None,
        "welcomeModalSeenAt": settings.accepted_at,
        "activeModel": model,
    }
