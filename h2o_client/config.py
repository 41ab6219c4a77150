"""The configuration of a session, as one value that all parts of the session share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from h2o_client.arguments import optional_text
from h2o_client.errors import ConfigurationError, Hint
from h2o_client.timeouts import Timeouts

if TYPE_CHECKING:
    import ssl

    from h2o_client.transport.cookies import Cookies

DEFAULT_URL = "https://gpt-gm.h2o.ai"
DEFAULT_MODEL = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"


@dataclass(frozen=True, eq=False, repr=False)  # a repr could show a cookie or a password
class SessionConfig:
    """The arguments of `H2oSession`, which explains them. Only a few are checked here.

    ``base_url`` and ``model`` come from the environment if they are None. ``server_samples``:
    whether the sampling parameters of the server's model override this package's defaults.
    """

    base_url: str | None = None
    _: KW_ONLY
    model: str | None = None
    server_version: str | None = None
    proxy: str | None = None
    cookies: Cookies | None = None
    headers: Mapping[str, str] | None = None
    timeout: Timeouts | float | None = Timeouts()  # noqa: RUF009 - it is frozen
    max_retries: int = 2
    accept_terms: bool = True
    share_data: bool | None = False
    web_search: bool = False
    insecure_cookies: bool | None = None
    verify: bool | str | os.PathLike[str] | ssl.SSLContext = True
    max_connections: int | None = None
    prepare: int = 0
    server_samples: bool = True

    def __post_init__(self) -> None:
        if self.base_url is None:
            object.__setattr__(self, "base_url", os.environ.get("H2O_CLIENT_URL") or None)
        model = optional_text(self.model, "model=") or os.environ.get("H2O_CLIENT_MODEL")
        object.__setattr__(self, "model", model)
        check_count("max_retries", self.max_retries, 0)
        check_count("prepare", self.prepare, 0)
        if self.max_connections is not None:
            check_count("max_connections", self.max_connections, 1)

    @property
    def has_address(self) -> bool:
        """Whether the caller or the environment set an address; otherwise the default is used."""
        return self.base_url is not None

    @property
    def address(self) -> str:
        """The server's address, or the default one."""
        return DEFAULT_URL if self.base_url is None else self.base_url

    @property
    def timeouts(self) -> Timeouts:
        """The timeouts, even if they were given as a number. Raises `ConfigurationError`."""
        return Timeouts.of(self.timeout)


def check_count(name: str, value: object, least: int) -> None:
    """Raise `ConfigurationError` unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(
            f"Invalid {name} {value!r}",
            hint=f"Pass a whole number of at least {least}.",
            argument=name,
        )


def no_address() -> ConfigurationError:
    """The error for a session that was given no address."""
    return ConfigurationError(
        f"No server address was given, and the default one, {DEFAULT_URL}, has not had a chat-ui "
        "since October 2023",
        hint=Hint(
            'Pass {base_url:"http://localhost:3000"}, or set H2O_CLIENT_URL. To start a server of '
            "your own, run {h2o-chat serve}."
        ),
        argument="base_url",
    )
