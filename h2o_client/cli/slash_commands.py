"""What can be done in a chat beside talking: lines that begin with a slash."""

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
    """Run the command that the line names. An unknown one is refused, and nothing is sent."""
    name, _, rest = line.partition(" ")
    command = _COMMANDS.get(name.strip())
    if command is None:
        name = sanitized(name)
        say(
            f"Unknown command {name}. /help lists the commands. Nothing was sent. For a message "
            f"that begins with a slash, type two: /{name}"
        )
        return
    command(chat, rest.strip())


def _retry(chat: Chat, rest: str) -> None:
    """Another answer to the last message."""
    if chat.prompt is None:
        say("Nothing has been asked yet.")
    elif chat.is_taken:
        chat.answer(lambda: chat.conversation.retry(**chat.options))
    else:
        chat.say(chat.prompt, chat.files)


def _edit(chat: Chat, rest: str) -> None:
    """[TEXT]: another wording of the last message, in its place."""
    if chat.prompt is None:
        say("Nothing has been asked yet.")
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
    """[TEXT]: how the model is to behave, in a new conversation."""
    if not rest:
        say(chat.system or "The model was told nothing about how to behave.")
        return
    chat.system = rest
    _begin(chat, "")


def _model(chat: Chat, rest: str) -> None:
    """[NAME]: another model, in a new conversation; without a name, those that there are."""
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
    """Begins a new conversation."""
    chat.begin()
    say("(A new conversation.)")


def _open(chat: Chat, rest: str) -> None:
    """[ID]: goes on in another conversation; without an ID, shows those that there are."""
    if rest.isdecimal() and 1 <= int(rest) <= len(chat.listed):
        rest = chat.listed[int(rest) - 1]
    if rest:
        chat.open(rest)
        return
    found = list(islice(chat.client.conversations(), _MOST_LISTED))
    chat.listed = [each.id or "" for each in found]
    if not found:
        say("There are no conversations. Those of a browser need its --cookie.")
    for number, each in enumerate(found, 1):
        mark = "*" if each.id == chat.conversation.id else " "
        put_line(f"{mark}{number:3}  {each.id}  {in_a_line(each.title or 'Untitled')}")
    if found and chat.is_typed:
        say("/open 1 goes on in the first of them.")


def _attach(chat: Chat, rest: str) -> None:
    """[FILE]: goes with the next message; without a name, shows what does. /attach off: none."""
    if rest == "off":
        chat.attached.clear()
    elif rest:
        path = Path(rest).expanduser()
        if not path.is_file():
            say(f"There is no file {sanitized(rest)}. Nothing was attached.")
            return
        chat.attached.append(str(path))
    if chat.attached:
        say(f"With the next message: {', '.join(map(sanitized, chat.attached))}")
    else:
        say("Nothing is attached. /attach FILE has a file go with the next message.")


def _set(chat: Chat, rest: str) -> None:
    """[NAME=VALUE]: a sampling parameter from now on; NAME= unsets it. Without, those that are."""
    from h2o_client.cli.shared_options import sampling_options

    name, equals, value = rest.partition("=")
    name = name.strip()
    if rest:
        parameters = {**chat.parameters, name: f"{name}={value.strip()}" if equals else rest}
        if equals and not value.strip():
            del parameters[name]
        chat.options = sampling_options(parameters.values())
        chat.parameters = parameters
    for each in chat.parameters.values():
        put_line(each)
    if not chat.parameters:
        say("No sampling parameter is set. /set temperature=0.7 sets one.")


def _title(chat: Chat, rest: str) -> None:
    """[TEXT]: shows the conversation's title, or gives it another."""
    if rest:
        chat.conversation.rename(rest)
        return
    if chat.conversation.title is None:
        chat.conversation.messages()
    put_line(chat.conversation.title or "The conversation has no title yet.")


def _share(chat: Chat, rest: str) -> None:
    """Makes a page that shows the conversation to anybody."""
    put_line(chat.conversation.share())


def _save(chat: Chat, rest: str) -> None:
    """[FILE]: writes the conversation into a file: as JSON if its name ends so."""
    if chat.conversation.id is None:
        say("Nothing has been said in this conversation yet: there is nothing to save.")
        return
    if not rest:
        say("Into which file? /save chat.md, or /save chat.json")
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
    """Whether the file does not exist yet, or the user agrees to replace it, or cannot be asked."""
    if not chat.is_typed or not Path(path).expanduser().is_file():
        return True
    try:
        return click.confirm(f"{sanitized(path)} is there already. Replace it?", err=True)
    except click.Abort:
        return False


def _resume(chat: Chat, rest: str) -> None:
    """Goes on with the last answer that was cut short; this conversation stays as it is."""
    from h2o_client.cli.resume_command import resume_last

    try:
        resume_last(chat.connection, rest=False, form="markdown")
    except KeyboardInterrupt:
        if not chat.is_typed:
            raise
        say("(Stopped. /resume shows it again, and goes on.)")
    if sys.stdout.isatty():
        put("\n")


def _help(chat: Chat, rest: str) -> None:
    """Shows this."""
    for name, command in _COMMANDS.items():
        words, colon, what = (command.__doc__ or "").partition(": ")
        usage = f"{name} {words}" if colon else name
        say(f"  {usage.ljust(16)} {what if colon else words}", indent=19)
    say("  Enter sends; Esc-Enter, or a backslash at the end, begins another line.")
    say("  // at the beginning sends a message that begins with a slash.")
    say("  Ctrl-C stops an answer, Ctrl-D leaves.")


def _quit(chat: Chat, rest: str) -> None:
    """Leaves."""
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
