"""Render a server's Markdown as sanitized HTML.

Front ends parse Markdown differently, and not all of them sanitize it. Therefore this module
renders it. HTML tags in the text are escaped, links are allowed for http, https and mailto only,
and nothing is loaded: an image becomes a link.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

from h2o_client.log import log
from h2o_client.notebook.formulas import find_formulas
from h2o_client.notebook.highlighting import code_block
from h2o_client.notebook.plain_text import shown

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

_LONGEST = 200_000  # characters; longer texts are shown as plain text
_CELL = "padding:.3em .8em"
_ALLOWED = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)


def to_html(text: str) -> str:
    """Render Markdown as HTML, or as plain text without markdown-it-py (extra "notebook")."""
    text = shown(text)
    return guarded(_rendered(text) if len(text) <= _LONGEST else preformatted(text))


def guarded(html: str) -> str:
    """Wrap ``html`` so that typesetters process only the formulas marked in it.

    TeX can contain links and styles, so only checked formulas are typeset.
    """
    return f'<div class="tex2jax_ignore mathjax_ignore" dir="auto">{html}</div>'


def preformatted(text: str) -> str:
    """The text as plain text."""
    return f'<pre style="white-space:pre-wrap">{escape(text)}</pre>'


def link_to(url: str, text: str) -> str:
    """A link if the URL is allowed; else the text and the URL as plain text."""
    url, text = shown(url), shown(text) or shown(url)
    if not _ALLOWED.match(url):
        return escape(text if text == url else f"{text} ({url})")
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{escape(text)}</a>'


@lru_cache(maxsize=4)
def _rendered(text: str) -> str:
    parser = _parser()
    try:
        # Character references in the text may represent control characters.
        return preformatted(text) if parser is None else shown(parser.render(text))
    except Exception as exc:
        # An error in the parser must not hide the answer.
        log.info("cannot render Markdown, showing an answer as plain text: %r", exc)
        return preformatted(text)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt | None:
    try:
        from markdown_it import MarkdownIt

        from h2o_client.notebook.markdown_rules import DEEPEST, keep_leftovers, set_limits
    except ImportError:
        return None
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": DEEPEST}).enable(
        ["table", "strikethrough"]
    )
    parser.validateLink = _is_allowed  # type: ignore[method-assign]
    parser.add_render_rule("link_open", _link)
    parser.add_render_rule("image", _image)
    parser.add_render_rule("fence", _code)
    parser.add_render_rule("code_block", _code)
    parser.add_render_rule("table_open", _table_open)
    for cell in ("th_open", "td_open"):
        parser.add_render_rule(cell, _cell_open)
    set_limits(parser)
    find_formulas(parser)
    keep_leftovers(parser)
    return parser


def _is_allowed(url: str) -> bool:
    return _ALLOWED.match(url) is not None


def _link(
    renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType
) -> str:
    tokens[place].attrs.update({"target": "_blank", "rel": "noopener noreferrer"})
    return renderer.renderToken(tokens, place, options, env)


def _code(
    renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType
) -> str:
    language, *_ = [*tokens[place].info.split(), ""]
    return code_block(tokens[place].content, language)


def _table_open(
    renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType
) -> str:
    tokens[place].attrs["style"] = "margin:.6em 0;border-collapse:collapse"
    return renderer.renderToken(tokens, place, options, env)


def _cell_open(
    renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType
) -> str:
    align = str(tokens[place].attrs.get("style", "text-align:left"))
    tokens[place].attrs["style"] = f"{align};{_CELL}"
    return renderer.renderToken(tokens, place, options, env)


def _image(
    renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: Any
) -> str:
    token = tokens[place]
    description = renderer.renderInlineAsText(token.children, options, env)
    url = str(token.attrs["src"])
    return link_to(url, f"image: {description or url}")
