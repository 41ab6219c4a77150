"""The models that a server offers, and which of them to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2o_client.config import DEFAULT_MODEL, DEFAULT_URL
from h2o_client.dialects.documents import Model
from h2o_client.errors import ConfigurationError, Hint
from h2o_client.transport.call import Call

if TYPE_CHECKING:
    from h2o_client.backend.api_client import ApiClient
    from h2o_client.backend.detector import Detector
    from h2o_client.dialects.dialect import Dialect


class OfferedModels:
    """The models of one server. It has no state of its own: the detector remembers the models.

    ``preferred`` is the session's model; None if the caller passed none.
    """

    def __init__(self, api: ApiClient, detector: Detector, preferred: str | None) -> None:
        self._api = api
        self._detector = detector
        self._preferred = preferred

    def full_list(self, call: Call | None = None) -> tuple[Model, ...]:
        """The models with all their fields, the server's default first.

        Needs no settings and no login.
        """
        call = call or Call(self._api.timeouts)
        # The root page shows the models' parameters. /api/models does not.
        found = self._detector.with_layout(self._detector.detect(call), call)
        return found.layout.models if found.layout is not None else self._short_list(call)

    def ids(self, call: Call) -> list[str]:
        """The ids of the models."""
        return [model.id for model in self._short_list(call)]

    def choose(self, dialect: Dialect, wanted: str | None, call: Call) -> Model:
        """The model to use: ``wanted``, else the session's, H2O's, or the server's first."""
        named = wanted or self._preferred
        if named and not dialect.samples:
            return Model(id=named, name=named)  # the parameters in the list are not needed
        name = named or self.default(call)
        offered = {model.id: model for model in self._short_list(call)}
        return offered.get(name) or Model(id=name, name=name)

    def default(self, call: Call) -> str:
        """The id of the model for sessions without a choice. Raises `ConfigurationError`."""
        if self._preferred:
            return self._preferred
        if self._api.transport.base_url == DEFAULT_URL:
            return DEFAULT_MODEL
        ids = self.ids(call)
        if not ids:
            raise ConfigurationError(
                "The server lists no models", hint=Hint("Name one with {model}."), argument="model"
            )
        return ids[0]

    def for_settings(self, model: str, call: Call) -> str:
        """Return ``model`` if it is known, else the first one.

        v0.3 to v0.6 refuse settings with an unknown model.
        """
        ids = self.ids(call)
        return model if model in ids or not ids else ids[0]

    def _short_list(self, call: Call) -> tuple[Model, ...]:
        found = self._detector.with_models(self._detector.detect(call), call)
        assert found.models is not None
        return found.models
