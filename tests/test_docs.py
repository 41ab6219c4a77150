"""The pages in docs/: their examples run, the names in them exist, and Sphinx builds them.

Python runs page by page, in order, against a bundled server with scripted answers; examples that
define tests are run by pytest. Of the shell commands, only ``h2o-chat`` is run, also piped into
``jq`` if it is installed.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import h2o_client
import h2o_client.plugins.pytest
import h2o_client.server
from h2o_client.server import serve
from local_service import PATIENCE

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.rst"))
SERVER = "http://localhost:3000"
BLOCK = r"^( *)\.\. code-block:: {}\n\n((?:\1    .*\n|\n)+)"
ANSWER = "One, two, three. Four, five, six; that is what I know of it, and no more than that."


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(BLOCK.format(language), text, re.MULTILINE)
    return [textwrap.dedent(block[2]).strip() + "\n" for block in found]


KINDS = (FunctionType, property, classmethod, staticmethod)
WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
WITH_SHELL = [page for page in PAGES if blocks(page, "sh")]


@pytest.fixture(scope="module", params=["0.4", "latest"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A page's examples run on the oldest and on the newest chat-ui."""
    with serve(lambda prompt: ANSWER, chat_ui=request.param) as server:
        yield server.url


@pytest.fixture
def sigterm() -> Iterator[None]:
    former = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, former)


@pytest.fixture
def log_level() -> Iterator[None]:
    logger = logging.getLogger("h2o_client")
    former = logger.level
    yield
    logger.setLevel(former)


@pytest.mark.usefixtures("sigterm", "log_level")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_the_examples_of_each_page_run_in_order(
    page: Path,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for place, block in enumerate(blocks(page, "python")):
        snippet = block.replace(SERVER, url)
        if re.search(r"^(async )?def test_", snippet, re.MULTILINE):
            run_as_tests(snippet, tmp_path / f"test_{page.stem}_{place}.py")
        else:
            run(snippet, f"{page.name} {place}", names)
    assert capsys.readouterr().out.strip()


def run(snippet: str, name: str, names: dict[str, Any]) -> None:
    """Run it like a notebook: ``await`` is allowed at the top level."""
    if sys.version_info < (3, 11) and "asyncio.timeout" in snippet:
        return
    if "import pandas" in snippet and find_spec("pandas") is None:
        return
    code = compile(snippet, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(code, names)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(waiting)


def run_as_tests(snippet: str, file: Path) -> None:
    file.write_text(snippet, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=file.parent,
        env=place,
        timeout=PATIENCE,
    )
    expected = len(re.findall(r"^(?:async )?def test_", snippet, re.MULTILINE))
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout
    assert passed is not None
    assert int(passed[1]) >= expected


@pytest.mark.parametrize("page", WITH_SHELL, ids=lambda page: page.stem)
def test_every_command_of_a_page_exists(page: Path, url: str, tmp_path: Path) -> None:
    """Only parse commands that start servers or load a model: unknown options are refused."""
    command = f"{shlex.quote(sys.executable)} -m h2o_client"
    place = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "H2O_CLIENT_URL": url,
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    (tmp_path / "report.txt").write_text("All is well.", encoding="utf-8")
    for line in "".join(blocks(page, "sh")).replace("\\\n", "").splitlines():
        if not re.match(r"(.*\| )?h2o-chat\b", line):
            continue
        if shutil.which("jq") is None:
            line = line.partition(" | jq ")[0]
        looked_at = (
            " --help" if re.search(r"h2o-chat (serve|gateway|batch)|--local|\.txt", line) else ""
        )
        done = subprocess.run(
            line.replace(SERVER, url).replace("h2o-chat", command) + looked_at,
            shell=True,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=place,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
        assert (done.returncode, done.stderr) == (0, ""), line
        assert done.stdout.strip(), line


def test_sphinx_builds_the_pages_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    done = subprocess.run(
        [*command, "--nitpicky", str(DOCS), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    for page in PAGES:
        built = (tmp_path / f"{page.stem}.html").read_text(encoding="utf-8")
        options = re.findall(r"(?:^|[ (>])([\u2013\u2014][a-z]+)", built)
        assert options == [], page  # two hyphens of an option are not a dash


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("api*.rst"))
    named = set(re.findall(r"^\.\. (?:auto|py:)?\w+:: (\w+)", text, re.MULTILINE))
    public = {*h2o_client.__all__, *h2o_client.server.__all__, *h2o_client.plugins.pytest.__all__}
    assert public - named == {"pytest_configure"}


def public_members() -> list[tuple[str, object]]:
    """All public names and methods, by name."""
    found: list[tuple[str, object]] = []
    for module in (h2o_client, h2o_client.server, h2o_client.plugins.pytest):
        for name in module.__all__:
            public = getattr(module, name)
            found.append((name, public))
            if inspect.isclass(public):
                members = {member: inspect.getattr_static(public, member) for member in dir(public)}
                found += [
                    (f"{name}.{member}", value)
                    for member, value in members.items()
                    if not member.startswith("_") and isinstance(value, KINDS)
                ]
    return found


def test_every_public_name_and_method_documents_its_return_value() -> None:
    members = public_members()
    undescribed = [
        name
        for name, value in members
        if name not in ("__version__", "Messages", "BUNDLED_MODEL")
        and not (inspect.getdoc(value) or "").strip()
    ]
    assert undescribed == []
    assert len(members) > 150


def test_every_file_that_a_page_names_exists() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"``((?:h2o_client|tests|docs|examples|benchmarks)/[\w/.*]*)``", text)
        for name in named:
            assert list(ROOT.glob(name.rstrip("/"))) or name.startswith("benchmarks/results"), name
