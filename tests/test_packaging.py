"""Packaging: the installation of the README, the sdist, and the pinned versions."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKED = ("h2o_client", "tests", "docs", "examples", "benchmarks", ".ci")
SCHEME = "nt" if os.name == "nt" else "posix_prefix"  # of a virtual environment
PROGRAM = """\
from h2o_client import H2oSession

with H2oSession("http://localhost:3000") as client:
    answer = client.chat("Hello")
reveal_type(answer.text)
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, because a build writes into its folder."""
    copy = tmp_path_factory.mktemp("clone") / "h2o-chat"
    hidden = shutil.ignore_patterns(
        *(".git", ".venv*", ".tox", ".*_cache", ".hypothesis", "build"),
        *("results.json", "results.png"),  # of the benchmarks
    )
    shutil.copytree(ROOT, copy, ignore=hidden)
    return copy


def files_of(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(folder).as_posix()


def test_a_type_checker_finds_the_package_that_the_readme_installs(
    sources: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    scripts = Path(sysconfig.get_path("scripts", SCHEME, {"base": str(tmp_path / "venv")}))
    python = scripts / Path(sys.executable).name
    # The dependencies are those of this environment. The package itself is only a path there.
    packages = Path(sysconfig.get_path("purelib", SCHEME, {"base": str(tmp_path / "venv")}))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", *options, sources],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
    )
    assert run.returncode == 0, run.stderr
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "program.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert 'Revealed type is "str"' in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout


def test_the_sdist_contains_all_files_that_its_tests_need(sources: Path, tmp_path: Path) -> None:
    build = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=sources,
    )
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    expected = {f"{folder}/{name}" for folder in PACKED for name in files_of(sources / folder)}
    expected |= {path.name for path in sources.iterdir() if path.is_file()} - {".gitignore"}
    assert sorted(expected - names) == []


def test_every_dependency_is_pinned() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    wanted = {
        re.split(r"[\[<>=!;~ ]", line, maxsplit=1)[0].lower().replace("_", "-")
        for each in lists
        for line in each.splitlines()
        if line and not line.startswith("#")
    }
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert wanted - {line.partition("==")[0] for line in pinned.lower().splitlines()} == set()
    assert "://" not in pinned


def test_no_document_installs_the_name_that_is_not_on_pypi() -> None:
    places = (*ROOT.glob("h2o_client/**/*.py"), *ROOT.glob("docs/*"), *ROOT.glob("examples/*"))
    for path in (*filter(Path.is_file, places), ROOT / "README.rst"):
        assert not re.search(r'install "?h2o-chat\[', path.read_text(encoding="utf-8")), path
