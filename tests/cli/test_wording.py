"""The library's sentences in the words of the shell: none of them speaks Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import h2o_client
from h2o_client import AuthenticationError, TransportTimeout
from h2o_client.cli.wording import in_shell

PACKAGE = Path(h2o_client.__file__).parent

# Code that the command does not call with what a person says, or whose sentences are its own.
# A batch names its arguments and the options of the command side by side.
ELSEWHERE = {
    "batch",
    "aio",
    "cli",
    "notebook",
    "server",
    "pytest_plugin.py",
    "__init__.py",
    "provider.py",
}
# Said to a programmer: the command never makes these mistakes.
NOT_FROM_A_SHELL = (
    "A vote is",
    "An answer in this conversation is unfinished",
    "prompt_format=",
    "A message is a dict",
    "A message has a",
    "action=",
    "The answer waits for the user",
    "an SSLContext cannot be pickled",
    "headers= is a mapping",
    "verify= is True",
    "This session is closed",
    "Keeping settings of other names",
    "files= is a list",
    "files= holds paths",
    "parameters= is a mapping",
    "Timeouts(",
    "server_version=X: it is a text",
)
PYTHON = re.compile(
    r"(?<![-\w])[a-z_]+=(?!\S*value\b)|\b[a-z_]+\(|(?<![\w/.])\.[a-z_]+\b|H2oSession"
)


def sentences() -> Iterator[str]:
    """Every text of the library that reads as a sentence, with X for what is put into it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if ELSEWHERE.isdisjoint(path.relative_to(PACKAGE).parts):
            yield from found_in(ast.parse(path.read_text(encoding="utf-8")))


def found_in(tree: ast.AST) -> Iterator[str]:
    no_sentences = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            no_sentences.add(node.value)  # a docstring
        elif isinstance(node, ast.JoinedStr):
            no_sentences.update(node.values)
        elif isinstance(node, ast.FunctionDef) and node.name == "__repr__":
            no_sentences.update(each for each in ast.walk(node) if isinstance(each, ast.expr))
    for node in ast.walk(tree):
        if node not in no_sentences and (text := text_of(node)) and re.search(r"\w \w", text):
            yield text


def text_of(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(each) or "X" for each in node.values)
    return ""


def test_there_are_sentences() -> None:
    assert len(list(sentences())) > 100


@pytest.mark.parametrize("sentence", sorted(set(sentences())))
def test_no_sentence_speaks_python(sentence: str) -> None:
    if not sentence.startswith(NOT_FROM_A_SHELL):
        found = PYTHON.search(in_shell(sentence))
        assert found is None, in_shell(sentence)


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        (str(TransportTimeout("idle", 60)), "Allow more with --timeout SECONDS if"),
        (str(AuthenticationError(401, "no")), "give --cookie name=value or set H2O_CLIENT_COOKIE"),
        ("It broke. 12 characters of the answer are on .partial.", "It broke."),
        ("give verify='/path/to/ca.pem'", "give --ca /path/to/ca.pem"),
        ("Leave server_version= out: it", "Leave --chat-ui out: it"),
    ],
)
def test_arguments_are_options(sentence: str, words: str) -> None:
    assert words in in_shell(sentence)
    assert in_shell(in_shell(sentence)) == in_shell(sentence)
