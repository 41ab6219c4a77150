"""The commands of a chat: lines that begin with a slash."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h2o_client.cli.conversation_file import document, format_of, write_file
from h2o_client.cli.terminal import in_a_line, put, put_line, sanitized, say

if TYPE_CHECKING:
    from h2o_client.cli.chat_command import Chat

    Command = Callable[[Chat, str], None]


_MOST_LISTED = 20  # conversations


class Left(Exception):
    """The user leaves the chat."""


def run_slash_command(chat: Chat, line: str) -> None:
    """Run the command in a line. An unknown command is refused, and nothing is sent."""
    name, _, rest = line.partition(" ")
    command = _COMMANDS.get(name.strip())
    if command is None:
        name = sanitized(name)
        say(
            f"Unknown command {name}. Nothing was sent. /help lists the commands. To send a "
            f"message that begins with a slash, type two slashes: /{name}"
        )
        return
    command(chat, rest.strip())


def _retry(chat: Chat, rest: str) -> None:
    """Request another answer to the last message."""
    if chat.prompt is None:
        say("There is no message yet.")
    elif chat.is_taken:
        chat.answer(lambda: chat.conversation.retry(**chat.options))
    else:
        chat.say(chat.prompt, chat.files)


def _edit(chat: Chat, rest: str) -> None:
    """[TEXT]: Edit the last message."""
    if chat.prompt is None:
        say("There is no message yet.")
        return
    text = rest or chat.editor.ask(default=chat.prompt)
    if not text.strip():
        return
    if not chat.is_taken:
        chat.say(text, chat.files)
        return
    chat.answer(lambda: chat.conversation.edit(None, text, **chat.options))
    chat.prompt = text


def _system(chat: Chat, rest: str) -> None:
    """[TEXT]: Start a new conversation with this system prompt; without a text, show it."""
    if not rest:
        say(chat.system or "There is no system prompt.")
        return
    chat.system = rest
    _begin(chat, "")


def _model(chat: Chat, rest: str) -> None:
    """[NAME]: Start a new conversation with this model; without a name, list the models."""
    names = [model.id for model in chat.client.models()]
    if not rest:
        for name in names:
            put_line(name)
    elif names and rest not in names:
        say(f"Unknown model {rest}. /model lists the models.")
    else:
        chat.model = rest
        _begin(chat, "")


def _begin(chat: Chat, rest: str) -> None:
    """Start a new conversation."""
    chat.begin()
    say("(A new conversation.)")


def _open(chat: Chat, rest: str) -> None:
    """[ID]: Continue another conversation; without an ID, list the conversations."""
    if rest.isdecimal() and 1 <= int(rest) <= len(chat.listed):
        rest = chat.listed[int(rest) - 1]
    if rest:
        chat.open(rest)
        return
    found = list(islice(chat.client.conversations(), _MOST_LISTED))
    chat.listed = [each.id or "" for each in found]
    if not found:
        say("There are no conversations. To use those of a browser, pass its cookie with --cookie.")
    for number, each in enumerate(found, 1):
        mark = "*" if each.id == chat.conversation.id else " "
        put_line(f"{mark}{number:3}  {each.id}  {in_a_line(each.title or 'Untitled')}")
    if found and chat.is_typed:
        say("/open 1 continues the first of them.")


def _attach(chat: Chat, rest: str) -> None:
    """[FILE]: Send a file with the next message; without a name, list them; "off" removes them."""
    if rest == "off":
        chat.attached.clear()
    elif rest:
        path = Path(rest).expanduser()
        if not path.is_file():
            say(f"The file {sanitized(rest)} does not exist. Nothing was attached.")
            return
        chat.attached.append(str(path))
    if chat.attached:
        say(f"With the next message: {', '.join(map(sanitized, chat.attached))}")
    else:
        say("Nothing is attached. /attach FILE attaches a file to the next message.")


def _set(chat: Chat, rest: str) -> None:
    """[NAME=VALUE]: Set a sampling parameter; NAME= removes it; without a name, list them."""
    from h2o_client.cli.shared_options import sampling_options

    name, equals, value = rest.partition("=")
    name = name.strip()
    if rest:
        parameters = {**chat.parameters, name: f"{name}={value.strip()}" if equals else rest}
        if equals and not value.strip():
            del parameters[name]
        chat.options = sampling_options(parameters.values(), option="/set")
        chat.parameters = parameters
    for each in chat.parameters.values():
        put_line(each)
    if not chat.parameters:
        say("No sampling parameter is set. /set temperature=0.7 sets one.")


def _title(chat: Chat, rest: str) -> None:
    """[TEXT]: Rename the conversation; without a text, show its title."""
    if rest:
        chat.conversation.rename(rest)
        return
    if chat.conversation.title is None:
        chat.conversation.messages()
    put_line(chat.conversation.title or "The conversation has no title yet.")


def _share(chat: Chat, rest: str) -> None:
    """Share the conversation on a public page."""
    put_line(chat.conversation.share())


def _save(chat: Chat, rest: str) -> None:
    """[FILE]: Save the conversation as Markdown, or as JSON if the name ends with .json."""
    if chat.conversation.id is None:
        say("Nothing to save: this conversation has no messages yet.")
        return
    if not rest:
        say("To which file? /save chat.md, or /save chat.json")
        if not chat.is_typed:
            return
        rest = chat.editor.ask(default=_name_for(chat.conversation.title)).strip()
    if not rest or not _may_write(chat, rest):
        say("Not saved.")
        return
    write_file(rest, document(chat.conversation, format_of(rest)))
    say(f"Saved to {rest}.")


def _name_for(title: str | None) -> str:
    """A file name of letters, digits and hyphens."""
    words = re.findall(r"[^\W_]+", (title or "").lower())
    return f"{'-'.join(words)[:40].strip('-') or 'chat'}.md"


def _may_write(chat: Chat, path: str) -> bool:
    """Whether the file may be written: it is new, the user agrees, or stdin is not a terminal."""
    if not chat.is_typed or not Path(path).expanduser().is_file():
        return True
    try:
        return click.confirm(f"{sanitized(path)} exists already. Replace it?", err=True)
    except click.Abort:
        return False


def _resume(chat: Chat, rest: str) -> None:
    """Resume the last interrupted answer. This conversation does not change."""
    from h2o_client.cli.resume_command import resume_last

    try:
        resume_last(chat.connection, rest=False, form="markdown")
    except KeyboardInterrupt:
        if not chat.is_typed:
            raise
        say("(Stopped. /resume resumes it again.)")
    if sys.stdout.isatty():
        put("\n")


def _help(chat: Chat, rest: str) -> None:
    """Show this help."""
    for name, command in _COMMANDS.items():
        words, colon, what = (command.__doc__ or "").partition(": ")
        usage = f"{name} {words}" if colon else name
        say(f"  {usage.ljust(16)} {what if colon else words}", indent=19)
    say("  Enter sends; Esc-Enter, or a backslash at the end, starts a new line.")
    say("  A message that begins with // is sent with a single slash.")
    say("  Ctrl-C stops an answer, Ctrl-D leaves.")


def _quit(chat: Chat, rest: str) -> None:
    """Leave the chat."""
    raise Left


_COMMANDS: dict[str, Command] = {
    "/retry": _retry,
    "/edit": _edit,
    "/system": _system,
    "/model": _model,
    "/attach": _attach,
    "/set": _set,
    "/new": _begin,
    "/open": _open,
    "/title": _title,
    "/share": _share,
    "/save": _save,
    "/resume": _resume,
    "/help": _help,
    "/quit": _quit,
}

NAMES = tuple(_COMMANDS)
