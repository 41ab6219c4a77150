"""The library's hints as shown in a shell: none of them names Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import h2o_client
from h2o_client import AuthenticationError, TransportTimeout
from h2o_client.cli import wording
from h2o_client.cli.ask_command import ask
from h2o_client.cli.batch_command import batch
from h2o_client.cli.wording import in_chat, in_shell
from h2o_client.errors import Hint, Spelling, spelled
from h2o_client.notebook.plain_text import in_options

PACKAGE = Path(h2o_client.__file__).parent
OPTIONS = {
    name
    for each in (*ask.params, *batch.params)
    if isinstance(each, click.Option)
    for name in each.opts
}

# Code that the command does not call with a user's input, or that has its own texts.
ELSEWHERE = {"aio", "cli", "notebook", "server", "plugins", "__init__.py", "provider.py"}
# Errors for programmers: the command never causes them.
NOT_FROM_A_SHELL = (
    " X characters of the answer are in",
    " The stored messages are in",
    "prompt_format",
    "Only text parts are supported.",
    "Read it to its end, stop it or close it",
    "An id has letters",
    "Answer it with answer_elicitation()",
    "A tool has an open question to the user, in .elicitation",
    "cannot pickle an SSLContext",
    "Make another H2oSession.",
    "keep other settings",
    "messages() lists the ids.",
    "Look at messages()",
    "Replace it, for example",
    "The server writes the title itself",
    "stream() returns the tokens",
    "Pass the exact value of Reply",
)
PYTHON = re.compile(
    r"(?<![-\w])[a-z_]+=(?!\S*value\b|\S*false|\S*true)|\b[a-z_]+\(|(?<![\w/.])\.[a-z_]+\b|H2oSession"
)


def texts() -> Iterator[str]:
    """Every text of the library that is a sentence, with X for inserted values."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if ELSEWHERE.isdisjoint(path.relative_to(PACKAGE).parts):
            yield from texts_in(ast.parse(path.read_text(encoding="utf-8")))


def texts_in(tree: ast.AST) -> Iterator[str]:
    others = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            others.add(node.value)  # a docstring
        elif isinstance(node, ast.JoinedStr):
            others.update(node.values)
        elif (isinstance(node, ast.FunctionDef) and node.name == "__repr__") or is_hint(node):
            others.update(each for each in ast.walk(node) if isinstance(each, ast.expr))
    for node in ast.walk(tree):
        text = text_of(node)
        if node not in others and re.search(r"\w \w", text) and not text.startswith("SELECT "):
            yield text


def hints() -> Iterator[str]:
    """The template of every `Hint` in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if is_hint(node):
                assert isinstance(node, ast.Call)
                yield text_of(node.args[0])


def is_hint(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Hint"


def text_of(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(each) or "X" for each in node.values)
    return ""


def test_there_are_texts_and_hints() -> None:
    assert len(set(texts())) > 100
    assert len(set(hints())) > 20


@pytest.mark.parametrize("text", sorted(set(texts())))
def test_only_hints_contain_python(text: str) -> None:
    if not text.startswith(NOT_FROM_A_SHELL):
        assert PYTHON.search(text) is None


@pytest.mark.parametrize("spelling", [in_shell, in_chat], ids=["shell", "chat"])
@pytest.mark.parametrize("template", sorted(set(hints())))
def test_no_hint_contains_python_in_a_shell(template: str, spelling: Spelling) -> None:
    said = spelled(Hint(template), spelling)
    assert PYTHON.search(said) is None
    assert "{" not in said


def names_in(template: str) -> list[str]:
    named: list[str] = []

    def note(name: str, value: str) -> str:
        named.append(name)
        return ""

    spelled(Hint(template), note)
    return named


@pytest.mark.parametrize("template", sorted(set(hints())))
def test_each_argument_in_a_hint_is_an_option_of_the_command(template: str) -> None:
    for name in names_in(template):
        if name.isidentifier() and name not in {"accept_terms", "system"}:
            assert wording.option(name).split()[0] in OPTIONS
        elif name.endswith("()"):
            assert in_shell(name, "").startswith("h2o-chat ")


@pytest.mark.parametrize("name", sorted(wording._WORDS | wording._IN_CHAT))
def test_every_word_of_the_command_is_in_a_hint(name: str) -> None:
    assert any(f"{{{name}" in template for template in hints())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (TransportTimeout("idle", 60).describe(in_shell), "allow more with --timeout SECONDS."),
        (AuthenticationError(401, "no").describe(in_shell), "browser: --cookie name=value, or H2O"),
        (AuthenticationError(401, "no").describe(in_options), 'browser: cookies="name=value", or'),
        (spelled(Hint('Pass {verify:"/ca.pem"}.'), in_shell), "Pass --ca /ca.pem."),
        (spelled(Hint("Leave out {server_version}."), in_shell), "Leave out --chat-ui."),
        (spelled(Hint("{Send the prompt again}."), in_shell), "Send the prompt again."),
        (spelled(Hint("{Send the prompt again}."), in_chat), "prompt again with /retry."),
        (spelled(Hint("Use {max_new_tokens:5}."), in_shell), "Use -p max_new_tokens=5."),
        (spelled(Hint("Use {max_new_tokens:5}."), in_options), "Use -p max_new_tokens=5."),
        (spelled(Hint('{base_url:"http://a"}'), in_options), "--url http://a"),
    ],
)
def test_arguments_are_options(said: str, words: str) -> None:
    assert words in said
