"""`run()`: the command as a whole. The module of a sub-command is imported when it is called."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import TextIO

import click
from click.shell_completion import CompletionItem, get_completion_class

from h2o_client.cli.exit import (
    BAD_CALL,
    INTERRUPTED,
    NOBODY_READS,
    UNWRITTEN,
    Terminated,
    signals_as_exceptions,
    status_of,
)
from h2o_client.cli.terminal import put, say, say_error, say_unwritten, say_usage
from h2o_client.errors import H2oError
from h2o_client.version import __version__

NAME = "h2o-chat"
# The module in this folder, and the name in that module.
_COMMANDS = {
    "ask": ("ask_command", "ask"),
    "chat": ("chat_command", "chat"),
    "models": ("server_commands", "list_models"),
    "conversations": ("conversations_command", "conversations"),
    "export": ("conversations_command", "export"),
    "batch": ("batch_command", "batch"),
    "resume": ("resume_command", "resume"),
    "doctor": ("server_commands", "doctor"),
    "serve": ("server_commands", "serve"),
    "gateway": ("gateway_command", "gateway"),
    "completion": ("command", "completion"),
}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status. A user's mistake raises no exception."""
    try:
        with signals_as_exceptions(), _warnings_on_a_line():
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
    except SystemExit as exc:  # from click or rich; not 0 if their pipe was closed
        return NOBODY_READS if exc.code else 0
    except OSError as exc:
        if isinstance(exc.__context__, KeyboardInterrupt):
            return INTERRUPTED  # click failed to end the line with ^C
        say_unwritten(exc)
        return UNWRITTEN


class PromptOrCommand(click.Group):
    """Runs a sub-command if the first word names one, also after options.

    Otherwise the words are a prompt. Words after ``ask`` or ``--`` are always a prompt.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        found: click.Command = getattr(import_module(f"h2o_client.cli.{module}"), name)
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        place = self._first_word(ctx, args)
        if place is not None and args[place] in _COMMANDS:
            args = [args[place], *args[:place], *args[place + 1 :]]
        elif args and args[0] in (*ctx.help_option_names, "--version"):
            pass
        else:
            if place is not None and not ctx.resilient_parsing:
                _check_spelling(args[place], args[place + 1 :])
            # During shell completion, the only word may be the beginning of a sub-command.
            if args or not ctx.resilient_parsing:
                args = ["ask", *args]
        return super().parse_args(ctx, args)

    def _first_word(self, ctx: click.Context, args: list[str]) -> int | None:
        """The index of the first word that is neither an option nor an option's value."""
        place = 0
        while place < len(args) and args[place] != "--":
            word = args[place]
            if not word.startswith("-") or word == "-":
                return place
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            place += 2 if name == word and self._takes_value(ctx, name) else 1
        return None

    def _takes_value(self, ctx: click.Context, name: str) -> bool:
        for command in map(partial(self.get_command, ctx), _COMMANDS):
            for option in command.params if command is not None else ():
                if isinstance(option, click.Option) and name in option.opts:
                    return not (option.is_flag or option.count)
        return False

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


def _check_spelling(word: str, behind: list[str]) -> None:
    """Refuse a word that is nearly a sub-command, if no more words of a prompt follow."""
    if any(not each.startswith(("-", "http://", "https://")) for each in behind):
        return
    near = get_close_matches(word, _COMMANDS.keys() - {"ask"}, n=1, cutoff=0.8)
    if meant := "--help" if word == "help" else "".join(near):
        raise click.ClickException(
            f"Unknown command {word!r}. Did you mean {NAME} {meant}? "
            f"To send it as a prompt: {NAME} ask {word}"
        )


@click.group(cls=PromptOrCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
def command() -> None:
    """Talk to a chat-ui server, or run one."""


@contextmanager
def _warnings_on_a_line() -> Iterator[None]:
    """Within the block, show warnings as a sentence, without a place in the code."""

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


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print a script for the shell's completion of this command.

    \b
    Examples:
      h2o-chat completion bash > ~/.local/share/bash-completion/completions/h2o-chat
      h2o-chat completion zsh > ~/.zfunc/_h2o-chat
      h2o-chat completion fish > ~/.config/fish/completions/h2o-chat.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = context.find_root()
    put(kind(root.command, {}, root.info_name or "", "_H2O_CHAT_COMPLETE").source())
    return 0
