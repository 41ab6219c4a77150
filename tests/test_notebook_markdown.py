"""A server's Markdown as HTML: nothing of the server's runs, loads or leads astray."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.notebook import markdown
from h2o_client.notebook.markdown import link_to, to_html
from h2o_client.notebook.text import shown

TAGS = {
    *("div", "p", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "s", "code", "pre", "a"),
    *("ul", "ol", "li", "blockquote", "hr", "br", "span"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"href", "title", "target", "rel", "class", "dir", "start", "style"}
STYLES = {"text-align:left", "text-align:right", "text-align:center", "white-space:pre-wrap"}
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
    """What a browser would make of the HTML."""

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
    assert {value for name, value in seen.attributes if name == "style"} <= STYLES
    for link in seen.links:
        assert link.lower().startswith(("http://", "https://", "mailto:")), link
    return seen


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_the_servers_runs_or_loads(text: str) -> None:
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
def test_no_text_at_all_makes_html_that_does_something(text: str) -> None:
    check(to_html(text))


def test_markdown_is_rendered() -> None:
    html = to_html(
        "# T\n\n**b** *i* ~~s~~ `c<d`\n\n- o\n\n| a |\n|---|\n| 1 |\n\n```py\nx = 1\n```"
    )
    assert {"h1", "strong", "em", "s", "code", "li", "table", "pre"} <= Seen(html).tags
    assert "<code>c&lt;d</code>" in html
    assert 'class="language-py"' in html


def test_links_open_elsewhere_and_tell_nobody_where_from() -> None:
    html = to_html("[a](https://a.example/?b=1&c=2) <mailto:x@a.example>")
    assert Seen(html).links == ["https://a.example/?b=1&c=2", "mailto:x@a.example"]
    assert html.count('target="_blank"') == html.count('rel="noopener noreferrer"') == 2


def test_an_image_is_a_link_to_it() -> None:
    seen = check(to_html("![a *cat*](http://a.example/cat.png)"))
    assert seen.links == ["http://a.example/cat.png"]
    assert seen.text.strip() == "image: a cat"


def test_an_image_that_may_not_be_linked_is_its_source() -> None:
    assert Seen(to_html("![x](data:image/png;base64,AA)")).links == []
    assert "data:image/png" in to_html("![x](data:image/png;base64,AA)")


def test_a_link_that_may_not_be_one_is_text() -> None:
    assert link_to("javascript:alert(1)", "<b>") == "&lt;b&gt; (javascript:alert(1))"
    assert link_to("ftp://a.example", "") == "ftp://a.example"


FORMULAS = {
    "$a_1 < b_2$ and *i*": r"\(a_1 &lt; b_2\)",
    "$$x_1$$": r"\[x_1\]",
    r"so \(x*y*z\) is": r"\(x*y*z\)",
    r"so \[x_1_2\] is": r"\[x_1_2\]",
    "$$\n- a\n+ b\n$$": "\\[\n- a\n+ b\n\\]",
    "- one\n  \\[\n  y\n  \\]": "\\[\ny\n\\]",
}


@pytest.mark.parametrize(("text", "formula"), FORMULAS.items())
def test_formulas_are_left_to_the_typesetter(text: str, formula: str) -> None:
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
        r"\(\bbox[border:1px]{x}\)",
    ],
)
def test_what_is_no_harmless_formula_is_text(text: str) -> None:
    assert "mathjax_process" not in to_html(text)
    assert 'class="tex2jax_ignore mathjax_ignore"' in to_html(text)


def test_a_very_long_text_is_shown_as_it_is() -> None:
    text = "*a* <b>\n" * 30_000
    assert Seen(to_html(text)).text == text
    assert "<em>" not in to_html(text)


def test_deep_nesting_is_shown() -> None:
    assert "deep" in to_html("> " * 40 + "deep")


def test_without_the_extra_the_text_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    markdown._parser.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "markdown_it", None)
    assert "<pre" in to_html("*a* <b>")
    assert "*a* &lt;b&gt;" in to_html("*a* <b>")
    markdown._parser.cache_clear()


def test_a_text_that_breaks_the_parser_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def render(self, text: str) -> str:
            raise RecursionError

    monkeypatch.setattr(markdown, "_parser", Broken)
    assert "*a* &lt;b&gt;" in to_html("*a* <b>")


def test_controls_are_marked_and_lines_kept() -> None:
    assert shown("a\x1b[2Jb\r\nc\rd\te\x9b\udc80") == "a\ufffd[2Jb\nc\ufffdd\te\ufffd\ufffd"
    to_html("\ud83d").encode()
