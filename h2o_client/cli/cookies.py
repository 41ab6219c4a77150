"""A session's cookies on their way into a file and back, as whose they were."""

from __future__ import annotations

from http.cookiejar import Cookie, CookieJar

import msgspec

from h2o_client.session import H2oSession


class Saved(msgspec.Struct, frozen=True):
    """One cookie."""

    name: str
    value: str
    domain: str
    path: str = "/"
    secure: bool = False
    expires: int | None = None


def saved(client: H2oSession) -> tuple[tuple[Saved, ...], bool]:
    """The cookies of a session, and whether they are a browser's."""
    jar = client._transport.cookies
    found = (
        Saved(each.name, each.value or "", each.domain, each.path, each.secure, each.expires)
        for each in jar.kept()
    )
    return tuple(found), jar.given


def restore(client: H2oSession, cookies: tuple[Saved, ...]) -> None:
    """Makes it the session that got them from its server."""
    client._transport.cookies.restore(list(jar_of(cookies)), given=False)


def jar_of(cookies: tuple[Saved, ...]) -> CookieJar:
    """A jar with them, as of a browser."""
    jar = CookieJar()
    for each in cookies:
        jar.set_cookie(_cookie(each))
    return jar


def _cookie(each: Saved) -> Cookie:
    return Cookie(
        version=0,
        name=each.name,
        value=each.value,
        port=None,
        port_specified=False,
        domain=each.domain,
        domain_specified=bool(each.domain),
        domain_initial_dot=each.domain.startswith("."),
        path=each.path,
        path_specified=bool(each.path),
        secure=each.secure,
        expires=each.expires,
        discard=each.expires is None,
        comment=None,
        comment_url=None,
        rest={},
    )
