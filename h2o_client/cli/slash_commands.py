"""What can be done in a chat beside talking: lines that begin with a slash."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h2o_client.cli.conversation_file import document, format_of, write_file
from h2o_client.cli.terminal import put, put_line, sanitized, say

if TYPE_CHECKING:
    from h2o_client.cli.chat_command import Chat

    Command = Callable[[Chat, str], None]


class Left(Exception):
    """The user leaves the chat."""


def run_slash_command(chat: Chat, line: str) -> None:
    """Run the command that the line names. An unknown one is refused, and nothing is sent."""
    name, _, rest = line.partition(" ")
    command = _COMMANDS.get(name.strip())
    if command is None:
        say(f"There is no {sanitized(name)}: /help shows what there is. Nothing was sent.")
        return
    command(chat, rest.strip())


def _retry(chat: Chat, rest: str) -> None:
    """Another answer to the last message."""
    if chat.prompt is None:
        say("Nothing has been asked yet.")
    elif chat.is_taken:
        chat.answer(lambda: chat.conversation.retry(**chat.options))
    else:
        chat.say(chat.prompt)


def _edit(chat: Chat, rest: str) -> None:
    """[TEXT]: another wording of the last message, in its place."""
    if chat.prompt is None:
        say("Nothing has been asked yet.")
        return
    text = rest or chat.editor.ask(default=chat.prompt)
    if not text.strip():
        return
    if not chat.is_taken:
        chat.say(text)
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
        say(f"There is no model {rest}: /model shows those that there are.")
    else:
        chat.model = rest
        _begin(chat, "")


def _begin(chat: Chat, rest: str) -> None:
    """Begins a new conversation."""
    chat.begin()
    say("(A new conversation.)")


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
    say("  Ctrl-C stops an answer, Ctrl-D leaves.")


def _quit(chat: Chat, rest: str) -> None:
    """Leaves."""
    raise Left


_COMMANDS: dict[str, Command] = {
    "/retry": _retry,
    "/edit": _edit,
    "/system": _system,
    "/model": _model,
    "/new": _begin,
    "/title": _title,
    "/share": _share,
    "/save": _save,
    "/resume": _resume,
    "/help": _help,
    "/quit": _quit,
}

NAMES = tuple(_COMMANDS)
