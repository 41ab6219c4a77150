"""A server's Markdown as HTML: no scripts, no loads, no misleading links."""

from __future__ import annotations

import os
import re
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.notebook import html as html_module
from h2o_client.notebook.html import link_to, to_html
from h2o_client.notebook.plain_text import shown

TAGS = {
    *("div", "p", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "s", "code", "pre", "a"),
    *("ul", "ol", "li", "blockquote", "hr", "br", "span"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"href", "title", "target", "rel", "class", "dir", "start", "style"}
STYLES = re.compile(
    r"text-align:(left|right|center);padding:[.\dem ]+|margin:[.\dem ]+;border-collapse:collapse"
    r"|white-space:pre-wrap"
    r"(;margin:[.\dem ]+;padding:[.\dem ]+;border-radius:4px"
    r";background:var\([-\w]+,rgba\([\d,.]+\)\))?"
    r"|background:none|color:var\(--jp-[-\w]+,#[\da-f]{6}\)"
)
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "a <b onclick='x'>b</b> <!-- c --> <?php ?> <![CDATA[ d ]]>",
    "[x](javascript:alert(1)) [x](JaVaScRiPt:alert(1)) [x](java\tscript:alert(1))",
    "[x](javascript&#58;alert(1)) [x](&#x6A;avascript:alert(1)) <javascript:alert(1)>",
    "[x](data:text/html,<script>alert(1)</script>) [x](vbscript:x) [x](file:///etc/passwd)",
    "[x]\n\n[x]: javascript:alert(1)",
    '[x](https://a.example "\\" onmouseover=\\"alert(1)") ![a"b](http://a.example/"x.png)',
    "![x](http://127.0.0.1:9/x.png) ![x](data:image/svg+xml,<svg onload=alert(1)>)",
    '```"><script>alert(1)</script>\n</code></pre><script>alert(1)</script>\n```',
    "`</code><script>alert(1)</script>` ~~<u>s</u>~~",
    '[a]: /u "x\n```\n"\n<script>alert(1)</script>\n```',
    "$$\n```\n$$\n<script>alert(1)</script>\n```",
    "$</span><script>alert(1)</script>$ \\(<img src=x>\\)",
    "$\\href{javascript:alert(1)}{x}$ \\[\\bbox[background:url(http://a.example)]{x}\\]",
    "| <b>a</b> | b |\n|---|:-:|\n| <script> | `|` |",
    "[x](/logout) [x](files/evil.html) [x](//a.example/x)",
)


class Seen(HTMLParser):
    """The parsed HTML, as in a browser."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    @property
    def links(self) -> list[str]:
        return [value for name, value in self.attributes if name == "href"]


def check(html: str) -> Seen:
    seen = Seen(html)
    assert seen.tags <= TAGS
    assert {name for name, _ in seen.attributes} <= ATTRIBUTES
    for name, value in seen.attributes:
        assert name != "style" or STYLES.fullmatch(value), value
    for link in seen.links:
        assert link.lower().startswith(("http://", "https://", "mailto:")), link
    return seen


@pytest.mark.parametrize("text", HOSTILE)
def test_no_html_of_the_server_runs_or_loads_anything(text: str) -> None:
    check(to_html(text))
    check(to_html(f"- a\n\n  > {text}"))


@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    "<",
                    ">",
                    "&",
                    '"',
                    "'",
                    "`",
                    "```\n",
                    "$",
                    "$$",
                    "\\(",
                    "\\)",
                    "\\[",
                    "\\]",
                    "\n",
                ),
                *(
                    "[",
                    "]",
                    "(",
                    ")",
                    "!",
                    "*",
                    "_",
                    "~~",
                    "|",
                    "-",
                    "- ",
                    "> ",
                    "    ",
                    ": ",
                    "\t",
                ),
                *("script", "img src=x onerror=y", "javascript:", "https://a.example", "x"),
                *("[a]: ", "<!--", "-->", "&#58;", "\\", "|---|\n", "# ", "\r\n", "\x00", "\ud800"),
                *("\\href{", "\\]", "\n", ": ", "\t"),
            ]
        ),
        max_size=40,
    ).map("".join)
)
def test_no_text_produces_active_html(text: str) -> None:
    check(to_html(text))


def test_markdown_is_rendered() -> None:
    html = to_html(
        "# T\n\n**b** *i* ~~s~~ `c<d`\n\n- o\n\n| a |\n|---|\n| 1 |\n\n```py\nx = 1\n```"
    )
    assert {"h1", "strong", "em", "s", "code", "li", "table", "pre"} <= Seen(html).tags
    assert "<code>c&lt;d</code>" in html


@pytest.mark.parametrize("name", ["python", "JSON", "no-such-language", "sql"])
def test_code_has_a_background_and_loses_no_text(name: str) -> None:
    code = '\n\n  if x < "</pre>&amp;" then\t1  # c\n  \n'
    html = to_html(f"```{name}\n{code}```")
    assert check(html).text.removesuffix("\n\n") == code.removesuffix("\n")
    assert "background:" in html
    assert ("color:var(" in html) == (name != "no-such-language")


def test_links_open_in_a_new_tab_without_a_referrer() -> None:
    html = to_html("[a](https://a.example/?b=1&c=2) <mailto:x@a.example>")
    assert Seen(html).links == ["https://a.example/?b=1&c=2", "mailto:x@a.example"]
    assert html.count('target="_blank"') == html.count('rel="noopener noreferrer"') == 2


def test_an_image_is_a_link_to_it() -> None:
    seen = check(to_html("![a *cat*](http://a.example/cat.png)"))
    assert seen.links == ["http://a.example/cat.png"]
    assert seen.text.strip() == "image: a cat"


def test_an_image_with_a_forbidden_url_is_shown_as_text() -> None:
    assert Seen(to_html("![x](data:image/png;base64,AA)")).links == []
    assert "data:image/png" in to_html("![x](data:image/png;base64,AA)")


def test_a_link_with_a_forbidden_url_is_text() -> None:
    assert link_to("javascript:alert(1)", "<b>") == "&lt;b&gt; (javascript:alert(1))"
    assert link_to("ftp://a.example", "") == "ftp://a.example"


FORMULAS = {
    "$a_1 < b_2$ and *i*": r"\(a_1 &lt; b_2\)",
    "$$x_1$$": r"\[x_1\]",
    r"so \(x*y*z\) is": r"\(x*y*z\)",
    r"so \[x_1_2\] is": r"\[x_1_2\]",
    r"$\frac{\alpha}{2} \leq \sum_{i=1}^{n} \sqrt{x_i}, \text{a b}$": (
        r"\(\frac{\alpha}{2} \leq \sum_{i=1}^{n} \sqrt{x_i}, \text{a b}\)"
    ),
    r"$$\begin{pmatrix} a \\ b \end{pmatrix}$$": r"\[\begin{pmatrix} a \\ b \end{pmatrix}\]",
    "$$\n- a\n+ b\n$$": "\\[\n- a\n+ b\n\\]",
    "- one\n  \\[\n  y\n  \\]": "\\[\ny\n\\]",
}


@pytest.mark.parametrize(("text", "formula"), FORMULAS.items())
def test_formulas_are_marked_for_the_typesetter(text: str, formula: str) -> None:
    assert f'<span class="tex2jax_process mathjax_process">{formula}</span>' in to_html(text)


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $6.",
        "$5-$6",
        "`$x$`",
        "$ x $",
        "$$ $$",
        "$$\nx\n\ny",
        "- $$\nx\n\ny",
        r"\$x$",
        "$" + "x" * 5000 + "$",
        r"$\href{https://a.example}{x}$",
        "$$\n\\def\\x{y}\n$$",
        r"$\unicode[a;color:red]{x202e}$",
        r"\(\bbox[border:1px]{x}\)",
        r"$\newextension{x}$",
        r"$\begin{CD} A @>>> B \end{CD}$",
    ],
)
def test_a_formula_with_a_forbidden_command_is_text(text: str) -> None:
    assert "mathjax_process" not in to_html(text)
    assert 'class="tex2jax_ignore mathjax_ignore"' in to_html(text)


def test_a_very_long_text_is_shown_unchanged() -> None:
    text = "*a* <b>\n" * 30_000
    assert Seen(to_html(text)).text == text
    assert "<em>" not in to_html(text)


@pytest.mark.parametrize("depth", [40, 60, 70, 127, 128, 129, 130, 131, 2000])
def test_deeply_nested_text_is_shown(depth: int) -> None:
    assert "deep" in to_html("> " * depth + "deep")
    assert "deep" in to_html("- " * depth + "deep")
    items = "\n".join("  " * each + f"- deep{each}" for each in range(depth // 4))
    assert to_html(items).count("deep") == depth // 4


def test_moderately_nested_text_is_rendered() -> None:
    assert to_html("> " * 70 + "deep").count("<blockquote>") == 70
    assert to_html("\n".join("  " * each + "- deep" for each in range(60))).count("<li>") == 60


# A quarter of the longest text that is rendered; `make soak` has the whole.
SIZE = 4 if os.environ.get("SOAK") == "full" else 1
SLOW = (
    "$$ a\n" * 7_500 * SIZE,
    "\\[ a\n" * 5_000 * SIZE,
    "$$\n" * 15_000 * SIZE,
    "![" * 15_000 * SIZE,
    "[" * 25_000 * SIZE,
    "|a|b|\n|-|-|\n" * 3_000 * SIZE + "|1|2|3|\n",
)


@pytest.mark.parametrize("text", SLOW, ids=lambda text: str(text[:5]))
def test_the_number_of_parsing_steps_is_limited(text: str) -> None:
    """Counted in calls, which do not depend on the speed of the machine."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    html_module._rendered.cache_clear()
    sys.setprofile(count)
    try:
        html = to_html(text)
    finally:
        sys.setprofile(None)
    assert calls < 8_000_000 + 60 * len(text)
    assert Seen(html).text.count("a") == text.count("a")


def test_a_text_is_rendered_once() -> None:
    html_module._rendered.cache_clear()
    assert to_html("*a*") == to_html("*a*")
    assert html_module._rendered.cache_info().misses == 1


def test_a_definition_is_shown_whether_or_not_it_is_used() -> None:
    assert "<p>[Ada]: Hello</p>" in to_html("[Ada]: Hello\n\nHow are you?")
    seen = check(to_html("See [1].\n\n> [1]: https://a.example '<b>'"))
    assert seen.links == ["https://a.example"]
    assert "[1]: https://a.example '<b>'" in seen.text


def test_a_table_that_would_lose_cells_is_shown_as_text() -> None:
    head = "> |a|b|\n> |-|-|\n"
    assert Seen(to_html(head + "> |1|2|3|\n")).text.split() == ["|a|b|", "|-|-|", "|1|2|3|"]
    for row in ("|1|2|", "1|2", "|1|", "|1\\|2|3|"):
        assert "<table " in to_html(f"{head}> {row}\n")


def test_characters_that_change_the_text_direction_are_removed() -> None:
    controls = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    assert shown(f"a{controls}b\u200f") == "a" + "\ufffd" * 9 + "b\u200f"
    written = "".join(f"&#x{ord(each):x};" for each in controls)
    assert Seen(to_html(f"a{written}b")).text == "a" + "\ufffd" * 9 + "b\n"
    assert Seen(to_html("`&#13;` &#13;")).text == "&#13; \ufffd\n"


def test_without_the_extra_the_text_is_shown_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    html_module._parser.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "markdown_it", None)
    assert "<pre" in to_html("*a* <b>")
    assert "*a* &lt;b&gt;" in to_html("*a* <b>")
    html_module._parser.cache_clear()


def test_a_text_that_breaks_the_parser_is_shown_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def render(self, text: str) -> str:
            raise RecursionError

    monkeypatch.setattr(html_module, "_parser", Broken)
    assert "*a* &lt;b&gt;" in to_html("*a* <b>")


def test_control_characters_are_replaced_and_lines_kept() -> None:
    assert shown("a\x1b[2Jb\r\nc\rd\te\x9b\udc80") == "a\ufffd[2Jb\nc\ufffdd\te\ufffd\ufffd"
    to_html("\ud83d").encode()
