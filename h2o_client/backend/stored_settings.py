"""The settings that a server stores for a session or a user: terms, sharing, the active model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from h2o_client.dialects import pages
from h2o_client.dialects.documents import Layout, Settings
from h2o_client.errors import ProtocolError
from h2o_client.transport.call import Call
from h2o_client.wire.request import post_json

if TYPE_CHECKING:
    from h2o_client.backend.api_client import ApiClient
    from h2o_client.backend.detector import Detector
    from h2o_client.backend.login import Login
    from h2o_client.backend.offered_models import OfferedModels
    from h2o_client.config import SessionConfig
    from h2o_client.dialects.detection import Found
    from h2o_client.dialects.dialect import Dialect


class StoredSettings:
    """Posts the settings once, and reads and changes them. Threads may share it."""

    def __init__(
        self,
        config: SessionConfig,
        api: ApiClient,
        detector: Detector,
        login: Login,
        models: OfferedModels,
    ) -> None:
        self._config = config
        self._api = api
        self._detector = detector
        self._login = login
        self._models = models
        # The detector's ``upgrades`` when the settings were posted; None before. It is set inside
        # `Detector.hold`, whose lock is held until they are posted. It may be read without the lock
        # after `Detector.current`: an upgrade that is detected afterwards is a later one.
        self._posted_for: int | None = None

    def post_once(self, call: Call) -> Dialect:
        """Detect the server, and post the settings if that was not done yet. Return the dialect.

        Other calls that need the settings wait meanwhile, within their timeouts.
        """

        def post() -> Dialect:
            found = self._detector.detect(call)
            if self._posted_for != self._detector.upgrades:
                found = self._post_initial(found, call)
                self._posted_for = self._detector.upgrades
            return found.dialect

        found = self._detector.current(call)
        if found is not None and self._posted_for == self._detector.upgrades:
            return found.dialect
        return self._detector.hold(call, post)

    def read(self, dialect: Dialect, call: Call | None = None) -> Settings:
        """The settings as the server has them now."""
        endpoint = dialect.settings()
        if self._api.transport.cookies.given:
            self._login.check(call)  # a guest would get the defaults
        return self._api.fetch(endpoint, call)

    def change(self, dialect: Dialect, change: Callable[[Settings], Settings], call: Call) -> None:
        """Read the whole document, change it with ``change``, and post it."""
        if dialect.has_pages:
            stored = self._of_page(self._api.fetch(pages.layout(), call))
        else:
            stored = self.read(dialect, call)
        changed = change(stored)
        dialect.check_settings(stored, changed)
        self._post(dialect, changed, call)

    def _post_initial(self, found: Found, call: Call) -> Found:
        """Accept the terms and turn sharing off. With a caller's cookie, change nothing else."""
        dialect = found.dialect
        stored: Settings | None = None
        if self._belong_to_others() or dialect.samples:
            found = self._detector.with_layout(found, call)
            if found.layout is not None:
                stored = self._of_page(found.layout)
            else:
                stored = self._api.fetch(dialect.settings(), call)
        wanted = self._wanted(dialect, stored, call)
        if wanted is not None:
            self._post(dialect, wanted, call)
        return self._detector.detect(call)  # it may have the list of models now

    def _of_page(self, layout: Layout) -> Settings:
        """The settings of the root page. Raises `AuthenticationError`, `ProtocolError`."""
        if layout.needs_login:
            raise self._login.missing()
        return _to_send_back(layout)

    def _belong_to_others(self) -> bool:
        """Whether there are settings to keep: those of a browser, or those posted earlier."""
        return self._api.transport.cookies.given or self._posted_for is not None

    def _wanted(self, dialect: Dialect, stored: Settings | None, call: Call) -> Settings | None:
        """The document to post in place of the stored one, or None."""
        config = self._config
        if not self._belong_to_others():
            # By default, a new session shares. None does not change this.
            shares = config.share_data is not False
            fresh = Settings(accepted=config.accept_terms, shares_data=shares)
            if not dialect.samples:
                return fresh
            assert stored is not None
            return msgspec.structs.replace(
                fresh,
                active_model=self._models.for_settings(self._models.default(call), call),
                web_search=config.web_search,
                custom_prompts=stored.custom_prompts,
            )
        # The session is also used in a browser, so everything else stays unchanged.
        assert stored is not None
        accepted = stored.accepted or config.accept_terms
        shares = stored.shares_data if config.share_data is None else config.share_data
        if accepted == stored.accepted and shares == stored.shares_data:
            return None
        active_model = stored.active_model
        if dialect.samples:
            active_model = self._models.for_settings(active_model, call)
        return msgspec.structs.replace(
            stored, accepted=accepted, shares_data=shares, active_model=active_model
        )

    def _post(self, dialect: Dialect, settings: Settings, call: Call) -> None:
        request = dialect.change_settings(settings)
        if dialect.samples:
            self._api.submit_form(request, call)
        else:
            self._api.send(request, call)


def _to_send_back(layout: Layout) -> Settings:
    """The settings of a page. Raises `ProtocolError` if they are larger than the page itself.

    References in page data can stand for more than was received.
    """
    settings = layout.settings
    try:
        written = post_json("", {"": settings.custom_prompts, **settings.others})
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ProtocolError("the settings: they cannot be sent back", type(exc).__name__) from exc
    if len(written.body or b"") > layout.size:
        raise ProtocolError("the settings: they are larger than their page")
    return settings
