"""The answer that is kept to be gone on with: when, where, and for how long."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from h2o_client import GenerationError, H2oError, IncompleteAnswerError, TransportError
from h2o_client.cli import last
from h2o_client.cli.last import Last, kept, load


class Client:
    """A session that has a cookie to save."""

    base_url = "http://localhost:3000"

    def save_cookies(self, path: str) -> None:
        Path(path).write_text("# Netscape HTTP Cookie File\n")


class Answering:
    def __init__(self, token: str | None = "token") -> None:
        self.resume_token = token


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("click.get_app_dir", lambda name: str(tmp_path / name))
    return tmp_path / "h2o-chat"


def test_while_it_comes_it_is_kept_for_its_user_only(folder: Path) -> None:
    with kept(Client(), Answering()):
        found = load()
        assert found == Last("http://localhost:3000", "token", 0)
        assert Path(found.cookies).read_text().startswith("# Netscape")
        assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nothing_is_left_of_one_that_ended_well(folder: Path) -> None:
    with kept(Client(), Answering()) as note:
        note("Hello")
    assert load() is None
    assert list(folder.iterdir()) == []


def test_what_was_printed_is_noted_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last, "_NOTED_EVERY", 0.0)
    with kept(Client(), Answering()) as note:
        note("Hello")
        note(" there")
        found = load()
        assert found is not None
        assert found.printed == len("Hello there")


def test_between_those_moments_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last, "_NOTED_EVERY", 1000.0)
    with kept(Client(), Answering()) as note:
        note("Hello")
        found = load()
        assert found is not None
        assert found.printed == 0


@pytest.mark.parametrize("error", [TransportError("reset"), IncompleteAnswerError()])
def test_one_that_the_network_broke_off_is_kept(error: H2oError) -> None:
    with pytest.raises(type(error)), kept(Client(), Answering(), printed=3) as note:
        note("lo")
        raise error
    assert load() == Last("http://localhost:3000", "token", 5)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GenerationError("out of memory")])
def test_one_that_was_stopped_or_failed_is_not(error: BaseException) -> None:
    with pytest.raises(type(error)), kept(Client(), Answering()):
        raise error
    assert load() is None


def test_one_that_another_window_began_meanwhile_stays() -> None:
    with (
        kept(Client(), Answering("first")),
        pytest.raises(TransportError),
        kept(Client(), Answering("second")),
    ):
        raise TransportError("reset")
    found = load()
    assert found is not None
    assert found.token == "second"


def test_without_a_token_nothing_is_kept(folder: Path) -> None:
    with kept(Client(), Answering(None)) as note:
        note("Hello")
        assert load() is None


def test_a_folder_that_cannot_be_written_is_no_reason_to_lose_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setattr("click.get_app_dir", lambda name: str(in_the_way / name))
    with kept(Client(), Answering()) as note:
        note("Hello")
    assert load() is None


def test_a_file_that_is_damaged_counts_as_none(folder: Path) -> None:
    folder.mkdir()
    (folder / "last.json").write_text("{")
    assert load() is None
