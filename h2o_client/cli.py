"""The command: a prompt in, the answer to stdout as it comes; all else goes to stderr.

Exit statuses: 0 an answer, 2 a bad call, 3 the server refused, 4 the network, 5 the answer broke
off, 130 Ctrl-C, 141 whoever read the output has gone.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, cast

import click

from h2o_client import options as opts
from h2o_client.errors import (
    ConfigurationError,
    GenerationError,
    H2oError,
    IncompleteAnswerError,
    TransportError,
    UnsupportedError,
)
from h2o_client.options import Options
from h2o_client.reply import Reply
from h2o_client.server.chat_ui import DEFAULT, generation_of
from h2o_client.session import H2oSession
from h2o_client.version import __version__

BAD_CALL, REFUSED, NETWORK, BROKEN_OFF, INTERRUPTED, NOBODY_READS = 2, 3, 4, 5, 130, 141

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STATUSES = """\b
Exit status: 0 an answer, 2 a bad call, 3 the server refused, 4 the network
failed, 5 the answer broke off, 130 Ctrl-C.
"""


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status and never raises what a person could cause."""
    try:
        return int(_command.main(arguments, prog_name="h2o-chat", standalone_mode=False) or 0)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        exc.show()
        return BAD_CALL
    except H2oError as exc:
        _say(f"Error: {exc}")
        return _status_of(exc)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED


class _PromptOrCommand(click.Group):
    """What is no command is a prompt."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, "--help", "--version"):
            args = ["ask", *args]
        return super().parse_args(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        ask = self.commands["ask"]
        return ask.get_help(click.Context(ask, info_name=ctx.info_name))


@click.group(cls=_PromptOrCommand)
@click.version_option(__version__, prog_name="h2o-chat")
def _command() -> None:
    """Asks a chat-ui server, or is one."""


@_command.command("ask", hidden=True, epilog=_STATUSES)
@click.argument("prompt", nargs=-1)
@click.option("--url", metavar="URL", help="The server's address [H2O_CLIENT_URL].")
@click.option("--local", is_flag=True, help="Ask a small model on this machine instead.")
@click.option("-m", "--model", metavar="NAME", help="The model, else the server's first.")
@click.option("-s", "--system", metavar="TEXT", help="How the model is to behave.")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A sampling parameter, as temperature=0.7 or max_new_tokens=200.",
)
@click.option("--cookie", metavar="NAME=VALUE|FILE", help="A browser's [H2O_CLIENT_COOKIE].")
@click.option("--proxy", metavar="URL", help="An http, https or socks proxy.")
@click.option("--timeout", type=float, metavar="SECONDS", help="For every wait.")
@click.option("--keep", is_flag=True, help="Leave the conversation on the server.")
@click.option(
    "--insecure-cookies", is_flag=True, help="Let cookies cross the network in the clear."
)
def _ask(
    prompt: tuple[str, ...],
    url: str | None,
    local: bool,
    model: str | None,
    system: str | None,
    parameters: tuple[str, ...],
    cookie: str | None,
    proxy: str | None,
    timeout: float | None,
    keep: bool,
    insecure_cookies: bool,
) -> int:
    """Asks a chat-ui server. The answer goes to stdout as it comes.

    What is piped in follows the prompt. A server of your own: h2o-chat serve --help.

    \b
    Examples:
      h2o-chat --local "Why is the sky blue?"
      h2o-chat --url http://localhost:3000 -p temperature=0.7 "Tell me a joke"
      cat report.txt | h2o-chat "Summarise this"
    """
    question = _question(prompt)
    options: dict[str, object] = {"timeout": timeout}
    options.update(_parameters(parameters))
    with _address(url, local) as address:
        client = H2oSession(
            address,
            model=model,
            proxy=proxy,
            cookies=cookie,
            insecure_cookies=insecure_cookies or None,
        )
        with (
            client,
            client.stream(question, system=system, keep=keep, **cast(Options, options)) as reply,
        ):
            _write(reply)
    return 0


def _check_version(context: click.Context, option: click.Parameter, chat_ui: str) -> str:
    try:
        generation_of(chat_ui)
    except ConfigurationError as exc:
        raise click.BadParameter(str(exc)) from None
    return chat_ui


@_command.command("serve")
@click.option(
    "--chat-ui",
    metavar="VERSION",
    default=DEFAULT,
    show_default=True,
    callback=_check_version,
    help="The chat-ui to be: 0.3 to 0.6, 0.9.6 to 0.10.0, or latest.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=3000, show_default=True, help="0 takes a free one.")
@click.option("--model-file", metavar="GGUF", help="Another model than the bundled one.")
@click.option("--upstream", metavar="URL", help="An OpenAI-compatible server that answers.")
@click.option("--answers", metavar="FILE", help="Scripted answers, for tests of your own code.")
@click.option(
    "--model", metavar="NAME", help="The model's name; the upstream's own, if it has one."
)
@click.option("--terms", is_flag=True, help="Have terms that a session must accept.")
@click.option("--quiet", is_flag=True, help="Write no access log to stderr.")
def _serve(**choices: Any) -> int:
    """A chat-ui server for this machine, with a small bundled model, until Ctrl-C."""
    from h2o_client.server.running import run as run_server

    return run_server(**choices)


def _question(prompt: tuple[str, ...]) -> str:
    """The prompt of the arguments, and behind it what is piped in."""
    parts = [" ".join(prompt)]
    if not sys.stdin.isatty():
        parts.append(sys.stdin.buffer.read().decode("utf-8", "replace"))
    question = "\n\n".join(part for part in parts if part.strip())
    if not question:
        raise click.UsageError('There is no prompt: h2o-chat "Why is the sky blue?"')
    return question


def _parameters(given: tuple[str, ...]) -> dict[str, object]:
    named: dict[str, object] = {}
    others: dict[str, object] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"-p {pair}: a parameter is given as NAME=VALUE.")
        (named if name in opts.SAMPLING else others)[name] = _value(value)
    return {**named, "parameters": others} if others else named


def _value(text: str) -> object:
    """A number, true, false, a list: what JSON knows; else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@contextmanager
def _address(url: str | None, local: bool) -> Iterator[str | None]:
    if not local:
        yield url
        return
    if url is not None:
        raise click.UsageError("--url and --local: it is one or the other.")
    try:
        from h2o_client.server import serve
    except ImportError as exc:
        raise click.UsageError('--local needs the extra: pip install "h2o-chat[local]".') from exc

    if sys.stderr.isatty():
        _say("Loading the model ...")
    with serve() as server:
        yield server.url


def _write(reply: Reply) -> None:
    last = ""
    try:
        for token in reply:
            last = _shown(token, sys.stdout)
            _put(last)
    finally:
        if last and not last.endswith("\n"):
            _put("\n")


def _put(text: str) -> None:
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        # Python would write what is left at its exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(NOBODY_READS) from None


def _status_of(error: H2oError) -> int:
    if isinstance(error, ConfigurationError | UnsupportedError):
        return BAD_CALL
    if isinstance(error, TransportError):
        return NETWORK
    if isinstance(error, IncompleteAnswerError | GenerationError):
        return BROKEN_OFF
    return REFUSED


def _say(sentence: str) -> None:
    click.echo(_shown(sentence, sys.stderr), err=True)


def _shown(text: str, stream: TextIO) -> str:
    # On a terminal the server's words must not move the cursor or set the title.
    return _CONTROLS.sub("\ufffd", text) if stream.isatty() else text
