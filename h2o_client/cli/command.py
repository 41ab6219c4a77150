"""`run()`: the command as a whole. Sub-commands load when they are called."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import TextIO

import click
from click.shell_completion import CompletionItem

from h2o_client.cli.output import say, say_error, say_unwritten, say_usage
from h2o_client.cli.signals import Terminated, orderly_ends
from h2o_client.cli.statuses import (
    BAD_CALL,
    INTERRUPTED,
    NOBODY_READS,
    UNWRITTEN,
    status_of,
)
from h2o_client.errors import H2oError
from h2o_client.version import __version__

NAME = "h2o-chat"
_COMMANDS = (
    "ask",
    "chat",
    "models",
    "conversations",
    "export",
    "resume",
    "doctor",
    "serve",
    "completion",
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status and never raises what a person could cause."""
    try:
        with orderly_ends(), _warnings_on_a_line():
            return int(command.main(arguments, prog_name=NAME, standalone_mode=False) or 0)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        say_usage(exc)
        return BAD_CALL
    except H2oError as exc:
        say_error(exc)
        return status_of(exc)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Terminated as exc:
        return int(exc.code or 0)
    except SystemExit as exc:  # of click and rich, whose pipe was closed if it is not 0
        return NOBODY_READS if exc.code else 0
    except OSError as exc:
        if isinstance(exc.__context__, KeyboardInterrupt):
            return INTERRUPTED  # click wanted to end the line of ^C
        say_unwritten(exc)
        return UNWRITTEN


class PromptOrCommand(click.Group):
    """What is no command is a prompt."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = import_module(f"h2o_client.cli.{cmd_name}").command
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_prompt = not args or args[0] not in (*_COMMANDS, *ctx.help_option_names, "--version")
        if len(args) == 1 and is_prompt and not ctx.resilient_parsing:
            _check_word(args[0])
        # While a shell completes, nothing more may be said yet than the beginning of a command.
        if is_prompt and (args or not ctx.resilient_parsing):
            args = ["ask", *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        ask = self._ask(ctx)
        context = click.Context(
            ask, info_name=ctx.info_name, help_option_names=ctx.help_option_names
        )
        ask.format_usage(context, formatter)
        ask.format_help_text(context, formatter)
        options = [*ask.get_params(context)[:-1], *self.get_params(ctx)]
        records = [
            each.get_help_record(context) for each in options if isinstance(each, click.Option)
        ]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])
        self.format_commands(ctx, formatter)
        ask.format_epilog(context, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        context = click.Context(self._ask(ctx), info_name=ctx.info_name)
        return super().shell_complete(ctx, incomplete) + self._ask(ctx).shell_complete(
            context, incomplete
        )

    def _ask(self, ctx: click.Context) -> click.Command:
        ask = self.get_command(ctx, "ask")
        assert ask is not None
        return ask


def _check_word(word: str) -> None:
    """Raises a click error for a word that is nearly a command, and nothing else is said."""
    near = get_close_matches(word, _COMMANDS[1:], n=1, cutoff=0.8)
    if meant := "--help" if word == "help" else "".join(near):
        raise click.ClickException(
            f"{word}: did you mean {NAME} {meant}? As a prompt: {NAME} -- {word}"
        )


@click.group(cls=PromptOrCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
def command() -> None:
    """Asks a chat-ui server, or is one."""


@contextmanager
def _warnings_on_a_line() -> Iterator[None]:
    """What the library warns of is a sentence, and not where in Python it comes from."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        say(f"Warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
