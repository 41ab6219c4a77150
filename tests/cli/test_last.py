"""Answers that are saved to be resumed: when, where, and for how long."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from h2o_client import GenerationError, H2oError, H2oSession, IncompleteAnswerError, TransportError
from h2o_client.answer.server_run import ResumeToken
from h2o_client.cli import saved_answers
from h2o_client.cli.saved_answers import Record, SavedCookie, last_saved, saving
from local_service import PATIENCE

URL = "http://localhost:3000"
ROOT = Path(__file__).parents[2]


def token(number: int = 1) -> str:
    return str(ResumeToken(URL, f"{number:024}", f"{number:024}"))


class Answering:
    def __init__(self, token: str | None) -> None:
        self.resume_token = token


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "h2o-chat"


@pytest.fixture
def client() -> Iterator[H2oSession]:
    with H2oSession(URL, cookies="hf-chat=secret") as client:
        yield client


def load() -> Record | None:
    with last_saved() as found:
        return None if found is None else found.record


def broken_off(client: H2oSession, number: int = 1) -> None:
    """An answer that was interrupted by the network."""
    with pytest.raises(TransportError), saving(client, Answering(token(number))):
        raise TransportError("reset")


def files(folder: Path) -> list[Path]:
    """The saved answers, without their locks."""
    return sorted(folder.glob("*.json"))


def records(folder: Path) -> list[Record]:
    return [msgspec.json.decode(path.read_bytes(), type=Record) for path in files(folder)]


def test_an_answer_in_progress_is_saved_for_its_user_only(client: H2oSession, folder: Path) -> None:
    with saving(client, Answering(token())):
        (found,) = records(folder)
        domain = found.cookies[0].domain
        cookies = (SavedCookie("hf-chat", "secret", domain, "/"),)
        assert found == Record(URL, token(), 0, cookies, given=True)
        assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_answer_in_progress_cannot_be_resumed_by_another_process(
    client: H2oSession, folder: Path
) -> None:
    code = (
        "from h2o_client.cli.saved_answers import last_saved\n"
        "with last_saved() as found: print(found and found.record.token)"
    )

    def elsewhere() -> str:
        words = [sys.executable, "-c", code]
        return subprocess.run(
            words, capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.strip()

    broken_off(client, 1)
    with saving(client, Answering(token(2))) as note:
        note(5)
        assert elsewhere() == token(1)
        found = load()
        assert found is not None
        assert found.token == token(1)
        with last_saved():
            assert elsewhere() == "None"
    assert elsewhere() == token(1)


def test_the_record_of_a_complete_answer_is_removed(client: H2oSession, folder: Path) -> None:
    with saving(client, Answering(token())) as note:
        note(5)
    assert load() is None
    assert list(folder.iterdir()) == []


def test_how_much_was_printed_is_saved_soon(client: H2oSession, folder: Path) -> None:
    with saving(client, Answering(token())) as note:
        note(5)
        note(6)
        end = time.monotonic() + PATIENCE
        while [each.printed for each in records(folder)] != [11]:
            assert time.monotonic() < end


def test_fast_tokens_are_not_each_written_to_disk(
    client: H2oSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(saved_answers, "write_private", lambda path, data: written.append(data))
    monkeypatch.setattr(saved_answers, "_SAVED_EVERY", 1000.0)
    with pytest.raises(TransportError), saving(client, Answering(token())) as note:
        for _ in range(10_000):
            note(1)
        raise TransportError("reset")
    assert [msgspec.json.decode(data, type=Record).printed for data in written] == [0, 10_000]


@pytest.mark.parametrize("error", [TransportError("reset"), IncompleteAnswerError()])
def test_an_answer_broken_by_the_network_stays_saved(client: H2oSession, error: H2oError) -> None:
    with pytest.raises(type(error)), saving(client, Answering(token()), printed=3) as note:
        note(2)
        raise error
    found = load()
    assert found is not None
    assert (found.token, found.printed) == (token(), 5)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GenerationError("out of memory")])
def test_a_stopped_or_failed_answer_is_not_saved(client: H2oSession, error: BaseException) -> None:
    with pytest.raises(type(error)), saving(client, Answering(token())):
        raise error
    assert load() is None


@pytest.mark.parametrize(
    ("error", "stays"), [(KeyboardInterrupt(), True), (GenerationError("x"), False)]
)
def test_a_resumed_answer_stays_saved_after_an_interrupt(
    client: H2oSession, error: BaseException, stays: bool
) -> None:
    broken_off(client)
    with last_saved() as found:
        assert found is not None
        with pytest.raises(type(error)), saving(client, Answering(token()), at=found) as note:
            note(3)
            raise error
        assert found.exists() == stays
    again = load()
    assert (None if again is None else again.printed) == (3 if stays else None)


def test_each_answer_has_its_own_record(client: H2oSession, folder: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(saving(client, Answering(token(1))))
        with H2oSession(URL, cookies="hf-chat=other") as other:
            broken_off(other, 2)
        assert [each.cookies[0].value for each in records(folder)] == ["secret", "other"]
    assert [each.token for each in records(folder)] == [token(2)]


def test_the_latest_answer_comes_first(client: H2oSession, folder: Path) -> None:
    for number in (1, 2, 3):
        broken_off(client, number)
    for number in (3, 2, 1):
        with last_saved() as found:
            assert found is not None
            assert found.record.token == token(number)
            found.forget()
    assert list(folder.iterdir()) == []


def test_a_resumed_answer_keeps_its_record(client: H2oSession, folder: Path) -> None:
    broken_off(client)
    (path,) = files(folder)
    with (
        last_saved() as found,
        pytest.raises(TransportError),
        saving(client, Answering(token(2)), at=found),
    ):
        assert load() is None
        raise TransportError("reset again")
    assert files(folder) == [path]
    assert [each.token for each in records(folder)] == [token(2)]


def test_records_older_than_a_week_are_removed(client: H2oSession, folder: Path) -> None:
    broken_off(client, 1)
    broken_off(client, 2)
    old, young = files(folder)
    torn = folder / f".{old.name}.xyz"  # of a program that was killed while it wrote
    torn.touch()
    for path in (old, torn):
        os.utime(path, times=(time.time() - 8 * 86400,) * 2)
    with saving(client, Answering(token(3))):
        assert not old.exists()
        assert not torn.exists()
        assert young.exists()


def test_without_a_token_nothing_is_saved(client: H2oSession, folder: Path) -> None:
    with saving(client, Answering(None)) as note:
        note(5)
        assert not folder.exists()


def test_an_unwritable_folder_loses_no_answer(
    client: H2oSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(in_the_way))
    monkeypatch.chdir(tmp_path)
    with saving(client, Answering(token())) as note:
        note(5)
    assert load() is None
    assert list(tmp_path.iterdir()) == [in_the_way]


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\x00",
        b"{",
        b"{}",
        b'{"url":"http://localhost:3000","token":"t"}',
        b'{"url":"http://localhost:3001","token":"%s"}' % token().encode(),
        b'{"url":"http://localhost:3000","token":"%s","printed":-5}' % token().encode(),
        b'{"url":"http://localhost:3000","token":"%s","printed":%d}' % (token().encode(), 10**30),
    ],
)
def test_a_damaged_record_is_ignored(client: H2oSession, folder: Path, text: bytes) -> None:
    broken_off(client)
    (folder / "answer-9.json").write_bytes(text)
    found = load()
    assert found is not None
    assert found.token == token()
