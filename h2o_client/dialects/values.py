"""Read values of documents that may contain anything, each as the expected type."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from h2o_client.printable import whole_characters
from h2o_client.wire import pagedata
from h2o_client.wire.checkpoint import checked


def mapping(value: object) -> Mapping[str, object]:
    """``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[Mapping[str, object]]:
    """The mappings in a list."""
    if not isinstance(value, list):
        return []
    return [each for each in checked(value) if isinstance(each, dict)]


def texts(value: object) -> list[str]:
    """The texts in a list."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def text(value: object) -> str:
    """``value`` if it is text, else "". Half a surrogate pair in it becomes U+FFFD."""
    return whole_characters(value) if isinstance(value, str) else ""


def given(value: object) -> object:
    """``value``, with None for JavaScript's undefined."""
    return None if value is pagedata.UNDEFINED else value


def moment(value: object) -> datetime | None:
    """A time from page data or JSON."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return None
    return value if isinstance(value, datetime) else None
