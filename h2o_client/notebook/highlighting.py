"""Render code blocks as HTML, with the colours of the notebook's theme.

It uses JupyterLab's CSS variables if they exist. The fallback colours suit light and dark pages.
"""

from __future__ import annotations

from html import escape

_BLOCK = (
    "white-space:pre-wrap;margin:.6em 0;padding:.6em .8em;border-radius:4px;"
    "background:var(--jp-layout-color2,rgba(128,128,128,.15))"
)
_LONGEST = 20_000  # characters; longer blocks have no colours
# Only languages whose lexers are fast for any text, even a malicious one.
_NAMES = """
    bash c console cpp csharp css diff dockerfile go html ini java javascript js json julia kotlin
    lua make makefile php powershell py python r rb rs ruby rust scala sh shell sql swift toml ts
    typescript xml yaml zsh
"""
_LANGUAGES = frozenset(_NAMES.split())

# Beginnings of pygments' short token names; the first match counts.
_COLORS = (
    ("c", "comment", "#7a8a8a"),
    ("s", "string", "#c0504d"),
    ("m", "number", "#2e8b57"),
    ("k", "keyword", "#2f8f2f"),
    ("ow", "keyword", "#2f8f2f"),
    ("o", "operator", "#9a5bd0"),
    ("nb", "builtin", "#2f8f2f"),
    ("nf", "def", "#3f7fd0"),
    ("nc", "def", "#3f7fd0"),
    ("nt", "tag", "#3f7fd0"),
    ("na", "attribute", "#3f7fd0"),
)


def code_block(code: str, language: str) -> str:
    """Render ``code`` as HTML, with colours if its language is supported."""
    is_colored = language.lower() in _LANGUAGES and len(code) <= _LONGEST
    inner = _colored(code, language) if is_colored else escape(code)
    return f'<pre style="{_BLOCK}"><code style="background:none">{inner}</code></pre>\n'


def _colored(code: str, language: str) -> str:
    try:
        from pygments.lexers import get_lexer_by_name
        from pygments.token import STANDARD_TYPES
    except ImportError:
        return escape(code)
    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    found = list(lexer.get_tokens(code))
    if "".join(text for _, text in found) != code:
        return escape(code)  # the lexer has dropped some text
    return "".join(_piece(text, _color_of(STANDARD_TYPES.get(kind, ""))) for kind, text in found)


def _color_of(name: str) -> str:
    for begins, variable, color in _COLORS:
        if name.startswith(begins):
            return f"var(--jp-mirror-editor-{variable}-color,{color})"
    return ""


def _piece(text: str, color: str) -> str:
    return f'<span style="color:{color}">{escape(text)}</span>' if color else escape(text)
