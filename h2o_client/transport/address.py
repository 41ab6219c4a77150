"""Where a server is and how to get there: checked before anything is sent."""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from requests.exceptions import InvalidHeader
from requests.utils import check_header_validity

from h2o_client.errors import ConfigurationError

_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def parse_base_url(base_url: str) -> tuple[str, str | None]:
    """The base URL without a slash at its end, and the Authorization that stood in it."""
    parts = urlsplit(base_url.strip())
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise ConfigurationError(
            f"{_without_credentials(base_url)!r} is no address of a server: "
            'it looks like "https://chat.example.org" or "http://localhost:3000".'
        )
    if parts.query or parts.fragment:
        raise ConfigurationError("The address of a server has no ? and no # in it.")
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = "Basic " + b64encode(pair.encode()).decode()
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}", credentials


def parse_proxy(proxy: str | None) -> dict[str, str]:
    if not proxy:
        return {}
    parts = urlsplit(proxy)
    if parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
        raise ConfigurationError(
            "proxy= is a URL like http://host:port or socks5://host:port "
            f"(one of {', '.join(_PROXY_SCHEMES)})."
        )
    if parts.scheme.startswith("socks"):
        _need_socks()
    return {"http": proxy, "https": proxy}


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """The headers, if they can be sent. Their values are in no error: they may be secrets."""
    for name, value in headers.items():
        try:
            check_header_validity((name, value))
            name.encode("latin-1")
            value.encode("latin-1")
        except (InvalidHeader, UnicodeEncodeError, AttributeError):
            raise ConfigurationError(
                f"The header {name!r} cannot be sent: names and values are texts of one line, "
                "in Latin letters."
            ) from None
    return headers


def check_verify(verify: bool | str | ssl.SSLContext) -> bool | str | ssl.SSLContext:
    if isinstance(verify, str) and not os.path.exists(verify):
        raise ConfigurationError(f"verify={verify!r}: there is no such file or folder.")
    return verify


def _need_socks() -> None:
    if find_spec("socks") is None:
        raise ConfigurationError('A socks proxy needs PySocks: pip install "h2o-chat[socks]".')


def _without_credentials(url: str) -> str:
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://...@{after}" if at else url
