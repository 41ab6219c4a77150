"""Telling the dialect of a server by what it answers to two requests that change nothing.

Neither the status nor the Content-Type alone tells: v0.9.4 answers unknown routes with 200 and a
page. Bytes come in; who sends the requests is another's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from h2o_client.dialects import pages
from h2o_client.dialects.dialect import Dialect, Version
from h2o_client.dialects.documents import (
    Layout,
    Model,
    mapping,
    mappings,
    read_layout,
    read_models,
)
from h2o_client.dialects.latest import Latest
from h2o_client.dialects.v0_3 import V0_3
from h2o_client.dialects.v0_7 import V0_7
from h2o_client.dialects.v0_8 import MODELS, V0_8
from h2o_client.dialects.v0_9_2 import V0_9_2
from h2o_client.dialects.v0_9_6 import V0_9_6
from h2o_client.errors import ConfigurationError, UnsupportedError
from h2o_client.wire import json
from h2o_client.wire.request import Request, get

DIALECTS: tuple[type[Dialect], ...] = (V0_3, V0_7, V0_8, V0_9_2, V0_9_6, Latest)

_API_OFF = b"API is disabled"
_STREAMED_PAGE = "text/sveltekit-data"


class Found(msgspec.Struct, frozen=True):
    """The dialect, and what else the answers told.

    ``settled``: whether versions that differ have been told apart, as v0.8.4 and v0.9.1, v0.9.4 and
    v0.9.5, v0.9.6 and the servers since July 2026.
    """

    dialect: Dialect
    version: str
    why: str
    models: tuple[Model, ...] | None = None
    layout: Layout | None = None
    settled: bool = True


def by_version(version: str) -> Found:
    """What the caller says the server is. Raises `ConfigurationError`, `UnsupportedError`."""
    if not isinstance(version, str):
        raise ConfigurationError(f'server_version={version!r}: it is a text, as "0.9.4".')
    given = version.strip().lower()
    why = f"server_version={version!r}"
    if given in ("latest", "head"):
        return Found(Latest(), "", why)
    numbers = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:\.\d+)*", given)
    if numbers is None:
        raise ConfigurationError(f'server_version={version!r}: it looks like "0.9.4", or "latest".')
    if given.removeprefix("v") == "0.9":
        raise ConfigurationError(
            'server_version="0.9" could be three kinds of server: say which, as "0.9.4".'
        )
    wanted: Version = tuple(int(number or 0) for number in numbers.groups())
    for kind in DIALECTS:
        # A last version of two numbers stands for all its patches.
        if kind.first <= wanted and wanted[: len(kind.last)] <= kind.last:
            return Found(kind(version=wanted), given.removeprefix("v"), why)
    raise UnsupportedError(
        f"Talking to chat-ui {version}", "h2o-chat", "It speaks v0.3 of June 2023 and later."
    )


def first_request() -> Request:
    """The first request to a server."""
    return get(MODELS)


def is_enough(body: bytes) -> bool:
    """Whether the beginning of the first answer tells all: v0.3 sends a page of 362 kB here."""
    return bool(body.lstrip()) and not body.lstrip().startswith(b"[")


def by_models(body: bytes) -> Found | None:
    """By the first answer, whatever its status; None if the root page has to tell."""
    try:
        models = json.read(body)
    except json.InvalidJson:
        return None
    entries = mappings(models)
    if not isinstance(models, list) or not entries or len(entries) != len(models):
        return None
    if not all("id" in each or "name" in each for each in entries):
        return None
    kind, version, sign, settled = _by_entries(entries)
    why = f"{MODELS} lists models {sign}"
    return Found(kind(), version, why, models=read_models(models), settled=settled)


def by_page(first_answer: bytes, status: int, content_type: str, body: bytes) -> Found:
    """By the root page, after ``first_answer`` (of that ``status``) told nothing.

    Raises as `pages.node`: ValueError for what is no page of a chat-ui.
    """
    node = pages.node(body, 0)
    layout = read_layout(node, size=len(body))
    if status == 403 and _API_OFF in first_answer:
        kind = V0_9_2 if _STREAMED_PAGE in content_type else V0_8
        why = f"{MODELS} is switched off, {pages.ROOT} is {content_type or 'without a type'}"
        return by_layout(Found(kind(api=False), span(kind), why, settled=False), layout)
    if "requiresLogin" in node:
        why = f"{pages.ROOT} has requiresLogin"
        return Found(V0_3(), _of_2023(node), why, layout=layout)
    if "loginRequired" in node and not ("assistants" in node or "enableAssistants" in node):
        why = f"{pages.ROOT} has loginRequired and no assistants"
        return Found(V0_7(), "0.7", why, layout=layout)
    if "loginRequired" in node:
        later = V0_9_2 if _STREAMED_PAGE in content_type else V0_8
        why = f"{pages.ROOT} has assistants, and {MODELS} is not to be had"
        return by_layout(Found(later(api=False), span(later), why, settled=False), layout)
    raise ValueError("a page of something else")


def by_layout(found: Found, layout: Layout) -> Found:
    """The same, with its version as the root page tells it."""
    if found.settled:
        return msgspec.structs.replace(found, layout=layout)
    dialect = found.dialect.told_by(layout.names)
    version = dialect.span or found.version
    return msgspec.structs.replace(
        found, dialect=dialect, version=version, layout=layout, settled=True
    )


def is_latest(status: int, content_type: str) -> bool:
    """Whether `latest.resume_probe` was answered as servers with runs answer it."""
    return status == 404 and "json" in content_type


def span(kind: type[Dialect]) -> str:
    """The versions of a dialect, in words."""
    if kind is Latest:
        return "after 0.10.0"
    return " to ".join(".".join(map(str, version)) for version in (kind.first, kind.last))


def _by_entries(
    entries: list[Mapping[str, object]],
) -> tuple[type[Dialect], str, str, bool]:
    signs = {name for each in entries for name in each}
    if "supportsArtifacts" in signs:
        # Since June 2026, a month before runs: what is safe with runs is safe without.
        return Latest, span(Latest), "with supportsArtifacts", False
    if "supportsTools" in signs:
        return V0_9_6, span(V0_9_6), "with supportsTools", True
    if "tools" in signs:
        return V0_9_2, span(V0_9_2), "with tools", False
    return V0_8, span(V0_8), "without tools", False


def _of_2023(node: Mapping[str, object]) -> str:
    if "messagesBeforeLogin" not in node:
        return "0.3"
    return "0.5 to 0.6" if "customPrompts" in mapping(node.get("settings")) else "0.4"
