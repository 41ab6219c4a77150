"""The options that say which server is meant and how it is reached, once for all commands."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import click
from click.core import ParameterSource

from h2o_client.cli.address import check_address, check_cookie, headers_of
from h2o_client.cli.progress import waiting
from h2o_client.errors import install_hint
from h2o_client.session import H2oSession
from h2o_client.timeouts import Timeouts
from h2o_client.transport.cookies import Cookies


@dataclass(frozen=True)
class Connection:
    """What was said about the server."""

    url: str | None = None
    local: bool = False
    cookie: str | None = None
    header: tuple[str, ...] = ()
    proxy: str | None = None
    timeout: Timeouts | float | None = None
    insecure_cookies: bool = False
    ca: str | None = None
    chat_ui: str | None = None
    no_terms: bool = False

    @contextmanager
    def open(self, *, model: str | None = None, jar: Cookies | None = None) -> Iterator[H2oSession]:
        """A session with the server; with ``--local`` one that is started for it.

        ``jar`` has the cookies if none were said.
        """
        with self._address() as address, self._session(address, model, jar) as client:
            yield client

    def at(self, address: str | None) -> Connection:
        """The same, with the address that was said as an argument, if one was."""
        if address is None:
            return self
        if self.url is not None or self.local:
            raise click.UsageError("The address: say it once, as an argument or with --url.")
        return replace(self, url=address)

    def _session(self, address: str | None, model: str | None, jar: Cookies | None) -> H2oSession:
        check_address(os.environ.get("H2O_CLIENT_URL") if address is None else address)
        check_cookie(self.cookie)
        return H2oSession(
            address,
            model=model,
            server_version=self.chat_ui,
            proxy=self.proxy,
            headers=headers_of(self.header),
            cookies=self._cookies(jar),
            timeout=Timeouts() if self.timeout is None else self.timeout,
            accept_terms=not self.no_terms,
            insecure_cookies=self.insecure_cookies or None,
            verify=self.ca or True,
        )

    def _cookies(self, jar: Cookies | None) -> Cookies | None:
        if self.cookie is None and jar is None and self.local:
            return {}  # what the environment has is another server's
        return jar if self.cookie is None else self.cookie

    @contextmanager
    def _address(self) -> Iterator[str | None]:
        if not self.local:
            yield self.url
            return
        if self.url is not None:
            raise click.UsageError("--url and --local: it is one or the other.")
        try:
            from h2o_client.server import serve
        except ImportError as exc:
            raise _no_local() from exc
        with waiting("Loading the model"):
            try:
                server = serve()
            except ImportError as exc:
                raise _no_local() from exc
        with server:
            yield server.url


_OPTIONS = (
    click.option("--url", metavar="URL", help="The server's address [H2O_CLIENT_URL]."),
    click.option("--local", is_flag=True, help="Ask a small model on this machine instead."),
    click.option("--cookie", metavar="NAME=VALUE|FILE", help="A browser's [H2O_CLIENT_COOKIE]."),
    click.option(
        "--header",
        multiple=True,
        metavar='"NAME: VALUE"',
        help="Sent with every request; may be repeated.",
    ),
    click.option("--proxy", metavar="URL", help="An http, https or socks proxy."),
    click.option("--timeout", type=float, metavar="SECONDS", help="For every wait."),
    click.option(
        "--insecure-cookies", is_flag=True, help="Let cookies cross the network in the clear."
    ),
    click.option(
        "--ca",
        metavar="FILE",
        type=click.Path(exists=True),
        help="The authority that the server's certificate is of.",
    ),
    click.option(
        "--chat-ui", metavar="VERSION", help="The server's version; else it is found out."
    ),
    click.option("--no-terms", is_flag=True, help="Do not accept the server's terms."),
)


def connects(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options, and its function one `Connection` of them, its first argument.

    What is said to a group holds for its commands.
    """

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        context = click.get_current_context()
        names = [field.name for field in fields(Connection)]
        connection = Connection(**{name: values.pop(name) for name in names})
        outer = context.find_object(Connection)
        if outer is not None:
            unsaid = {
                name: getattr(outer, name)
                for name in names
                if context.get_parameter_source(name) is ParameterSource.DEFAULT
            }
            connection = replace(connection, **unsaid)
        context.obj = connection
        return function(connection, **values)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _no_local() -> click.UsageError:
    return click.UsageError(f"--local needs the extra 'local'. {install_hint('local')}")
