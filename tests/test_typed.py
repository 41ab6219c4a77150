"""What mypy and pyright make of the package: the programs in ``typed/`` are a user's.

Their right calls say what they give (``assert_type``); their wrong calls are errors, or the comment
that expects one is itself an error.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import h2o_client

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted((ROOT / "tests" / "typed").glob("*.py"))
PACKAGE = Path(h2o_client.__file__).parent


def run(*command: str) -> subprocess.CompletedProcess[str]:
    # The checkers look for the package where this test has found it, with this test's Python.
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    places = {"PATH": os.pathsep.join(path), "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **places},
        timeout=100,
    )


def test_mypy_understands_a_users_programs() -> None:
    done = run("mypy", "--no-error-summary", "--follow-imports=silent", *map(str, PROGRAMS))
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_pyright_understands_a_users_programs() -> None:
    done = run("pyright", "--outputjson")
    found = json.loads(done.stdout)
    assert found["generalDiagnostics"] == []
    assert found["summary"]["filesAnalyzed"] == len(PROGRAMS)


def test_every_type_of_the_package_is_known() -> None:
    done = run("pyright", "--verifytypes", "h2o_client", "--ignoreexternal", "--outputjson")
    found = json.loads(done.stdout)["typeCompleteness"]
    unknown = [symbol for symbol in found["symbols"] if not symbol["isTypeKnown"]]
    assert [(symbol["name"], symbol["diagnostics"]) for symbol in unknown] == []
    assert found["completenessScore"] == 1
    assert found["exportedSymbolCounts"]["withKnownType"] > 1000
    assert Path(found["pyTypedPath"]) == PACKAGE / "py.typed"


def test_the_programs_have_wrong_calls_for_both_checkers() -> None:
    for program in PROGRAMS:
        text = program.read_text(encoding="utf-8")
        refused = re.findall(r"# type: ignore\[[\w-]+\]  # pyright: ignore\[[\w, ]+\]$", text, re.M)
        assert len(refused) == text.count("ignore") // 2 >= 2
