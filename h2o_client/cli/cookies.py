"""A session's cookies on their way into a file and back, as whose they were."""

from __future__ import annotations

from http.cookiejar import Cookie, CookieJar

import msgspec
from requests.cookies import create_cookie

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
        for each in jar.jar
    )
    return tuple(found), jar.given


def restore(client: H2oSession, cookies: tuple[Saved, ...]) -> None:
    """Makes it the session that got them from its server."""
    client._transport.cookies.restore(list(jar_of(cookies)), given=False)


def jar_of(cookies: tuple[Saved, ...]) -> CookieJar:
    """A jar with them, as of a browser."""
    jar = CookieJar()
    for each in cookies:
        made: Cookie = create_cookie(  # type: ignore[no-untyped-call]
            each.name,
            each.value,
            domain=each.domain,
            path=each.path,
            secure=each.secure,
            expires=each.expires,
        )
        jar.set_cookie(made)
    return jar
