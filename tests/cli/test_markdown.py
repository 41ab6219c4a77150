"""Growing Markdown on a terminal: it is complete at the end and contains no control characters."""

from __future__ import annotations

import io
import re
import threading
import time
from typing import Any

import pytest
from markdown_it.token import Token
from rich.console import Console
from rich.segment import Segment

from h2o_client.cli import terminal_markdown
from h2o_client.cli.terminal_markdown import (
    Budget,
    Growing,
    SanitizedMarkdown,
    _Frame,
    blocks_of,
    rows_of,
)
from local_service import PATIENCE

STYLES = re.compile(r"\x1b\[[\d;]*m")
# The control sequences that redraw a growing text.
DRAWING = re.compile(r"\x1b\[(2K|1A|\?25[hl])|\r")


def console(width: int = 60) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=10, force_terminal=True, color_system="standard"
    )


def rendered(text: str, width: int = 60) -> str:
    screen = console(width)
    screen.print(SanitizedMarkdown(text, Budget()), crop=False)
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
        ("a ![plot](http://x/p.png) b", "a plot (http://x/p.png) b\n"),
        ("![](http://x/p.png)", "(http://x/p.png)\n"),
        ("[x][r]\n\n[r]: http://x/", "[x][r]\n\n[r]: http://x/\n"),
        ("a\r\nb\r\n\r\nc", "a b\n\nc\n"),
    ],
)
def test_markdown_is_rendered_on_a_terminal(text: str, shown: str) -> None:
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
        "a\u202eb\u2066c &#x202e; <http://x/%E2%80%AE>",
    ],
)
def test_no_escape_sequence_reaches_the_terminal(text: str) -> None:
    for shown in (rendered(text), DRAWING.sub("", STYLES.sub("", grown(text, "\n\n", "end")))):
        assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown) is None


def test_links_are_not_written_as_terminal_hyperlinks() -> None:
    assert "\x1b]8" not in grown("[http://good.example](http://bad.example)")


def test_every_block_is_written_once_and_completely() -> None:
    text = "# Title\n\nfirst *paragraph*\n\n- one\n- two\n\n```\ncode\n\nmore\n```\n\nlast"
    shown = DRAWING.sub("", STYLES.sub("", grown(*re.findall(r"\S+|\s+", text))))
    end = shown[shown.rindex("Title") :]
    for words in ("first paragraph", " • one\n • two", " code\n \n more", "last"):
        assert words in end.replace(" \n", "\n").replace("\n\n more", "\n \n more"), words
    assert shown.rstrip().endswith("last")


def test_after_an_interrupt_the_text_stays() -> None:
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
    lines = drawn(answer)
    assert len(lines) <= 4  # of ten, so that they fit when the terminal is half as wide
    assert lines[-1].strip() == "• item 49"


def drawn(answer: Growing) -> list[str]:
    """The part of the text so far that is on the screen."""
    answer._refresh()
    return answer._frame._drawn


@pytest.mark.parametrize(
    ("name", "rows"), [("xterm-256color", 4), ("tmux-256color", 4), ("linux", 2), ("screen", 2)]
)
def test_a_frame_is_erased_completely_after_the_terminal_became_narrower(
    monkeypatch: pytest.MonkeyPatch, name: str, rows: int
) -> None:
    monkeypatch.setenv("TERM", name)
    for other in ("TMUX", "XTERM_VERSION"):
        monkeypatch.delenv(other, raising=False)
    screen = console(width=20)
    frame = _Frame(screen)
    frame.draw([[Segment("x" * 20)], [Segment("y" * 18)]])
    screen.width = 10
    frame.clear()
    assert isinstance(screen.file, io.StringIO)
    assert screen.file.getvalue().endswith(f"\r\x1b[{rows - 1}A\x1b[J")


@pytest.mark.parametrize(
    ("line", "width", "rows"),
    [("", 10, 1), ("x" * 10, 10, 1), ("x" * 11, 10, 2), ("\u4e2d" * 5, 9, 2), ("\u4e2d" * 5, 3, 5)],
)
def test_the_rows_of_a_line_are_counted(line: str, width: int, rows: int) -> None:
    assert rows_of(line, width) == rows


@pytest.mark.parametrize(
    "text",
    [
        r"the root \(\frac{-b \pm \sqrt{b^2}}{2a}\) of it",
        r"with $a_1 * b_1 * c_2$ in it",
        r"set \[ \{1, 2\} \] and $$x\,y$$ too",
    ],
)
def test_a_formula_keeps_its_backslashes_and_asterisks(text: str) -> None:
    assert rendered(text) == f"{text}\n"


@pytest.mark.parametrize("delimiters", [("\\[", "\\]"), ("$$", "$$")])
def test_a_formula_of_several_lines_is_shown_unchanged(delimiters: tuple[str, str]) -> None:
    begin, end = delimiters
    lines = [begin, "a \\\\", "+ b", "= c", end]
    shown = rendered("\n".join(["Thus", *lines, "so."]))
    assert [line.strip() for line in shown.splitlines() if line.strip()] == ["Thus", *lines, "so."]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("from $5 to *$6*", "from $5 to $6"),
        ("**$x** and **$y**", "$x and $y"),
        (r"\$5 and \*stars\*", "$5 and *stars*"),
        (r"\(never closed *here*", "(never closed here"),
    ],
)
def test_text_that_is_not_a_formula_is_markdown(text: str, shown: str) -> None:
    assert rendered(text) == f"{shown}\n"


def test_nothing_is_drawn_without_new_text_or_during_a_resize(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = console()
    answer = Growing(screen)
    answer.add("some words")
    drawn(answer)
    assert isinstance(screen.file, io.StringIO)
    before = screen.file.getvalue()
    drawn(answer)
    assert screen.file.getvalue() == before
    screen.width = 30
    answer.add(" more")
    drawn(answer)
    assert screen.file.getvalue() == before
    monkeypatch.setattr(terminal_markdown, "_RESIZED_AFTER", 0.0)
    assert drawn(answer) == ["more"]  # the drawn text stays in a narrower terminal


def test_a_long_block_is_plain_text_while_it_grows_and_parsed_when_it_has_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[int] = []

    def counted(text: str) -> list[str]:
        parsed.append(len(text))
        return blocks_of(text)

    monkeypatch.setattr(terminal_markdown, "blocks_of", counted)
    monkeypatch.setattr(terminal_markdown, "lines_of", lambda *given: pytest.fail("rendered"))
    screen = console()
    answer = Growing(screen)
    line = f"| *{'x' * 195}* |\n"
    for _ in range(1000):
        answer.add(line * 5)
        answer._gather()
        if len(answer._block) > terminal_markdown._MOST_DRAWN:
            lines = drawn(answer)
            assert len(lines) <= 8
            assert "x*" in "".join(lines)
    assert sum(parsed) <= 3 * len(answer._block)


def test_adding_text_does_not_wait_for_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing, added = threading.Event(), threading.Event()

    def slow(text: str) -> list[str]:
        drawing.set()
        assert added.wait(PATIENCE)
        return blocks_of(text)

    monkeypatch.setattr(terminal_markdown, "blocks_of", slow)
    screen = console()
    with Growing(screen) as answer:
        answer.add("one\n\n")
        assert drawing.wait(PATIENCE)
        answer.add("two\n\nthree")
        added.set()
    assert isinstance(screen.file, io.StringIO)
    shown = DRAWING.sub("", STYLES.sub("", screen.file.getvalue()))
    assert re.search("one\n+two\n+three\n$", shown)


def test_the_pause_is_ten_times_as_long_as_the_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    clock = iter([0.0, 0.001, 10.0, 13.0])

    class Over(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            rests.append(timeout)
            return len(rests) == 3

    monkeypatch.setattr(time, "thread_time", lambda: next(clock))
    answer = Growing(console())
    answer._over = Over()
    answer._draw()
    assert rests == [terminal_markdown._PAUSE, terminal_markdown._PAUSE, pytest.approx(30.0)]
    assert answer._failure is None


def test_an_error_while_drawing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Growing) -> bool:
        raise OSError("the terminal is gone")

    answer = Growing(console())
    monkeypatch.setattr(Growing, "_gather", fails)
    answer._draw()
    with pytest.raises(OSError, match="the terminal is gone"):
        answer.add("one")


def test_a_million_characters_in_one_block_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "| a | b |\n|---|---|\n" + "| x | y |\n" * 100_000 + "the end"
    assert rendered(text) == f"{text}\n"


@pytest.mark.parametrize(
    "text",
    [
        "> " * 30 + "word",
        "> " * 3000 + "word",
        "\n".join(f"{'  ' * depth}- deep{depth}." for depth in range(60)),
        f"| a | {'b' * 200} |\n|---|---|\n| {'c' * 99} | 2 |\n",
        f"|{'word|' * 80}\n|{'---|' * 80}\n|{'text|' * 80}\n",
        "[" * 3000 + "word",
    ],
)
def test_deep_nesting_and_wide_tables_lose_no_text(text: str) -> None:
    shown = rendered(text)
    for letter in set(filter(str.isalnum, text.replace("---", ""))):
        assert shown.count(letter) >= text.count(letter), letter


def test_text_that_cannot_be_rendered_is_shown_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbles(*given: object) -> None:
        raise KeyError("unknown")

    monkeypatch.setattr(terminal_markdown, "_rendered", stumbles)
    assert rendered("a **b**") == "a **b**\n"


def test_a_line_end_may_be_split_between_tokens() -> None:
    shown = DRAWING.sub("", STYLES.sub("", grown("one\r", "\n\r", "\ntwo\r", "x\r")))
    assert re.search("one\n\ntwo\ufffdx\ufffd\n$", shown)


@pytest.mark.parametrize(
    "blocks",
    [
        ["one"],
        ["one\n\n"],
        ["one\n\n", "two"],
        ["one\n\n", "two\n\n", "# three\n", "four"],
        ["```\na\n\nb"],
        ["- a\n\n- b\n"],
        ["- a\n\n", "b"],
        ["a\u2028b\n\n", "c"],
        ["\n\none\n\n", "two"],
        [""],
    ],
)
def test_only_the_last_block_is_pending(blocks: list[str]) -> None:
    assert blocks_of("".join(blocks)) == blocks


LONG = 99_000
COSTLY = {
    "brackets": "[" * LONG,
    "images": "![" * (LONG // 2),
    "headings": "# a\n" * (LONG // 4),
    "rules": "---\n" * (LONG // 4),
    "code": "```\nx\n" * (LONG // 6),
    "a table": "| a | b |\n|---|---|\n" + "| x | y |\n" * (LONG // 10),
    "a wide table": "\n".join("|" + f"{cell}|" * (LONG // 6) for cell in ("a", "-", "b")),
    "items": "1. a\n" * (LONG // 5),
    "lines": "a\\\n" * (LONG // 3),
    "stars": "**a** " * (LONG // 6),
}


@pytest.mark.parametrize("text", COSTLY.values(), ids=COSTLY)
def test_beyond_a_limit_costly_text_is_shown_plain_and_complete(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed, tokens = [], []
    parse, render = terminal_markdown._PARSER.parse, terminal_markdown._rendered

    def counted_parse(source: str, env: dict[str, object] | None = None) -> list[Token]:
        parsed.append(len(source))
        return parse(source, env)

    def counted_render(found: list[Token], *rest: Any) -> terminal_markdown.Lines:
        tokens.append(sum(1 + len(each.children or ()) for each in found))
        return render(found, *rest)

    monkeypatch.setattr(terminal_markdown._PARSER, "parse", counted_parse)
    monkeypatch.setattr(terminal_markdown, "_rendered", counted_render)
    screen = console()
    answer = Growing(screen)
    answer._write(blocks_of(text))
    assert max([*parsed, 0]) <= 50_000
    assert len(parsed) <= 8_001
    assert sum(tokens) <= 40_000
    assert isinstance(screen.file, io.StringIO)
    shown = STYLES.sub("", screen.file.getvalue())
    for letter in "abxy":
        assert shown.count(letter) >= text.count(letter), letter


def test_an_answer_of_usual_length_is_rendered_completely() -> None:
    block = "# Title\n\nSome *words* of a [paragraph](http://x.example/), " + "more " * 60 + "\n\n"
    shown = STYLES.sub("", grown(block * 300))
    assert "*words*" not in shown
    assert shown.count("(http://x.example/)") >= 300


@pytest.mark.parametrize(
    ("begin", "rest", "shown"),
    [
        ("some words", " more\n\nnext", ["some words", "more", "next"]),
        ("```py\none\n", "two\n```\n\nnext", [" one", " two", "next"]),
        ("- one\n", "- two\n", [" • one", " • two"]),
    ],
)
def test_after_the_terminal_became_narrower_the_rest_is_drawn_below(
    monkeypatch: pytest.MonkeyPatch, begin: str, rest: str, shown: list[str]
) -> None:
    monkeypatch.setattr(terminal_markdown, "_RESIZED_AFTER", 0.0)
    screen = console()
    answer = Growing(screen)
    answer.add(begin)
    drawn(answer)
    screen.width = 30
    answer.add(rest)
    answer._drawer.start()
    answer.__exit__(None, None, None)
    assert isinstance(screen.file, io.StringIO)
    text = DRAWING.sub("", STYLES.sub("", screen.file.getvalue()))
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    assert list(dict.fromkeys(lines)) == shown
