"""Options that several sub-commands share: for the server, and for prompts."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import click
from click.core import ParameterSource

from h2o_client import options as opts
from h2o_client.cli.kept_conversations import last_kept, remember, restore_session
from h2o_client.cli.saved_answers import cookies_of
from h2o_client.cli.terminal import Waiting, say
from h2o_client.config import SessionConfig, no_address
from h2o_client.errors import ConfigurationError, install_hint
from h2o_client.options import Options
from h2o_client.session import H2oSession
from h2o_client.timeouts import Timeouts
from h2o_client.transport.cookies import Cookies


@dataclass(frozen=True)
class Connection:
    """The options for the server and the way to it."""

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

    @property
    def timeouts(self) -> Timeouts:
        """The timeouts of the session."""
        return Timeouts() if self.timeout is None else Timeouts.of(self.timeout)

    @contextmanager
    def open(self, *, model: str | None = None, jar: Cookies | None = None) -> Iterator[H2oSession]:
        """Open a session with the server; with ``--local``, with a new server on this machine.

        ``jar`` are the cookies if there is no ``--cookie``.
        """
        with self.address() as address, self._session(address, model, jar) as client:
            yield client

    def check_address(self) -> None:
        """Raise `ConfigurationError` if there is no address. No command uses the default one."""
        if not self.local and not SessionConfig(self.url).has_address:
            raise no_address()

    def at(self, address: str | None) -> Connection:
        """Return this with the address from an argument, if there is one."""
        if address is None:
            return self
        if self.url is not None or self.local:
            raise click.UsageError("The address was given twice. Use an argument or --url.")
        return replace(self, url=address)

    def arguments(self, address: str | None, jar: Cookies | None = None) -> dict[str, Any]:
        """The arguments of a session with the server at ``address``. Raises `ConfigurationError`.

        ``jar`` are the cookies if there is no ``--cookie``.
        """
        _check_cookie(self.cookie)
        return {
            "server_version": self.chat_ui,
            "proxy": self.proxy,
            "headers": _headers(self.header),
            "cookies": self._cookies(jar),
            "timeout": self.timeouts,
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
        """The server's address; with ``--local``, of a server that runs within the block.

        Raises `ConfigurationError` if there is none.
        """
        if not self.local:
            self.check_address()
            yield self.url
            return
        if self.url is not None:
            raise click.UsageError("Only one of --url and --local can be used.")
        try:
            from h2o_client.server import serve
            from h2o_client.server.chat_ui import OLDEST
        except ImportError as exc:
            raise _no_local() from exc
        with Waiting("Loading the model"):
            try:
                server = serve(chat_ui=OLDEST)  # later ones ignore sampling parameters
            except ImportError as exc:
                raise _no_local() from exc
        with server:
            yield server.url


_SERVER_OPTIONS = (
    click.option("--url", metavar="URL", help="The server's address [H2O_CLIENT_URL]."),
    click.option("--local", is_flag=True, help="Use a small model on this machine instead."),
    click.option(
        "--cookie",
        metavar="NAME=VALUE|FILE",
        help="The session cookie of a browser, or a cookie file [H2O_CLIENT_COOKIE].",
    ),
    click.option(
        "--header",
        multiple=True,
        metavar='"NAME: VALUE"',
        help="Send this header with every request; may be repeated.",
    ),
    click.option("--proxy", metavar="URL", help="An http, https or socks proxy."),
    click.option(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="Timeout for the connection, for the first token, and between tokens.",
    ),
    click.option(
        "--insecure-cookies", is_flag=True, help="Send cookies over unencrypted connections, too."
    ),
    click.option(
        "--ca",
        metavar="FILE",
        type=click.Path(exists=True),
        help="CA certificate (PEM file or folder) to trust.",
    ),
    click.option("--chat-ui", metavar="VERSION", help="The server's version [default: detected]."),
    click.option("--no-terms", is_flag=True, help="Do not accept the server's terms."),
)


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `Connection` to a command, whose first argument is a `Connection`.

    Options of a group are used for its sub-commands, too.
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


def account_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `server_options`, with one `Connection` for each ``--url`` and ``--cookie``."""

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        names = [field.name for field in fields(Connection) if field.name not in ("url", "cookie")]
        connection = Connection(**{name: values.pop(name) for name in names})
        urls, cookies = values.pop("url"), values.pop("cookie")
        return function(_accounts(connection, urls, cookies), **values)

    for option in reversed(_SERVER_OPTIONS[3:]):
        command = option(command)
    command = click.option(
        "--cookie",
        multiple=True,
        metavar="NAME=VALUE|FILE",
        help="The session cookie of a browser, or a cookie file [H2O_CLIENT_COOKIE]; may be "
        "repeated, one for each account.",
    )(command)
    command = _SERVER_OPTIONS[1](command)
    return click.option(
        "--url",
        multiple=True,
        metavar="URL",
        help="The server's address [H2O_CLIENT_URL]; may be repeated, one for each account.",
    )(command)


def _accounts(
    connection: Connection, urls: tuple[str, ...], cookies: tuple[str, ...]
) -> list[Connection]:
    if len(urls) <= 1:
        url = urls[0] if urls else None
        return [replace(connection, url=url, cookie=each) for each in cookies or (None,)]
    if cookies and len(cookies) != len(urls):
        raise click.UsageError(
            f"{len(urls)} --url, but {len(cookies)} --cookie. Use a cookie for each, or none."
        )
    pairs = zip(urls, cookies or (None,) * len(urls), strict=True)
    return [replace(connection, url=url, cookie=cookie) for url, cookie in pairs]


def _check_folder(context: click.Context, option: click.Parameter, path: str | None) -> str | None:
    if path is not None and not os.access(os.path.dirname(path) or ".", os.W_OK):
        raise click.BadParameter(f"Cannot write {path}. Does its folder exist?")
    return path


@dataclass(frozen=True)
class PromptOptions:
    """The options for the conversation of a prompt and for its answer."""

    model: str | None = None
    system: str | None = None
    parameters: tuple[str, ...] = ()
    continues: bool = False
    conversation: str | None = None
    keep: bool = False
    save_to: str | None = None

    @property
    def is_for_kept(self) -> bool:
        """Whether the conversation of the prompt is kept: an existing one, or with ``--keep``."""
        return self.keep or self.is_for_existing

    @property
    def is_for_existing(self) -> bool:
        """Whether the prompt is for an existing conversation."""
        return self.continues or self.conversation is not None

    def in_conversation(self, conversation_id: str | None) -> PromptOptions:
        """Return this with the id from an argument, if there is one."""
        if conversation_id is None:
            return self
        if self.is_for_existing:
            raise click.UsageError(
                "The conversation was given twice. Use an argument, --continue or --conversation."
            )
        return replace(self, conversation=conversation_id)

    def check(self) -> None:
        """Raise a usage error for options that exclude each other."""
        if self.continues and self.conversation is not None:
            raise click.UsageError("Only one of --continue and --conversation can be used.")
        for text in (self.system or "", *self.parameters):
            expect_text(text)
        if self.is_for_existing and (self.model or self.system):
            raise click.UsageError("--model and --system are for a new conversation.")


_PROMPT_OPTIONS = (
    click.option("-m", "--model", metavar="NAME", help="The model [default: the server's first]."),
    click.option("-s", "--system", metavar="TEXT", help="The system prompt."),
    click.option(
        "-p",
        "--parameter",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE",
        help="A sampling parameter for chat-ui v0.3 to v0.6, such as temperature=0.7 or "
        "max_new_tokens=200.",
    ),
    click.option(
        "-c", "--continue", "continues", is_flag=True, help="Continue the last kept conversation."
    ),
    click.option("--conversation", metavar="ID", help="Continue the conversation with this ID."),
    click.option("--keep", is_flag=True, help="Do not delete the conversation afterwards."),
    click.option(
        "--save-cookies",
        "save_to",
        metavar="FILE",
        type=click.Path(dir_okay=False, writable=True),
        callback=_check_folder,
        help="Write the session's cookies to FILE, for --cookie FILE.",
    ),
)


def prompt_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `PromptOptions` to a command, which gets them as ``chosen``."""

    @functools.wraps(function)
    def command(*arguments: Any, **values: Any) -> Any:
        names = [field.name for field in fields(PromptOptions)]
        chosen = PromptOptions(**{name: values.pop(name) for name in names})
        chosen.check()
        return function(*arguments, chosen=chosen, **values)

    for option in reversed(_PROMPT_OPTIONS):
        command = option(command)
    return command


@contextmanager
def open_stored(connection: Connection, conversation_id: str | None = None) -> Iterator[H2oSession]:
    """Open a session that can read stored conversations, or the one with ``conversation_id``.

    Without the user's cookie, it is the session in which the command kept the conversation, or the
    last one at this address.
    """
    if connection.url is None and not connection.local and conversation_id is not None:
        kept = last_kept(None, conversation_id)
        connection = connection if kept is None else replace(connection, url=kept.url)
    with connection.open() as client:
        restore_session(client, last_kept(client.base_url, conversation_id))
        yield client


@contextmanager
def open_session(
    connection: Connection, chosen: PromptOptions
) -> Iterator[tuple[H2oSession, str | None]]:
    """Open a session; also return the id of the conversation to continue, None for a new one."""
    if not chosen.is_for_existing:
        with connection.open(model=chosen.model) as client:
            if chosen.keep:
                restore_session(client)
            yield client, None
        return
    if connection.local:
        raise click.UsageError("--local starts a new server, which has no conversations yet.")
    found = chosen.conversation
    if chosen.continues:
        kept = last_kept()
        if connection.url is not None:
            with connection.open() as client:
                kept = last_kept(client.base_url)
        if kept is None:
            where = "" if connection.url is None else f" at {connection.url}"
            raise click.UsageError(
                f"No conversation{where} was kept. Keep one with --keep, or use --conversation ID."
            )
        connection, found = replace(connection, url=connection.url or kept.url), kept.id
    with open_stored(connection, found) as client:
        yield client, found


def expect_text(argument: str) -> None:
    """Raise a usage error for an argument with bytes that are not UTF-8."""
    try:
        argument.encode()
    except UnicodeEncodeError as exc:
        shown = argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        byte = ord(argument[exc.start]) & 0xFF
        raise click.UsageError(
            f"{shown} is not UTF-8 text: it has the byte 0x{byte:02x}. Does the terminal use UTF-8?"
        ) from None


def sampling_options(
    parameters: Iterable[str], files: tuple[str, ...] = (), *, option: str = "-p"
) -> Options:
    """The library's options for ``-p`` and ``--file``. Errors name ``option``."""
    named: dict[str, object] = {}
    others: dict[str, object] = {}
    for pair in parameters:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"Invalid parameter {option} {pair}. Use {option} NAME=VALUE.")
        _check_spelling(name, option)
        (named if name in opts.SAMPLING else others)[name] = _value(value)
    if others:
        named["parameters"] = others
    if files:
        named["files"] = list(files)
    return cast(Options, named)


def save_cookies(client: H2oSession, path: str | None) -> None:
    """Write the session's cookies to ``path``, if it is not None and there are any."""
    if path is not None and cookies_of(client)[0]:
        client.save_cookies(path)


def note_kept(
    connection: Connection,
    client: H2oSession,
    conversation_id: str | None,
    save_to: str | None,
    *,
    is_new: bool,
) -> None:
    """Record a kept conversation for ``--continue``, and say so if it is new."""
    if conversation_id is None or connection.local:  # a local server ends with the command
        return
    is_noted = remember(client, conversation_id)
    if not is_new or cookies_of(client)[1]:  # with a browser's cookie, the browser lists it
        return
    if is_noted:
        say(f"(Kept conversation {conversation_id}. h2o-chat -c continues it.)")
    elif not save_to:
        say(
            f"(Kept conversation {conversation_id}. It needs this session's cookie: save it with "
            "--save-cookies FILE, then use --cookie FILE.)"
        )


def _check_spelling(name: str, option: str) -> None:
    """Refuse a misspelt parameter. Other unknown names are passed to the server."""
    if name not in opts.SAMPLING and (meant := opts.suggested(name)):
        raise click.UsageError(
            f"Unexpected parameter {option} {name}=. Did you mean {option} {meant}=?"
        )


def _value(text: str) -> object:
    """Parse a value as JSON, such as a number or a list; else return the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _check_cookie(cookie: str | None) -> None:
    """Raise `ConfigurationError` for a cookie file that does not exist.

    Other values are not shown in an error, because they may be a cookie's value.
    """
    if cookie is None or "=" in cookie or os.path.exists(cookie):
        return
    if cookie.startswith(("/", "./", "../", "~")) or cookie.endswith((".txt", ".cookies")):
        raise ConfigurationError(
            f"The cookie file {cookie} does not exist", hint="Check --cookie.", argument="cookies"
        )


def _headers(lines: Iterable[str]) -> dict[str, str]:
    """Parse ``--header "Name: value"``. Errors do not show headers, which may be secret."""
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ConfigurationError(
                "Invalid header", hint='Use --header "Name: value".', argument="headers"
            )
        found[name.strip()] = value.strip()
    return found


def _no_local() -> click.UsageError:
    return click.UsageError(f"--local needs the extra 'local'. {install_hint('local')}")
