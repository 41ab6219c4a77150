"""The user who is logged in, and whether the server requires a login."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2o_client.errors import AuthenticationError

if TYPE_CHECKING:
    from h2o_client.backend.api_client import ApiClient
    from h2o_client.backend.detector import Detector
    from h2o_client.dialects.documents import User
    from h2o_client.transport.call import Call


class Login:
    """The login of one session. It needs no settings, and has no state of its own."""

    def __init__(self, api: ApiClient, detector: Detector) -> None:
        self._api = api
        self._detector = detector

    def user(self, call: Call | None = None) -> User | None:
        """The user who is logged in; None for a session without a login."""
        return self._api.fetch(self._detector.detect(call).dialect.user(), call)

    def check(self, call: Call | None = None) -> None:
        """Raise `AuthenticationError` if the server requires a login that this session lacks.

        Such a server may show a guest, or a user whose cookie has expired, empty lists.
        """
        required = self._api.fetch(self._detector.detect(call).dialect.needs_login(), call)
        if required and self.user(call) is None:
            raise self.missing()

    def missing(self) -> AuthenticationError:
        """The error for a session that lacks a required login."""
        transport = self._api.transport
        whose = " with this cookie, which may have expired" * transport.cookies.given
        said = f"login required, and nobody is logged in{whose}"
        return AuthenticationError(200, said, url=transport.base_url)
