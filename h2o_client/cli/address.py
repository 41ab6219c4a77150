"""What a person says for a server's address and a cookie file, and what was meant."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from h2o_client.errors import ConfigurationError
from h2o_client.transport.cookies import is_loopback

_BARE = re.compile(r"([\w.-]+|\[[0-9a-fA-F:]+\])(?::\d+)?(?:/[^?#@]*)?", re.ASCII)


def check_address(url: str | None) -> None:
    """Raises `ConfigurationError` for one that lacks its scheme."""
    url = (url or "").strip()
    bare = _BARE.fullmatch(url)
    if bare is not None and "://" not in url:
        scheme = "http" if is_loopback(bare[1]) or re.search(r":\d+(/|$)", url) else "https"
        raise ConfigurationError(
            f"{url} is no address of a server. Did you mean {scheme}://{url.rstrip('/')}?"
        )


def check_cookie(cookie: str | None) -> None:
    """Raises `ConfigurationError` for a cookie file that is not there.

    What does not look like a path may be a cookie's value, and is in no error.
    """
    if cookie is None or "=" in cookie or os.path.exists(cookie):
        return
    if cookie.startswith(("/", "./", "../", "~")) or cookie.endswith((".txt", ".cookies")):
        raise ConfigurationError(f"There is no cookie file {cookie}. Look at --cookie.")


def headers_of(lines: Iterable[str]) -> dict[str, str]:
    """What ``--header "Name: value"`` says. No error shows it: it may be a secret."""
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ConfigurationError('A header is given as --header "Name: value".')
        found[name.strip()] = value.strip()
    return found
