"""Detect the dialect of a server from its responses to two requests that change nothing.

Neither the status nor the Content-Type alone is enough: v0.9.4 answers unknown routes with 200 and
a page. Other modules send the requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from h2o_client.dialects import pages
from h2o_client.dialects.dialect import Dialect, Version
from h2o_client.dialects.documents import Layout, Model, read_layout, read_models
from h2o_client.dialects.latest import LATEST
from h2o_client.dialects.plain_api import MODELS
from h2o_client.dialects.v0_3 import V0_3
from h2o_client.dialects.v0_7 import V0_7
from h2o_client.dialects.v0_8 import V0_8, V0_8_ALONE, V0_9_0
from h2o_client.dialects.v0_9_2 import V0_9_2, V0_9_2_ALONE, V0_9_5
from h2o_client.dialects.v0_9_6 import V0_9_6
from h2o_client.dialects.values import mapping, mappings
from h2o_client.errors import ConfigurationError, Hint, UnsupportedError
from h2o_client.wire import json
from h2o_client.wire.request import Request, get

DIALECTS = (V0_3, V0_7, V0_8, V0_9_2, V0_9_6, LATEST)


class _Span(msgspec.Struct, frozen=True):
    """The versions of an era from ``first`` on, which differ from the era's earlier versions.

    ``sign`` is a name in the root page that earlier versions lack; "" for the first versions.
    """

    first: Version
    sign: str
    dialect: Dialect


_SPANS = (
    _Span((0, 8), "", V0_8_ALONE),
    _Span((0, 9), "tools", V0_9_0),
    _Span((0, 9, 2), "", V0_9_2_ALONE),
    _Span((0, 9, 5), "publicConfig", V0_9_5),
)

_API_OFF = b"API is disabled"
_STREAMED_PAGE = "text/sveltekit-data"


class Found(msgspec.Struct, frozen=True):
    """The detected dialect, and other facts that the responses showed.

    ``version`` is the version or range of versions as numbers. ``why`` describes how it was
    detected. ``is_certain`` is False if two versions with different behavior are possible: v0.8.4
    and v0.9.1, v0.9.4 and v0.9.5, or v0.9.6 and a server since July 2026.
    """

    dialect: Dialect
    version: str
    why: str
    models: tuple[Model, ...] | None = None
    layout: Layout | None = None
    is_certain: bool = True


def by_version(version: str) -> Found:
    """Use the version given by the caller. Raises `ConfigurationError`, `UnsupportedError`."""
    if not isinstance(version, str):
        raise _invalid(version)
    given = version.strip().lower()
    why = f"server_version={version!r}"
    if given in ("latest", "head"):
        return Found(LATEST, "", why)
    numbers = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:\.\d+)*", given)
    if numbers is None:
        raise _invalid(version)
    if given.removeprefix("v") == "0.9":
        raise ConfigurationError(
            f"The server version {version!r} could be three different protocols",
            hint=Hint('Pass the exact version, for example {server_version:"0.9.4"}.'),
            argument="server_version",
        )
    wanted: Version = tuple(int(number or 0) for number in numbers.groups())
    for era in DIALECTS:
        # If `last` has two numbers, it includes all its patch versions.
        if era.first <= wanted and wanted[: len(era.last)] <= era.last:
            spans = [each.dialect for each in _spans(era) if each.first <= wanted]
            return Found(spans[-1] if spans else era, given.removeprefix("v"), why)
    raise UnsupportedError(
        f"talk to chat-ui {version}", "h2o-chat", hint="It supports v0.3 (June 2023) and later."
    )


def _invalid(version: object) -> ConfigurationError:
    return ConfigurationError(
        f"Invalid server version {version!r}",
        hint=Hint('A version looks like {server_version:"0.9.4"}, or "latest".'),
        argument="server_version",
    )


def first_request() -> Request:
    """The first request to a server."""
    return get(MODELS)


def is_enough(body: bytes) -> bool:
    """Whether this part of the first response is enough: v0.3 sends a page of 362 kB here."""
    return bool(body.lstrip()) and not body.lstrip().startswith(b"[")


def by_models(body: bytes) -> Found | None:
    """Detect by the first response, whatever its status; None if the root page is needed."""
    try:
        models = json.read(body)
    except json.InvalidJson:
        return None
    entries = mappings(models)
    if not isinstance(models, list) or not entries or len(entries) != len(models):
        return None
    if not all("id" in each or "name" in each for each in entries):
        return None
    dialect, sign, is_certain = _by_entries(entries)
    why = f"{MODELS} lists models {sign}"
    return Found(dialect, versions(dialect), why, models=read_models(models), is_certain=is_certain)


def by_page(first_answer: bytes, status: int, content_type: str, body: bytes) -> Found:
    """Detect by the root page, if the first response was not enough.

    ``first_answer`` is the body of the first response, ``status`` its status. Raises as
    `pages.node`, and ValueError for a page that is not chat-ui's.
    """
    node = pages.node(body, 0)
    layout = read_layout(node, size=len(body))
    if status == 403 and _API_OFF in first_answer:
        why = f"{MODELS} is switched off, {pages.ROOT} is {content_type or 'without a type'}"
        return _by_type(content_type, why, layout)
    if "requiresLogin" in node:
        why = f"{pages.ROOT} has requiresLogin"
        return Found(V0_3, _of_2023(node), why, layout=layout)
    if "loginRequired" in node and not ("assistants" in node or "enableAssistants" in node):
        why = f"{pages.ROOT} has loginRequired and no assistants"
        return Found(V0_7, "0.7", why, layout=layout)
    if "loginRequired" in node:
        why = f"{pages.ROOT} has assistants, and {MODELS} is not available"
        return _by_type(content_type, why, layout)
    raise ValueError("a page of something else")


def _by_type(content_type: str, why: str, layout: Layout) -> Found:
    """Detect by the Content-Type of the root page, if there is no ``/api``."""
    era = V0_9_2 if _STREAMED_PAGE in content_type else V0_8
    found = Found(_without_api(era), versions(era), why, is_certain=False)
    return by_layout(found, layout)


def by_layout(found: Found, layout: Layout) -> Found:
    """Add the version that the root page shows."""
    if found.is_certain:
        return msgspec.structs.replace(found, layout=layout)
    spans = [each for each in _spans(found.dialect) if not each.sign or each.sign in layout.names]
    dialect = _with_api_of(found.dialect, spans[-1].dialect) if spans else found.dialect
    version = dialect.span or found.version
    return msgspec.structs.replace(
        found, dialect=dialect, version=version, layout=layout, is_certain=True
    )


def by_answer(dialect: Dialect, content_type: str) -> Dialect:
    """Return the dialect with the version that the Content-Type of an answer shows."""
    if not dialect.is_of_era(V0_9_2):
        return dialect
    # v0.9.5 sends the right Content-Type for its lines.
    return _with_api_of(dialect, V0_9_5 if "jsonl" in content_type else V0_9_2_ALONE)


def shows_runs(status: int, content_type: str) -> bool:
    """Whether the response to `run_requests.resume_probe` is that of a server with runs."""
    return status == 404 and "json" in content_type


def may_have_runs(dialect: Dialect) -> bool:
    """Whether more responses are needed to find out if the server has runs."""
    return dialect.first >= V0_9_6.first


def by_runs(found: Found, *, has_runs: bool) -> Found:
    """Add whether the server has runs. Return ``found`` itself if this was already known."""
    is_known = found.is_certain and found.dialect.keeps_runs == has_runs
    if is_known or not may_have_runs(found.dialect):
        return found
    return msgspec.structs.replace(
        found,
        dialect=LATEST if has_runs else V0_9_6,
        version=versions(LATEST) if has_runs else "0.10.0",
        why=f"{found.why}, and runs {'can' if has_runs else 'cannot'} be resumed",
        is_certain=True,
    )


def upgraded(found: Found) -> Found:
    """Add that a server since July 2026 has written a conversation.

    Return ``found`` itself if this was already known.
    """
    if found.dialect.keeps_runs or not may_have_runs(found.dialect):
        return found
    why = "its conversations have the format of July 2026"
    return msgspec.structs.replace(
        found, dialect=LATEST, version=versions(LATEST), why=why, is_certain=False
    )


def is_same(found: Found, before: Found) -> bool:
    """Whether the dialect is the same. An uncertain one of two counts as the one before."""
    one, other = found.dialect, before.dialect
    if not found.is_certain and may_have_runs(one) and may_have_runs(other):
        return True
    return one.is_of_era(other) and one.api == other.api


def versions(dialect: Dialect) -> str:
    """The versions of a dialect's era, as numbers."""
    if dialect.is_of_era(LATEST):
        return "after 0.10.0"
    return " to ".join(".".join(map(str, version)) for version in (dialect.first, dialect.last))


def _spans(dialect: Dialect) -> list[_Span]:
    return [each for each in _SPANS if each.dialect.is_of_era(dialect)]


def _with_api_of(before: Dialect, dialect: Dialect) -> Dialect:
    """``dialect``, without ``/api`` if ``before`` has none; ``before`` if it is the same."""
    found = dialect if before.api else _without_api(dialect)
    return before if found == before else found


def _without_api(dialect: Dialect) -> Dialect:
    """The dialect of a server with ``/api`` switched off: everything is read from its pages."""
    return replace(
        dialect,
        api=False,
        models=pages.models,
        conversations=pages.conversations,
        stored=(pages.conversation,),
    )


def _by_entries(entries: list[Mapping[str, object]]) -> tuple[Dialect, str, bool]:
    signs = {name for each in entries for name in each}
    if "supportsArtifacts" in signs:
        # Servers have it since June 2026, and runs since July. The dialect with runs is safe for
        # both.
        return LATEST, "with supportsArtifacts", False
    if "supportsTools" in signs:
        return V0_9_6, "with supportsTools", True
    if "tools" in signs:
        return V0_9_2, "with tools", False
    return V0_8, "without tools", False


def _of_2023(node: Mapping[str, object]) -> str:
    if "messagesBeforeLogin" not in node:
        return "0.3"
    return "0.5 to 0.6" if "customPrompts" in mapping(node.get("settings")) else "0.4"
