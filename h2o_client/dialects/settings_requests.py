"""Changing the settings: a POST replaces the whole document, and what it leaves out is reset."""

from __future__ import annotations

import json

from h2o_client.dialects.documents import Settings
from h2o_client.errors import UnsupportedError
from h2o_client.wire.request import Request, post_form, post_json

_PATH = "/settings"


def form(settings: Settings) -> Request:
    """v0.3 to v0.6: a form, in which two fields count as true whatever their value ("false" too).

    They are left out to say no.
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
    """Raise `UnsupportedError` for a change that v0.3 to v0.6 would drop in silence.

    Custom prompts came with v0.5; other names are unknown to all of them.
    """
    if after.custom_prompts is not None and before.custom_prompts is None:
        raise UnsupportedError("keep custom prompts", "chat-ui v0.3 to v0.4")
    if after.others != before.others:
        raise UnsupportedError("keep other settings (others=)", "chat-ui v0.3 to v0.6")


def document(settings: Settings) -> Request:
    """v0.7 to v0.9.5: JSON."""
    return _post(settings, "ethicsModalAccepted")


def document_of_v0_9_6(settings: Settings) -> Request:
    """v0.9.6 and later: JSON, in which accepting the terms has another name."""
    return _post(settings, "welcomeModalSeen")


def check_nothing(before: Settings, after: Settings) -> None:
    """A document takes every change."""


def _post(settings: Settings, accepted: str) -> Request:
    # Sharing is always said: left out, it would be on.
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
