"""API keys: find the user to whom a Bearer token belongs.

The keys file is in TOML. Only its owner may be able to read it::

    [keys]
    "sk-alice" = "hf-chat=0b1d..."
    "sk-bob" = "bob-cookies.txt"

A value is a browser's cookie as ``name=value``, or the path of a Netscape cookie file, relative to
the keys file.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from h2o_client.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LONGEST_KEY = 4096


class Owner(msgspec.Struct, frozen=True):
    """A user of the gateway. ``id`` is a digest of the key, ``cookies`` are the user's cookies.

    Without keys, ``cookies`` is None: all tokens share the gateway's session, but each has its own
    conversations.
    """

    id: bytes
    cookies: str | None

    def __repr__(self) -> str:
        return f"<Owner {self.id.hex()[:8]}>"


class Keys:
    """The accepted keys. With None, requests with any token, or without one, are accepted.

    Raises `ConfigurationError` for a key that cannot be sent, and for a blank one.
    """

    def __init__(self, keys: Mapping[str, str] | None = None) -> None:
        self._owners: list[Owner] | None = None
        if keys is not None:
            _check_keys(keys)
            self._owners = [Owner(_digest(key), cookies) for key, cookies in keys.items()]

    @property
    def are_needed(self) -> bool:
        """Whether a request without a key is refused."""
        return self._owners is not None

    def cookies(self) -> dict[bytes, str] | None:
        """Each owner's cookies by the owner's id; None without keys."""
        if self._owners is None:
            return None
        return {owner.id: owner.cookies or "" for owner in self._owners}

    def owner(self, authorization: str) -> Owner | None:
        """The owner of the key in ``Authorization: Bearer KEY``; None if it is unknown or missing.

        Compares in constant time.
        """
        scheme, _, token = authorization.strip().partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
        given = _digest(key[:_LONGEST_KEY])
        if self._owners is None:
            return Owner(given, None)
        found = None
        for owner in self._owners:
            if hmac.compare_digest(owner.id, given):
                found = owner
        return found


def read_keys(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a keys file: each key, and its cookie or the path of its cookie file.

    Raises `ConfigurationError` if the file is missing, invalid, or readable by other users.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            _check_private(os.fstat(opened.fileno()), file)
            document = tomllib.load(opened)
    except OSError as exc:
        raise ConfigurationError(f"Cannot read the keys in {file}: {exc.strerror or exc}.") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The reason is not shown: it quotes the file, which holds secrets.
        raise ConfigurationError(f"The keys file {file} is not valid TOML. {_FORM}") from None
    table = document.get("keys")
    if not isinstance(table, dict) or not table:
        raise ConfigurationError(f"The keys file {file} has no keys. {_FORM}")
    return {key: _cookies(key, value, file) for key, value in table.items()}


_FORM = 'Write a table [keys] with lines of the form "KEY" = "name=value", or = "cookies.txt".'


def _check_private(status: os.stat_result, file: Path) -> None:
    if os.name == "posix" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"Other users can read the keys file {file}. Run: chmod 600 {file}. Then replace the "
            "keys."
        )


def _cookies(key: str, value: object, file: Path) -> str:
    _check_key(key, f"the keys file {file}")
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"A key in {file} has no cookie. {_FORM}")
    if "=" in value:
        return value
    cookies = file.parent / Path(value).expanduser()
    if not cookies.is_file():
        raise ConfigurationError(f"A key in {file} names a cookie file that does not exist.")
    return str(cookies)


def _check_keys(keys: Mapping[str, str]) -> None:
    if not keys:
        raise ConfigurationError("keys is empty. Map each key to a cookie, or leave keys out.")
    for key in keys:
        # A blank key would accept every request without a key.
        _check_key(key, "keys")


def _check_key(key: str, where: str) -> None:
    is_sendable = key.isascii() and key.isprintable() and " " not in key
    if not key or len(key) > _LONGEST_KEY or not is_sendable:
        raise ConfigurationError(
            f"A key in {where} is invalid. Use 1 to {_LONGEST_KEY} ASCII characters without spaces."
        )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
