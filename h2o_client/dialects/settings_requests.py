"""The requests that change the settings. Each replaces the whole document.

The server resets missing settings to their defaults.
"""

from __future__ import annotations

import json

from h2o_client.dialects.documents import Settings
from h2o_client.errors import UnsupportedError
from h2o_client.wire.request import Request, post_form, post_json

_PATH = "/settings"


def form(settings: Settings) -> Request:
    """v0.3 to v0.6: a form. Two of its fields count as true with any value, even "false".

    They are left out if they are false.
    """
    fields = [("activeModel", settings.active_model)]
    if settings.accepted:
        fields += [("ethicsModalAccepted", "true"), ("ethicsModalAcceptedAt", "")]
    if settings.shares_data:
        fields.append(("shareConversationsWithModelAuthors", "true"))
    if settings.web_search:
        fields.append(("searchEnabled", "true"))
    if settings.custom_prompts is not None:
        fields.append(("customPrompts", json.dumps(settings.custom_prompts)))
    return post_form(_PATH, fields, safe=True)


def check_form(before: Settings, after: Settings) -> None:
    """Raise `UnsupportedError` for a change that v0.3 to v0.6 would silently ignore.

    Custom prompts exist since v0.5. None of these versions knows other settings.
    """
    if after.custom_prompts is not None and before.custom_prompts is None:
        raise UnsupportedError("keep custom prompts", "chat-ui v0.3 to v0.4")
    if after.others != before.others:
        raise UnsupportedError("keep other settings (others=)", "chat-ui v0.3 to v0.6")


def document(settings: Settings) -> Request:
    """v0.7 to v0.9.5: JSON."""
    return _post(settings, "ethicsModalAccepted")


def document_of_v0_9_6(settings: Settings) -> Request:
    """v0.9.6 and later: JSON, with another name for accepting the terms."""
    return _post(settings, "welcomeModalSeen")


def check_nothing(before: Settings, after: Settings) -> None:
    """Accept every change, as JSON documents do."""


def _post(settings: Settings, accepted: str) -> Request:
    # Always with the setting for sharing. Without it, sharing would be on.
    posted: dict[str, object] = {
        **settings.others,
        "shareConversationsWithModelAuthors": settings.shares_data,
    }
    if settings.accepted:
        posted[accepted] = True
    if settings.active_model:
        posted["activeModel"] = settings.active_model
    if settings.custom_prompts is not None:
        posted["customPrompts"] = settings.custom_prompts
    return post_json(_PATH, posted, safe=True)
