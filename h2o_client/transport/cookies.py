"""The session's cookies: where they come from, and which requests they are sent with.

chat-ui's session cookie is Secure by default, even if the server uses plain http on localhost.
Browsers return such a cookie to a loopback host; Python's jars do not, this one does. Over http to
any other host, a Secure cookie, or a cookie from the caller, is sent only if the caller allows it.
"""

from __future__ import annotations

import math
import os
import re
import stat
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import copy
from datetime import datetime, timezone
from http.cookiejar import (  # type: ignore[attr-defined]
    Cookie,
    CookieJar,
    DefaultCookiePolicy,
    MozillaCookieJar,
    eff_request_host,
)
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Request
from requests.cookies import MockRequest, create_cookie, get_cookie_header

from h2o_client.errors import ConfigurationError, Hint
from h2o_client.log import log
from h2o_client.private_file import write_private
from h2o_client.transport.locks import Guard
from h2o_client.transport.set_cookie import read_set_cookie

Cookies = CookieJar | Mapping[str, str] | str | os.PathLike[str]
"""A jar, a mapping of names to values, ``"name=value"``, or a Netscape cookie file's path."""

_LONGEST_COOKIE = 4096  # bytes of name and value
_MOST_COOKIES = 50


def is_loopback(host: str) -> bool:
    """Whether requests to ``host`` stay on this machine."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    # Python before 3.13 does not look into ::ffff:127.0.0.1.
    address = getattr(address, "ipv4_mapped", None) or address
    # Servers print 0.0.0.0 as their address; for a client it is this machine.
    return address.is_loopback or address.is_unspecified


class SessionJar:
    """The cookies of one session with the server at ``base_url``."""

    def __init__(
        self,
        base_url: str,
        given: Cookies | None,
        *,
        insecure: bool | None,
        proxy: str | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        # Guards the next three. A jar must not be iterated while another thread adds a cookie.
        self._lock = Guard()
        self._jar = CookieJar(_Policy())
        # The Cookie header, if it is the same for every request, and when it expires (seconds since
        # 1970); None if it has to be created again.
        self._header: tuple[str | None, float] | None = None
        # The last Set-Cookie headers, if storing them again changes nothing; else empty.
        self._taken: tuple[str, ...] = ()
        self._host = parts.hostname or ""
        self._plain = parts.scheme == "http" and _crosses_network(self._host, proxy)
        self._insecure = insecure
        # The host as jars write it: "host.local" if the name has no dot.
        self._domain = eff_request_host(MockRequest(Request("GET", base_url).prepare()))[1]
        self.given: bool = given is not None and given != {}
        if given is None or given == {}:
            return
        if self._plain and not insecure:
            raise self._insecure_error("Your cookie would", "cookies")
        is_tls = parts.scheme == "https"
        for cookie in _cookies_of(given, self._host, self._domain, secure=is_tls):
            self._jar.set_cookie(cookie)  # no other thread knows this object yet

    def take(self, lines: Iterable[str], path: str) -> None:
        """Store the cookies in the ``Set-Cookie`` headers of a response, as browsers do.

        ``path`` is the path of the request. Raises `ConfigurationError` as `check`.
        """
        found = tuple(lines)
        # Read without the lock: it is one reference, and an outdated value costs some time only.
        if found == self._taken:
            return
        for line in found:
            cookie = read_set_cookie(line, host=self._host, domain=self._domain, path=path)
            if cookie is not None:
                self._keep(cookie)
        self.check()
        with self._lock:
            self._taken = found if all(map(_is_fixed, found)) else ()

    def _keep(self, cookie: Cookie) -> None:
        with self._lock:
            self._header = None
            if cookie.is_expired():
                with suppress(KeyError):
                    self._jar.clear(cookie.domain, cookie.path, cookie.name)
            elif _has_room_for(cookie, list(self._jar)):
                self._jar.set_cookie(cookie)

    def header(self, request: PreparedRequest) -> str | None:
        """The ``Cookie`` header for a request; None without cookies."""
        with self._lock:
            if self._header is None:
                self._header = self._header_of_all()
            header, until = self._header
            if time.time() >= until:
                header = get_cookie_header(self._jar, request)  # type: ignore[no-untyped-call]
        return header

    def _header_of_all(self) -> tuple[str | None, float]:
        """The header for all requests and when it expires; 0 if it depends on the request."""
        cookies = list(self._jar)
        for cookie in cookies:
            place = (cookie.domain, cookie.path, cookie.port, cookie.version)
            if place != (self._domain, "/", None, 0) or cookie.value is None:
                return None, 0.0
        header = "; ".join(f"{each.name}={each.value}" for each in cookies)
        return header or None, min((each.expires or math.inf for each in cookies), default=math.inf)

    def kept(self) -> list[Cookie]:
        """All stored cookies."""
        with self._lock:
            return list(self._jar)

    def check(self) -> None:
        """Raise `ConfigurationError` if a Secure cookie would cross the network unencrypted."""
        if self._plain and not self._insecure and any(each.secure for each in self.kept()):
            raise self._insecure_error(
                "The server's session cookie is Secure, but would", "insecure_cookies"
            )

    def _insecure_error(self, what: str, argument: str) -> ConfigurationError:
        where = "its proxy" if is_loopback(self._host) else self._host
        return ConfigurationError(
            f"{what} cross the network to {where} unencrypted",
            hint=Hint(
                "Use https, or allow it with {insecure_cookies:True}. The operator of a server "
                "without TLS can set COOKIE_SECURE=false (older versions: "
                "ALLOW_INSECURE_COOKIES=true)."
            ),
            argument=argument,
        )

    def restore(self, cookies: list[Cookie], *, given: bool) -> None:
        """Replace all cookies by those of a pickled session."""
        self.given = given
        with self._lock:
            self._header, self._taken = None, ()
            self._jar.clear()
            for cookie in cookies:
                self._jar.set_cookie(cookie)

    def written(self) -> bytes:
        """All cookies in the format of a Netscape cookie file."""
        saved = MozillaCookieJar()
        for cookie in self.kept():
            saved.set_cookie(cookie)
        return _written(saved)

    def restore_written(self, data: bytes) -> None:
        """Replace all cookies by those of an earlier session, as returned by `written`."""
        self.restore(_read(data), given=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a Netscape cookie file that only its owner can read. The write is atomic.

        Raises `ConfigurationError` if there are no cookies, or the file cannot be written.
        """
        if not self.kept():
            raise ConfigurationError("There are no cookies yet", hint="Send a prompt first.")
        try:
            write_private(path, self.written())
        except (OSError, ValueError, TypeError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise ConfigurationError(
                f"Cannot write cookies to {str(path)!r}: {reason}", argument="path"
            ) from exc

    def __len__(self) -> int:
        return len(self.kept())


def _written(jar: MozillaCookieJar) -> bytes:
    # MozillaCookieJar takes only a file name: use a folder that no other user can write to.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "cookies")
        jar.save(str(file), ignore_discard=True, ignore_expires=True)
        return file.read_bytes()


def _read(data: bytes) -> list[Cookie]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "cookies")
        file.write_bytes(data)
        jar = MozillaCookieJar()
        jar.load(str(file), ignore_discard=True, ignore_expires=True)
        return list(jar)


class _Policy(DefaultCookiePolicy):
    """Sends Secure cookies over http, too; `SessionJar.check` decides whether that is allowed."""

    def return_ok_secure(self, cookie: Cookie, request: Any) -> bool:
        return True


def _is_fixed(line: str) -> bool:
    """Whether a Set-Cookie header has the same effect for every request and at any time."""
    return _OWN_PATH.search(line) is not None and _AGE.search(line) is None


_OWN_PATH = re.compile(r";\s*path\s*=\s*/", re.IGNORECASE)
_AGE = re.compile(r";\s*max-age\b", re.IGNORECASE)


def _has_room_for(cookie: Cookie, kept: list[Cookie]) -> bool:
    """Whether a cookie may be stored, within the minimum limits of RFC 6265."""
    if len(cookie.name) + len(cookie.value or "") > _LONGEST_COOKIE:
        return False
    place = (cookie.domain, cookie.path, cookie.name)
    return len(kept) < _MOST_COOKIES or place in [(c.domain, c.path, c.name) for c in kept]


def cookie_of_environment(base_url: str) -> str | None:
    """The value of H2O_CLIENT_COOKIE, if it is for the server at ``base_url``.

    A ``name=value`` is only for the host and port of H2O_CLIENT_URL; the cookies in a file are for
    their domains. Raises `ConfigurationError` for a ``name=value`` without H2O_CLIENT_URL.
    """
    cookie = os.environ.get("H2O_CLIENT_COOKIE")
    if not cookie or "=" not in cookie or _is_file(cookie):
        return cookie or None
    owner = os.environ.get("H2O_CLIENT_URL")
    if not owner:
        raise ConfigurationError(
            "H2O_CLIENT_COOKIE is set, but H2O_CLIENT_URL is not",
            hint=Hint(
                "Set H2O_CLIENT_URL to the address of the server that the cookie is for, or pass "
                "the cookie as {cookies}."
            ),
        )
    if _host_and_port(owner) == _host_and_port(base_url):
        return cookie
    log.warning("H2O_CLIENT_COOKIE is not sent: it belongs to the server in H2O_CLIENT_URL")
    return None


def _host_and_port(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url.strip())
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.hostname or "").rstrip("."), port


def _crosses_network(host: str, proxy: str | None) -> bool:
    # The caller's proxy is used for loopback addresses, too.
    if not is_loopback(host):
        return True
    return bool(proxy) and not is_loopback(urlsplit((proxy or "").strip()).hostname or "")


def _cookies_of(given: Cookies, host: str, domain: str, *, secure: bool) -> list[Cookie]:
    if isinstance(given, CookieJar):
        copies = [copy(cookie) for cookie in given]
        for each in copies:
            each.domain = _with_subdomains(each.domain)
        return _fitting(copies, host, domain, "The jar")
    if isinstance(given, Mapping):
        return [_cookie(name, value, domain, secure) for name, value in given.items()]
    if isinstance(given, str) and "=" in given and not _is_file(given):
        pairs = [pair.partition("=") for pair in given.split(";") if pair.strip()]
        if any(name.strip().lower() in _ATTRIBUTES for name, _, _ in pairs):
            raise _invalid_pair()
        return [_cookie(name.strip(), value.strip(), domain, secure) for name, _, value in pairs]
    if isinstance(given, str | os.PathLike):
        return _cookies_in(Path(given), host, domain)
    raise _invalid_cookies()


def _cookie(name: str, value: str, domain: str, secure: bool) -> Cookie:
    if not isinstance(name, str) or not isinstance(value, str) or not name:
        raise _invalid_cookies()
    name, value = str.__str__(name), str.__str__(value)
    # A quote is valid in a token, but usually a remnant of a shell or an env file.
    if not TOKEN.fullmatch(name) or name[0] == "'" or ";" in value:
        raise _invalid_pair()
    made: Cookie = create_cookie(  # type: ignore[no-untyped-call]
        name, value, domain=domain, path="/", secure=secure
    )
    return _checked(made)


TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A name of a header or a cookie (RFC 9110)."""
_ATTRIBUTES = ("path", "domain", "expires", "max-age", "httponly", "secure", "samesite")


def _invalid_pair() -> ConfigurationError:
    # The value is not shown: it may be the secret itself.
    return ConfigurationError(
        "Invalid cookie",
        hint=Hint(
            'Pass {cookies:"name=value"}, without quotes around it, "Cookie:" or "Set-Cookie:" '
            "before it, Path= or HttpOnly after it."
        ),
        argument="cookies",
    )


def _checked(cookie: Cookie) -> Cookie:
    text = f"{cookie.name}={cookie.value}"
    if any(ord(char) < 32 for char in text) or not text.isascii():
        raise ConfigurationError(
            f"The cookie {cookie.name!r} has characters that cannot be sent",
            hint="Names and values must be ASCII, without line breaks.",
            argument="cookies",
        )
    return cookie


_SECONDS = re.compile(r"(-?[0-9]+(\.[0-9]*)?)?")  # since 1970


def _cookies_in(path: Path, host: str, domain: str) -> list[Cookie]:
    if not _is_file(path):
        # The path is not shown: it may be a cookie's value without its name.
        raise _invalid_cookies()
    try:
        data = path.read_bytes()
        mode = path.stat().st_mode
        # Editors and shells on Windows write byte order marks.
        is_utf_16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        found = _cookies_of_file(data.decode("utf-16" if is_utf_16 else "utf-8-sig"))
    except OSError as exc:
        raise ConfigurationError(
            f"Cannot read the cookie file {str(path)!r}: {exc.strerror or exc}", argument="cookies"
        ) from exc
    except ValueError as exc:
        problem = "it is not text" if isinstance(exc, UnicodeError) else exc
        raise ConfigurationError(
            f"{path} is not a Netscape cookie file: {problem}",
            hint='Browser extensions for cookies.txt export such files. Or pass "name=value".',
            argument="cookies",
        ) from None
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        warnings.warn(
            f"Other users can read the cookie file {path} and use your session. "
            f"Run: chmod 600 {path}",
            stacklevel=2,
        )
    return _fitting(found, host, domain, str(path))


def _cookies_of_file(text: str) -> list[Cookie]:
    """Parse a cookie file. Raises ValueError; its message does not show the line."""
    found = []
    if text.lstrip()[:1] in ("[", "{"):
        raise ValueError("it is JSON")
    for number, line in enumerate(text.splitlines(), 1):
        line = line.removeprefix("#HttpOnly_")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        # Seven fields separated by tabs, or by spaces if copied from a terminal.
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) not in (6, 7) or not _SECONDS.fullmatch(fields[4].strip()):
            raise ValueError(f"line {number} does not have seven fields separated by tabs")
        domain, is_wide, path, secure, expires, name, *value = map(str.strip, fields)
        if is_wide.upper() == "TRUE":
            domain = _with_subdomains(domain)
        made: Cookie = create_cookie(  # type: ignore[no-untyped-call]
            name,
            "".join(value),
            domain=domain,
            path=path or "/",
            secure=secure.upper() == "TRUE",
            expires=int(expires.partition(".")[0][:12] or 0) or None,
        )
        found.append(made)
    return found


def _fitting(cookies: list[Cookie], host: str, domain: str, source: str) -> list[Cookie]:
    """The cookies for this host. Raises `ConfigurationError` if there are none."""
    own = [cookie for cookie in cookies if _belongs(cookie.domain, host, domain)]
    # Browser extensions write 0 for a cookie that expires with the browser's session.
    fitting = [_checked(each) for each in own if not (each.expires and each.is_expired())]
    if own and not fitting:
        last = max(own, key=lambda each: each.expires or 0)
        day = datetime.fromtimestamp(max(0, last.expires or 0), timezone.utc).date()
        raise ConfigurationError(
            f"The cookie {last.name} for {host} in {source} expired on {day}",
            hint="Log in with a browser again, and copy its cookie.",
            argument="cookies",
        )
    if not fitting:
        raise ConfigurationError(f"{source} has no cookie for {host}", argument="cookies")
    for cookie in fitting:
        if cookie.domain.removeprefix(".") in (host, domain, ""):
            cookie.domain = domain
        cookie.expires = cookie.expires or None
    return fitting


def _is_file(path: str | Path) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False  # not a valid file name


def _invalid_cookies() -> ConfigurationError:
    return ConfigurationError(
        "Invalid cookies",
        hint=Hint('Pass {cookies:"name=value"} or the path of an existing cookie file.'),
        argument="cookies",
    )


def _with_subdomains(domain: str) -> str:
    """The domain of a cookie that is for all hosts in it."""
    return f".{domain.removeprefix('.')}" if domain else ""


def _belongs(cookie_domain: str, host: str, domain: str) -> bool:
    if cookie_domain.removeprefix(".") in ("", host, domain):
        return True
    return cookie_domain.startswith(".") and host.endswith(cookie_domain)
