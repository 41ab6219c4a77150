"""Where a server is and how to get there: checked before anything is sent."""

from __future__ import annotations

import os
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import SplitResult, unquote, urlsplit

from requests import Request
from requests.exceptions import InvalidHeader, RequestException
from requests.utils import check_header_validity

from h2o_client.errors import ConfigurationError, install_hint

# Pages that people copy from the browser. Below a base path they answer like the server itself.
_PAGE = re.compile(
    r"/(?:(?:conversation|r|assistant)/[^/]+|(?:settings|models)(?:/.*)?|privacy)/?$"
)
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def parse_base_url(base_url: str) -> tuple[str, str | None]:
    """The base URL without a slash at its end, and the Authorization that stood in it.

    Raises `ConfigurationError` for the address of a page, with the server's.
    """
    parts = _split(base_url)
    if parts is None or parts.scheme not in ("http", "https"):
        raise ConfigurationError(
            f"{_shown(base_url)} is no address of a server: "
            'it looks like "https://chat.example.org" or "http://localhost:3000".'
        )
    host = parts.netloc.rpartition("@")[2]
    page = _PAGE.search(parts.path)
    if page is not None:
        raise ConfigurationError(
            f"{page[0]} is a page of the chat, and not the server's address. "
            f"Use {parts.scheme}://{host}{parts.path[: page.start()]}."
        )
    if parts.query or parts.fragment:
        raise ConfigurationError("The address of a server has no ? and no # in it.")
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = "Basic " + b64encode(pair.encode()).decode()
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}", credentials


def parse_proxy(proxy: str | None) -> dict[str, str]:
    """The proxies of requests: that one for everything, or none of our own."""
    if proxy is None or proxy == "":
        return {}
    parts = _split(proxy)
    if parts is None or parts.scheme not in _PROXY_SCHEMES:
        raise ConfigurationError(
            "proxy= is a URL like http://host:port or socks5://host:port "
            f"(one of {', '.join(_PROXY_SCHEMES)})."
        )
    if parts.scheme.startswith("socks") and find_spec("socks") is None:
        raise ConfigurationError(f"A socks proxy needs the extra 'socks'. {install_hint('socks')}")
    return {"http": proxy, "https": proxy}


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """The headers, if they can be sent. Their values are in no error: they may be secrets."""
    if headers is not None and not isinstance(headers, Mapping):
        raise ConfigurationError("headers= is a mapping of names to values.")
    for name, value in (headers or {}).items():
        try:
            check_header_validity((name, value))
            name.encode("latin-1")
            value.encode("latin-1")
        except (InvalidHeader, UnicodeEncodeError, AttributeError):
            raise ConfigurationError(
                f"The header {name!r} cannot be sent: names and values are texts of one line, "
                "in Latin letters."
            ) from None
    return dict(headers or {})


def check_verify(verify: bool | str | ssl.SSLContext) -> bool | str | ssl.SSLContext:
    """What certificates are checked against, if it is there."""
    if not isinstance(verify, bool | str | ssl.SSLContext):
        raise ConfigurationError(
            "verify= is True, False, the path of a file or folder of trusted authorities, or an "
            "ssl.SSLContext."
        )
    if isinstance(verify, str) and not os.path.exists(verify):
        raise ConfigurationError(f"verify={verify!r}: there is no such file or folder.")
    return verify


def _split(url: object) -> SplitResult | None:
    """The parts of a URL that requests could be made to; no error shows what is in it."""
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url.strip())
        usable = parts.hostname and (parts.port is None or parts.port > 0)
        if not usable or any(char.isspace() for char in parts.netloc):
            return None
        parts.netloc.encode()
        if parts.scheme in ("http", "https"):
            Request("GET", parts._replace(query="", fragment="").geturl()).prepare()
    except (ValueError, RequestException):
        return None
    return parts


def _shown(url: object) -> str:
    """An address for an error: nothing of it that may be a secret."""
    if not isinstance(url, str):
        return f"A {type(url).__name__}"
    bare = url.rpartition("@")[2].partition("?")[0].partition("#")[0]
    return repr(bare.encode("ascii", "replace").decode())
