"""The programs in ``typed/`` are those of a user: `make test` checks them with mypy and pyright.

Their correct calls assert the type of the result (``assert_type``). Their wrong calls are errors,
or the comment that expects one is itself an error.
"""

from __future__ import annotations

import re
from pathlib import Path

import h2o_client

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted((ROOT / "tests" / "typed").glob("*.py"))


def test_the_programs_contain_wrong_calls_for_both_checkers() -> None:
    for program in PROGRAMS:
        text = program.read_text(encoding="utf-8")
        refused = re.findall(r"# type: ignore\[[\w-]+\]  # pyright: ignore\[[\w, ]+\]$", text, re.M)
        assert len(refused) == text.count("ignore") // 2 >= 2


def test_the_package_declares_its_types() -> None:
    assert (Path(h2o_client.__file__).parent / "py.typed").exists()


def test_the_checkers_run_with_the_tests() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.partition("\ntest: ")[2].partition("\n\n")[0]
    for checker in ("/mypy", "$(PYRIGHT)", "$(PYRIGHT) --verifytypes h2o_client"):
        assert checker in recipe
