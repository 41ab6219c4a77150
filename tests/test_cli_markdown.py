"""Markdown that grows on a terminal: all of it is there at the end, and none of it steers."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from h2o_client.cli.markdown import Growing, Tame, _parted

STYLES = re.compile(r"\x1b\[[\d;]*m")
# What draws a growing text over itself: erase a line, go up, show and hide the cursor.
DRAWING = re.compile(r"\x1b\[(2K|1A|\?25[hl])|\r")


def console(width: int = 60) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=10, force_terminal=True, color_system="standard"
    )


def rendered(text: str, width: int = 60) -> str:
    screen = console(width)
    screen.print(Tame(text))
    assert isinstance(screen.file, io.StringIO)
    return STYLES.sub("", screen.file.getvalue())


def grown(*tokens: str) -> str:
    screen = console()
    with Growing(screen) as answer:
        for token in tokens:
            answer.add(token)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a **b** c", "a b c\n"),
        ("- one\n- two", " • one\n • two\n"),
        ("```\ncode\n```", " code\n"),
        ("[red]no markup[/red] :smile:", "[red]no markup[/red] :smile:\n"),
        ("[name](http://x.example/)", "name (http://x.example/)\n"),
        ("<think>words</think> more", "<think>words</think> more\n"),
        ("<div>\nwords\n</div>", "<div> words </div>\n"),
    ],
)
def test_what_it_shows(text: str, shown: str) -> None:
    assert rendered(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a\x1b[2Jb",
        "a\x9b2Jb",
        "&#27;[2J &#x1b;[2J &#155;2J &#13;x",
        "<http://x/%1b%5b2J>",
        "[a](http://x/%1b]0;t%07 'title\x1b[2J')",
        "![alt\x1b[2J](http://x/%1b[2J)",
        "```\x1b[2J\ncode\x1b[2J\n```",
        "```python\nx = '\x1b]0;t\x07'\n```",
        "| \x1b[2J |\n|---|\n| &#27;[2J |",
        "# \x1b]0;title\x07",
        "[x]\n\n[x]: http://x/%1b[2J",
    ],
)
def test_no_spelling_of_an_escape_reaches_the_terminal(text: str) -> None:
    for shown in (rendered(text), DRAWING.sub("", STYLES.sub("", grown(text, "\n\n", "end")))):
        assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown) is None


def test_no_link_is_hidden_behind_another_address() -> None:
    assert "\x1b]8" not in grown("[http://good.example](http://bad.example)")


def test_every_block_is_written_once_and_whole() -> None:
    text = "# Title\n\nfirst *paragraph*\n\n- one\n- two\n\n```\ncode\n\nmore\n```\n\nlast"
    shown = DRAWING.sub("", STYLES.sub("", grown(*re.findall(r"\S+|\s+", text))))
    end = shown[shown.rindex("Title") :]
    for words in ("first paragraph", " • one\n • two", " code\n \n more", "last"):
        assert words in end.replace(" \n", "\n").replace("\n\n more", "\n \n more"), words
    assert shown.rstrip().endswith("last")


def test_what_came_stays_when_it_is_interrupted() -> None:
    screen = console()
    with pytest.raises(KeyboardInterrupt), Growing(screen) as answer:
        answer.add("some words")
        raise KeyboardInterrupt
    assert isinstance(screen.file, io.StringIO)
    assert screen.file.getvalue().rstrip().endswith("some words")


def test_a_block_that_does_not_fit_shows_its_end_while_it_grows() -> None:
    screen = console()
    answer = Growing(screen)
    answer.add("\n".join(f"- item {number}" for number in range(50)))
    with screen.capture() as capture:
        screen.print(answer, end="")
    lines = STYLES.sub("", capture.get()).splitlines()
    assert len(lines) <= 8
    assert lines[-1].strip() == "• item 49"


@pytest.mark.parametrize(
    ("text", "complete", "pending"),
    [
        ("one", "", "one"),
        ("one\n\n", "", "one\n\n"),
        ("one\n\ntwo", "one\n\n", "two"),
        ("```\na\n\nb", "", "```\na\n\nb"),
        ("- a\n\n- b\n", "", "- a\n\n- b\n"),
        ("- a\n\nb", "- a\n\n", "b"),
        ("a\u2028b\n\nc", "a\u2028b\n\n", "c"),
        ("", "", ""),
    ],
)
def test_only_the_last_block_is_pending(text: str, complete: str, pending: str) -> None:
    assert _parted(text) == (complete, pending)
