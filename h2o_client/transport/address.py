"""Check the server's address, the proxy and the headers before anything is sent."""

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
from h2o_client.transport.cookies import TOKEN, is_loopback

# Pages whose address users copy from the browser.
_PAGE = re.compile(
    r"/(?:(?:conversation|r|assistant)/[^/]+|(?:settings|models)(?:/.*)?|privacy)/?$"
)
_BARE = re.compile(r"([\w.-]+|\[[0-9a-fA-F:]+\])(?::\d+)?(?:/[^?#@]*)?", re.ASCII)
_FRAMING = ("content-length", "transfer-encoding")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def parse_base_url(base_url: str) -> tuple[str, str | None]:
    """Return the base URL without a trailing slash, and the Authorization header for its user.

    Raises `ConfigurationError` if the URL is invalid, or is the URL of a page of the chat.
    """
    base_url = str.__str__(base_url) if isinstance(base_url, str) else base_url
    parts = _split(base_url)
    if parts is None or parts.scheme not in ("http", "https"):
        meant = _with_scheme(base_url)
        raise ConfigurationError(
            f"Invalid server address {_shown(base_url)}",
            hint=f"Did you mean {meant}?"
            if meant
            else 'An address looks like "https://chat.example.org" or "http://localhost:3000".',
            argument="base_url",
            suggestion=meant,
        )
    host = parts.netloc.rpartition("@")[2]
    page = _PAGE.search(parts.path)
    if page is not None:
        server = f"{parts.scheme}://{host}{parts.path[: page.start()]}"
        raise ConfigurationError(
            f"{page[0]} is a page of the chat, not the server's address",
            hint=f"Use {server}.",
            argument="base_url",
            suggestion=server,
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"Invalid server address {_shown(base_url)}",
            hint="Remove what follows the ? or #.",
            argument="base_url",
        )
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = "Basic " + b64encode(pair.encode()).decode()
    base_url = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
    if not base_url.isascii() or " " in parts.path:
        # Encode it as browsers do in Origin and Referer, and servers in their own addresses.
        base_url = (Request("GET", base_url).prepare().url or base_url).rstrip("/")
    return base_url, credentials


def parse_proxy(proxy: str | None) -> dict[str, str]:
    """The ``proxies`` argument of requests: ``proxy`` for all schemes, or an empty dict."""
    if proxy is None or proxy == "":
        return {}
    parts = _split(proxy)
    if parts is None or parts.scheme not in _PROXY_SCHEMES:
        raise ConfigurationError(
            f"Invalid proxy {_shown(proxy)}",
            hint="A proxy looks like http://host:port or socks5://host:port. "
            f"Schemes: {', '.join(_PROXY_SCHEMES)}.",
            argument="proxy",
        )
    if parts.scheme.startswith("socks") and find_spec("socks") is None:
        raise ConfigurationError(
            "A socks proxy needs the extra 'socks'", hint=install_hint("socks"), argument="proxy"
        )
    return {"http": proxy, "https": proxy}


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers. Raises `ConfigurationError` if one of them cannot be sent.

    The error does not show a value, which may be secret.
    """
    if headers is not None and not isinstance(headers, Mapping):
        raise ConfigurationError(
            f"headers must be a mapping of names to values, not {type(headers).__name__}",
            argument="headers",
        )
    for name, value in (headers or {}).items():
        try:
            check_header_validity((name, value))
            value.encode("latin-1")
            is_valid = TOKEN.fullmatch(name) is not None and "\0" not in value
        except (InvalidHeader, UnicodeEncodeError, AttributeError, TypeError):
            is_valid = False
        if not is_valid:
            raise ConfigurationError(
                f"Cannot send the header {name!r}",
                hint="A name has letters, digits and hyphens, a value one line of Latin-1.",
                argument="headers",
            )
        if name.lower() in _FRAMING:
            raise ConfigurationError(
                f"Cannot send the header {name!r}: it describes the body of a single request",
                hint="Leave it out.",
                argument="headers",
            )
    return dict(headers or {})


def check_verify(
    verify: bool | str | os.PathLike[str] | ssl.SSLContext,
) -> bool | str | ssl.SSLContext:
    """Return ``verify``, with a path as a str. Raises `ConfigurationError` if it cannot be used."""
    if isinstance(verify, os.PathLike):
        verify = os.fspath(verify)
    if not isinstance(verify, bool | str | ssl.SSLContext):
        raise ConfigurationError(
            f"verify must be a bool, a path or an ssl.SSLContext, not {type(verify).__name__}",
            argument="verify",
        )
    if isinstance(verify, str):
        check_authorities(verify)
    return verify


def check_authorities(path: str, variable: str = "") -> None:
    """Raise `ConfigurationError` if ``path`` has no CA certificates.

    ``variable`` is the environment variable that names the path; "" for the argument ``verify``.
    """
    problem = ""
    try:
        if os.path.isdir(path):
            if not any(map(_HASHED.fullmatch, os.listdir(path))):
                problem = "no certificate in the folder is named by its hash (run openssl rehash)"
        else:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except FileNotFoundError:
        problem = "there is no such file or folder"
    except ssl.SSLError:
        problem = "the file has no certificate in PEM format"
    except (OSError, ValueError) as exc:
        problem = str(getattr(exc, "strerror", None) or exc)
    if problem:
        whose = f" of {variable}" if variable else ""
        raise ConfigurationError(
            f"Cannot load CA certificates from {path!r}{whose}: {problem}",
            argument=None if variable else "verify",
        )


def check_environment(proxy: str | None, verify: object) -> None:
    """Raise `ConfigurationError` if the proxy or CA file of the environment cannot be used.

    Each is None if no environment variable sets it.
    """
    if proxy is not None:
        _check_named_proxy(proxy)
    if isinstance(verify, str):
        name = next((name for name in _CA_VARIABLES if os.environ.get(name) == verify), "requests")
        check_authorities(verify, name)


def _check_named_proxy(proxy: str) -> None:
    names = [name for name, value in os.environ.items() if value == proxy]
    name = next((name for name in names if name.lower() in _PROXY_VARIABLES), "The system's proxy")
    parts = _split(proxy if "://" in proxy else f"http://{proxy}")
    shown = _shown(proxy).strip("'")
    if parts is None or parts.scheme not in _PROXY_SCHEMES:
        raise ConfigurationError(
            f"Invalid proxy in the environment: {name}={shown}",
            hint="A proxy looks like http://host:port or socks5h://host:port.",
        )
    if parts.scheme.startswith("socks") and find_spec("socks") is None:
        raise ConfigurationError(
            f"The socks proxy in the environment ({name}={shown}) needs the extra 'socks'",
            hint=f"Put the server into NO_PROXY, or install it. {install_hint('socks')}",
        )


def _split(url: object) -> SplitResult | None:
    """The parts of a URL; None if requests cannot send to it. Raises nothing."""
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


def _with_scheme(url: object) -> str | None:
    """Add the likely scheme to an address without one; None if ``url`` is no such address."""
    url = url.strip() if isinstance(url, str) else ""
    if port := re.fullmatch(r":?(\d{2,5})/?", url, re.ASCII):
        return f"http://localhost:{port[1]}"
    bare = _BARE.fullmatch(url)
    if bare is None:
        return None
    scheme = "http" if is_loopback(bare[1]) or re.search(r":\d+(/|$)", url) else "https"
    return f"{scheme}://{url.rstrip('/')}"


def _shown(url: object) -> str:
    """An address for an error message, without anything that may be secret."""
    if not isinstance(url, str):
        return f"of type {type(url).__name__}"
    bare = url.rpartition("@")[2].partition("?")[0].partition("#")[0]
    return repr(bare.encode("ascii", "replace").decode())
