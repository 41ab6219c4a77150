"""Options that several sub-commands share: which server, and how a prompt is to be answered."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, cast

import click
from click.core import ParameterSource

from h2o_client import options as opts
from h2o_client.cli.saved_answers import cookies_of
from h2o_client.cli.terminal import say, waiting
from h2o_client.errors import ConfigurationError, install_hint
from h2o_client.options import Options
from h2o_client.session import H2oSession
from h2o_client.timeouts import Timeouts
from h2o_client.transport.cookies import Cookies, is_loopback

_BARE = re.compile(r"([\w.-]+|\[[0-9a-fA-F:]+\])(?::\d+)?(?:/[^?#@]*)?", re.ASCII)
_NEAR = 0.85  # max_tokens is none of max_new_tokens' misspellings


@dataclass(frozen=True)
class Connection:
    """The options that say which server is meant and how it is reached."""

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
        """A session with the server; with ``--local``, with a server that is started for it.

        ``jar`` has the cookies if there is no ``--cookie``.
        """
        with self.address() as address, self._session(address, model, jar) as client:
            yield client

    def at(self, address: str | None) -> Connection:
        """The same, with the address given as an argument, if there is one."""
        if address is None:
            return self
        if self.url is not None or self.local:
            raise click.UsageError("The address: say it once, as an argument or with --url.")
        return replace(self, url=address)

    def arguments(self, address: str | None, jar: Cookies | None = None) -> dict[str, Any]:
        """The arguments of a session with the server at ``address``. Raises `ConfigurationError`.

        ``jar`` has the cookies if there is no ``--cookie``.
        """
        _check_address(os.environ.get("H2O_CLIENT_URL") if address is None else address)
        _check_cookie(self.cookie)
        return {
            "server_version": self.chat_ui,
            "proxy": self.proxy,
            "headers": _headers(self.header),
            "cookies": self._cookies(jar),
            "timeout": Timeouts() if self.timeout is None else self.timeout,
            "accept_terms": not self.no_terms,
            "insecure_cookies": self.insecure_cookies or None,
            "verify": self.ca or True,
        }

    def _session(self, address: str | None, model: str | None, jar: Cookies | None) -> H2oSession:
        return H2oSession(address, model=model, **self.arguments(address, jar))

    def _cookies(self, jar: Cookies | None) -> Cookies | None:
        if self.cookie is None and jar is None and self.local:
            return {}  # H2O_CLIENT_COOKIE is for another server
        return jar if self.cookie is None else self.cookie

    @contextmanager
    def address(self) -> Iterator[str | None]:
        """The server's address; with ``--local``, of a server that runs within the block."""
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


_SERVER_OPTIONS = (
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
        help="CA certificate (PEM file or folder) to trust.",
    ),
    click.option(
        "--chat-ui", metavar="VERSION", help="The server's version; else it is found out."
    ),
    click.option("--no-terms", is_flag=True, help="Do not accept the server's terms."),
)


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of `Connection`; its function's first argument is one.

    Options that were given to a group hold for its commands.
    """

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        context = click.get_current_context()
        names = [field.name for field in fields(Connection)]
        connection = Connection(**{name: values.pop(name) for name in names})
        outer = context.find_object(Connection)
        if outer is not None:
            of_group = {
                name: getattr(outer, name)
                for name in names
                if context.get_parameter_source(name) is ParameterSource.DEFAULT
            }
            connection = replace(connection, **of_group)
        context.obj = connection
        return function(connection, **values)

    for option in reversed(_SERVER_OPTIONS):
        command = option(command)
    return command


def _check_folder(context: click.Context, option: click.Parameter, path: str | None) -> str | None:
    if path is not None and not os.access(os.path.dirname(path) or ".", os.W_OK):
        raise click.BadParameter(f"{path} cannot be written: is its folder there?")
    return path


_PROMPT_OPTIONS = (
    click.option("-m", "--model", metavar="NAME", help="The model, else the server's first."),
    click.option("-s", "--system", metavar="TEXT", help="How the model is to behave."),
    click.option(
        "-p",
        "--parameter",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE",
        help="A sampling parameter, as temperature=0.7 or max_new_tokens=200.",
    ),
    click.option("--keep", is_flag=True, help="Leave the conversation on the server."),
    click.option(
        "--save-cookies",
        "cookies_into",
        metavar="FILE",
        type=click.Path(dir_okay=False, writable=True),
        callback=_check_folder,
        help="Write the session's cookies there, for --cookie FILE.",
    ),
)


def prompt_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options: ``model``, ``system`` ... ``cookies_into``."""
    for option in reversed(_PROMPT_OPTIONS):
        function = option(function)
    return function


def sampling_options(parameters: Iterable[str], files: tuple[str, ...] = ()) -> Options:
    """The library's options for ``-p`` and ``--file``."""
    named: dict[str, object] = {}
    others: dict[str, object] = {}
    for pair in parameters:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"-p {pair}: a parameter is given as NAME=VALUE.")
        _check_spelling(name)
        (named if name in opts.SAMPLING else others)[name] = _value(value)
    if others:
        named["parameters"] = others
    if files:
        named["files"] = list(files)
    return cast(Options, named)


def save_cookies(client: H2oSession, path: str | None) -> None:
    """Write the session's cookies to ``path``, if that is given and there are any."""
    if path is not None and cookies_of(client)[0]:
        client.save_cookies(path)


def say_kept(
    client: H2oSession, conversation_id: str | None, path: str | None, *, local: bool
) -> None:
    """Say how to find a kept conversation again, unless the user has the cookie."""
    has_cookie = path or cookies_of(client)[1]
    if conversation_id and not has_cookie and not local:
        say(
            f"(The conversation {conversation_id} is kept, but only its session's cookie opens it: "
            "with --save-cookies FILE that is kept as well, for --cookie FILE.)"
        )


def _check_spelling(name: str) -> None:
    """Other names are passed to the server, unless they look like a misspelt one."""
    if name in opts.SAMPLING:
        return
    usual = name.lower().replace("-", "_")
    if near := get_close_matches(usual, opts.SAMPLING, n=1, cutoff=_NEAR):
        raise click.UsageError(f"-p {name}: did you mean {near[0]}?")


def _value(text: str) -> object:
    """A number, true, false, a list: what JSON knows; else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _check_address(url: str | None) -> None:
    """Raise `ConfigurationError` for an address that lacks its scheme."""
    url = (url or "").strip()
    bare = _BARE.fullmatch(url)
    if bare is not None and "://" not in url:
        scheme = "http" if is_loopback(bare[1]) or re.search(r":\d+(/|$)", url) else "https"
        raise ConfigurationError(
            f"{url} is no address of a server. Did you mean {scheme}://{url.rstrip('/')}?"
        )


def _check_cookie(cookie: str | None) -> None:
    """Raise `ConfigurationError` for a cookie file that does not exist.

    What does not look like a path may be a cookie's value, and is in no error.
    """
    if cookie is None or "=" in cookie or os.path.exists(cookie):
        return
    if cookie.startswith(("/", "./", "../", "~")) or cookie.endswith((".txt", ".cookies")):
        raise ConfigurationError(f"There is no cookie file {cookie}. Look at --cookie.")


def _headers(lines: Iterable[str]) -> dict[str, str]:
    """The headers of ``--header "Name: value"``. No error shows them: they may be secrets."""
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ConfigurationError('A header is given as --header "Name: value".')
        found[name.strip()] = value.strip()
    return found


def _no_local() -> click.UsageError:
    return click.UsageError(f"--local needs the extra 'local'. {install_hint('local')}")
