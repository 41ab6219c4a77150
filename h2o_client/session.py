"""`H2oSession`: one client of one server, blocking."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from h2o_client import options as opts
from h2o_client.background import completed
from h2o_client.conversation import Conversation
from h2o_client.errors import ConfigurationError, UnsupportedError
from h2o_client.generations import v0_3
from h2o_client.generations.v0_3 import Model
from h2o_client.messages import Messages, as_prompt, parse_messages
from h2o_client.options import Options, takes_options
from h2o_client.reply import Answer, Reply
from h2o_client.timeouts import Timeouts
from h2o_client.transport import Cookies, Transport
from h2o_client.upstream import DEFAULT_URL, Upstream

if TYPE_CHECKING:
    from typing_extensions import Unpack


class H2oSession:
    """A client of the chat-ui server at ``base_url``. Use it in a ``with``; threads may share it.

    Nothing is sent until something is asked. The first request accepts the server's terms
    (``accept_terms``) and makes sure that conversations are not shared with the authors of the
    models (``share_data``). ``H2O_CLIENT_URL``, ``H2O_CLIENT_MODEL`` and ``H2O_CLIENT_COOKIE``
    stand in for arguments that are not given.

    base_url: the server's address, with a path if it has one.
    model: its name; else H2O's on H2O's host, elsewhere the server's first.
    server_version: the chat-ui's, as "0.4.0": it is then not looked for in the first answer.
    proxy: an http, https or socks URL; else the usual environment variables.
    cookies: of a browser that is logged in: ``"name=value"``, a mapping, a jar, or a Netscape
        cookie file. What its user has set in the browser stays as it was.
    headers: sent with every request, as for a proxy that asks for credentials.
    timeout: `Timeouts`, or seconds for all but the total.
    max_retries: how often a request that cannot have been taken is sent again.
    insecure_cookies: True lets the session's cookies cross the network in the clear; without it
        that is an error, but for loopback.
    verify: False, a file or folder of trusted authorities, or an `ssl.SSLContext`.
    max_connections: at most so many answers at once; None for no limit.
    web_search: asks for searches in the settings, which H2O's service had and others ignore.

    Raises `ConfigurationError` for arguments that cannot work.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        model: str | None = None,
        server_version: str | None = None,
        proxy: str | None = None,
        cookies: Cookies | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Timeouts | float | None = Timeouts(),  # noqa: B008 - it is frozen
        max_retries: int = 2,
        accept_terms: bool = True,
        share_data: bool = False,
        web_search: bool = False,
        insecure_cookies: bool | None = None,
        verify: bool | str | ssl.SSLContext = True,
        max_connections: int | None = None,
    ) -> None:
        named = os.environ.get("H2O_CLIENT_URL") if base_url is None else base_url
        _check_version(server_version)
        _check_count("max_retries", max_retries, 0)
        if max_connections is not None:
            _check_count("max_connections", max_connections, 1)
        self._transport = Transport(
            named or DEFAULT_URL,
            proxy=proxy,
            cookies=os.environ.get("H2O_CLIENT_COOKIE") or None if cookies is None else cookies,
            headers=headers,
            verify=verify,
            insecure_cookies=insecure_cookies,
            max_connections=max_connections,
            max_retries=max_retries if named else 0,
        )
        self._upstream = Upstream(
            self._transport,
            timeouts=Timeouts.of(timeout),
            model=model or os.environ.get("H2O_CLIENT_MODEL"),
            accept_terms=accept_terms,
            share_data=share_data,
            web_search=web_search,
            known=server_version is not None,
            named=bool(named),
        )

    @property
    def base_url(self) -> str:
        """The server's address, without credentials and without a slash at its end."""
        return self._transport.base_url

    @takes_options
    def stream(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        system: str | None = None,
        keep: bool = False,
        **options: Unpack[Options],
    ) -> Reply:
        """The answer to ``messages`` as it comes: iterate for its tokens.

        messages: a text, or a list of messages (dicts with "role" and "content", or `Message`);
            several become one prompt of ``User: ...`` and ``Assistant: ...`` lines.
        system: how the model is to behave, in front of the messages.
        keep: leave the conversation that is made for this on the server.
        options: see `Options`: temperature, top_p, top_k, repetition_penalty, max_new_tokens,
            truncate, do_sample, return_full_text, stop, seed, parameters, prompt_format, timeout.

        Returns when the head of the server's answer is here, with these servers at the first
        token. Raises `ConfigurationError` before anything is sent, `StatusError` for a refusal,
        `TransportError` and `TransportTimeout` for the network; iterating raises those and
        `GenerationError`, `IncompleteAnswerError`, `ProtocolError`, with ``.partial``.
        """
        opts.check_options(options, v0_3.NAME)
        parsed = parse_messages(messages, system=system)
        prompt = as_prompt(parsed, options.get("prompt_format"))
        conversation = Conversation(self._upstream, model=model, keep=keep)
        return conversation._ask(prompt, options, once=not keep)

    @takes_options
    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        system: str | None = None,
        keep: bool = False,
        **options: Unpack[Options],
    ) -> Answer:
        """The whole answer to ``messages``; arguments and errors as `stream`."""
        with self.stream(messages, model=model, system=system, keep=keep, **options) as reply:
            return reply.read()

    def conversation(
        self,
        id: str | None = None,
        *,
        system: str | None = None,
        model: str | None = None,
        keep: bool = False,
    ) -> Conversation:
        """A conversation of several turns: a new one, or the one with ``id``.

        A new one is deleted when it is closed, unless ``keep=True``. Sends nothing yet.
        """
        return Conversation(self._upstream, id=id, system=system, model=model, keep=keep)

    def models(self) -> list[Model]:
        """The models the server offers, its first choice first."""
        return list(self._upstream.layout().models)

    def close(self) -> None:
        """Stops what is unfinished, deletes what was made for it, closes connections."""
        completed(self._upstream.close)

    def __enter__(self) -> H2oSession:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<H2oSession {self.base_url}>"


def _check_version(version: str | None) -> None:
    if version is None:
        return
    numbers = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.\d+)*", str(version))
    if numbers is None:
        raise ConfigurationError(f'server_version={version!r}: it looks like "0.4.0".')
    if not v0_3.FIRST <= (int(numbers[1]), int(numbers[2])) <= v0_3.LAST:
        raise UnsupportedError(
            f"Talking to chat-ui {version}", "this version of h2o-chat", f"It speaks {v0_3.NAME}."
        )


def _check_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name}={value!r}: give a whole number of at least {least}.")
