"""The journal on disk: what it stores, which runs it refuses, and the answers file."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from h2o_client import ConfigurationError
from h2o_client.batch.answers_file import AnswersFile
from h2o_client.batch.formats import InvalidLine
from h2o_client.batch.journal import InvalidPrompts, Journal, JournalError
from h2o_client.batch.prompts import BatchPrompt, Defaults, parse_prompt
from h2o_client.batch.results import Outcome


def prompts(*values: object) -> list[BatchPrompt]:
    return [parse_prompt(value, line, Defaults()) for line, value in enumerate(values, 1)]


def outcome(text: str, **others: object) -> Outcome:
    found = Outcome(attempts=1, seconds=0.5, server="http://s", ended_at=1e9, text=text)
    return msgspec.structs.replace(found, **others)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "j")
    yield journal
    journal.close()


def answer(journal: Journal, **texts: str) -> None:
    """The prompts with these ids are answered."""
    journal.begin()
    for job in journal.claim(-1, 100):
        if str(job.id) in texts:
            journal.note_sending(job.row, 1, f"c{job.row}", None)
            journal.note_outcomes([(job.row, outcome(texts[str(job.id)]))])
    journal.begin()


def test_a_prompt_goes_from_waiting_to_answered(journal: Journal) -> None:
    assert journal.load(prompts("a", "b", "c")).waiting == 3
    first, second = journal.claim(-1, 2)
    assert (first.id, first.index, first.payload.to_send()) == (1, 0, "a")
    assert [job.index for job in journal.claim(second.index, 2)] == [2]
    assert journal.claim(-1, 2) == []
    journal.note_sending(first.row, 1, "conversation", "token")
    [asked] = journal.unanswered(1, 0)
    assert (asked.conversation_id, asked.token, asked.id) == ("conversation", "token", 1)
    journal.note_outcomes([(first.row, outcome("A"))])
    assert journal.unanswered(1, 0) == []
    assert journal.left_conversations(1, "") == ["conversation"]
    journal.note_deleted([(1, "conversation")])
    assert journal.left_conversations(1, "") == []
    counts = journal.counts()
    assert (counts.total, counts.answered, counts.waiting) == (3, 1, 2)


def test_a_prompt_with_an_interrupted_creation_waits_in_the_next_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.load(prompts("a", "b"))
    journal.claim(-1, 1)
    journal.close()
    journal = Journal(tmp_path / "j")
    assert journal.was_interrupted()
    journal.begin()
    assert not journal.was_interrupted()
    assert len(journal.claim(-1, 9)) == 2
    journal.close()


def test_a_sent_prompt_keeps_its_conversation(journal: Journal) -> None:
    journal.load(prompts("a"))
    [job] = journal.claim(-1, 1)
    journal.note_sending(job.row, 1, "c", None)
    assert journal.left_conversations(1, "") == []
    assert journal.knows(1, "c")
    assert not journal.knows(2, "c")
    journal.note_waiting([(job.row, 1)])
    assert journal.left_conversations(1, "") == ["c"]
    [again] = journal.claim(-1, 1)
    assert again.attempts == 1


def test_loading_the_same_prompts_again_keeps_the_answers(journal: Journal) -> None:
    journal.load(prompts("a", "b"))
    answer(journal, **{"1": "A"})
    counts = journal.load(prompts("a", "b", "c"))
    assert (counts.total, counts.answered) == (3, 1)
    assert [job.id for job in journal.claim(-1, 9)] == [2, 3]


def test_a_changed_prompt_is_sent_and_a_removed_one_is_not(journal: Journal) -> None:
    journal.load(prompts({"prompt": "a", "id": "x"}, {"prompt": "b", "id": "y"}))
    answer(journal, x="A", y="B")
    counts = journal.load(prompts({"prompt": "changed", "id": "x"}))
    assert (counts.total, counts.answered) == (1, 0)
    assert [job.payload.to_send() for job in journal.claim(-1, 9)] == ["changed"]
    assert journal.results(0, ordered=False) == []
    # Prompts that were answered are known after a restart.
    assert journal.load(prompts({"prompt": "a", "id": "x"})).answered == 1


def test_invalid_lines_refuse_the_batch_and_change_nothing(journal: Journal) -> None:
    journal.load(prompts("a"))
    bad: list[BatchPrompt | InvalidLine] = [*prompts("x", "y"), InvalidLine(3, "Not JSON.")]
    with pytest.raises(InvalidPrompts) as caught:
        journal.load(bad)
    assert "Line 3: Not JSON. Nothing was sent." in str(caught.value)
    assert journal.counts().total == 1


def test_only_the_first_invalid_lines_are_reported(journal: Journal) -> None:
    with pytest.raises(InvalidPrompts) as caught:
        journal.load([InvalidLine(line, "Bad.") for line in range(1, 100)])
    assert len(caught.value.lines) == 10
    assert "And 89 more." in str(caught.value)


def test_a_duplicate_id_is_an_invalid_line(journal: Journal) -> None:
    values = ({"prompt": "a", "id": "2"}, "b", {"prompt": "c", "id": 9}, {"prompt": "d", "id": "9"})
    with pytest.raises(InvalidPrompts) as caught:
        journal.load(prompts(*values))
    assert [each.line for each in caught.value.lines] == [2, 4]
    assert "Line 1 has the same id '2'." in str(caught.value)


def test_equal_prompts_with_different_ids_are_all_sent(journal: Journal) -> None:
    journal.load(prompts("same", "same"))
    assert len(journal.claim(-1, 9)) == 2


def test_results_are_ordered_by_prompt_or_by_arrival(journal: Journal) -> None:
    journal.load(prompts("a", "b", "c"))
    jobs = {job.id: job for job in journal.claim(-1, 9)}
    journal.note_outcomes([(jobs[3].row, outcome("C"))])
    journal.note_outcomes([(jobs[1].row, outcome("A"))])
    assert [row.id for row in journal.results(0, ordered=False)] == [3, 1]
    assert [row.id for row in journal.results(1, ordered=False)] == [1]
    assert [row.id for row in journal.results(-1, ordered=True)] == [1]
    journal.note_outcomes([(jobs[2].row, outcome("B"))])
    assert [row.id for row in journal.results(0, ordered=True)] == [2, 3]


def test_retry_failed_makes_failed_prompts_wait_again(journal: Journal) -> None:
    journal.load(prompts("a", "b"))
    first, second = journal.claim(-1, 9)
    failed = outcome("", error_type="GenerationError", error_message="No", partial="N", attempts=5)
    journal.note_outcomes([(first.row, failed)])
    journal.note_outcomes([(second.row, outcome("B"))])
    assert journal.counts().failed == 1
    [row, _] = journal.results(0, ordered=False)
    error = row.result().error
    assert error is not None
    assert (error.type, error.message, error.partial) == ("GenerationError", "No", "N")
    journal.retry_failed()
    assert journal.counts().failed == 0
    assert [(job.id, job.attempts) for job in journal.claim(-1, 9)] == [(1, 0)]


def test_accounts_are_found_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    made = journal.add_account("http://s", "")
    journal.note_account(made.number, b"cookies", ["b", "a"])
    journal.close()
    journal = Journal(tmp_path / "j")
    [found] = journal.accounts()
    assert (found.base_url, found.cookies) == ("http://s", b"cookies")
    assert found.baseline == frozenset("ab")
    journal.close()


# The file


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_only_its_user_can_read_the_journal(journal: Journal, tmp_path: Path) -> None:
    journal.load(prompts("a"))
    files = list(tmp_path.iterdir())
    assert {file.name for file in files} <= {"j", "j-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.skipif(os.name != "posix", reason="links need a right on Windows")
@pytest.mark.parametrize("suffix", ["-wal", "-journal", "-shm"])
def test_a_link_beside_the_journal_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"j{suffix}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="is a link, or not a file"):
        Journal(tmp_path / "j")
    assert not (tmp_path / "elsewhere").exists()


def test_a_second_run_with_the_same_journal_is_refused(journal: Journal, tmp_path: Path) -> None:
    journal.load(prompts("a"))
    with pytest.raises(ConfigurationError, match="Another run uses the journal"):
        Journal(tmp_path / "j")
    code = (
        "import sys; from h2o_client.batch.journal import Journal\n"
        "try: Journal(sys.argv[1])\nexcept Exception as exc: print(exc)"
    )
    for _ in range(2):  # the attempt must not have freed the locks
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "j")],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        assert "Another run uses the journal" in done.stdout
    journal.load(prompts("a", "b"))


def test_a_file_that_is_not_a_journal_is_not_changed(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("My notes, which are longer than the header of a file of SQLite. " * 9)
    with sqlite3.connect(other) as made:
        made.execute("CREATE TABLE mine (a)")
    made.close()
    for file in (text, other):
        file.chmod(0o644)
        before = file.read_bytes()
        with pytest.raises(ConfigurationError, match="is not a journal"):
            Journal(file)
        assert file.read_bytes() == before
        assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"No such file.*journal="):
        Journal(tmp_path / "no" / "j")


def test_a_file_system_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def lockf(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(ConfigurationError, match=r"has no locks.*journal="):
        Journal(tmp_path / "j")


def test_a_full_disk_loses_no_answer(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.load(prompts("a", "b"))
    first, second = journal.claim(-1, 9)
    journal.note_outcomes([(first.row, outcome("A"))])
    (pages,) = journal._one("PRAGMA page_count")
    journal._one(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match=r"full.*Free space"):
        journal.note_outcomes([(second.row, outcome("B" * 100_000))])
    journal.close()
    journal = Journal(tmp_path / "j")
    assert journal.load(prompts("a", "b")).answered == 1
    journal.close()


def test_the_error_for_a_damaged_journal_says_so(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path)
    journal.load(prompts(*map(str, range(200))))
    journal.close()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    for _ in range(2):  # a failed attempt does not keep the file open
        with pytest.raises(JournalError, match=r"j is damaged: .*\. Restore it from a backup"):
            Journal(path)


def test_a_temporary_journal_is_removed_at_the_end(tmp_path: Path) -> None:
    journal = Journal(None)
    assert journal.load(prompts("a")).total == 1
    journal.close()
    assert list(tmp_path.iterdir()) == []


# The answers file


def written(path: Path) -> list[tuple[object, object]]:
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [(each.get("id", each.get("custom_id")), each.get("text")) for each in found]


def write_all(
    journal: Journal, path: Path, *, ordered: bool = False, drops_failed: bool = False
) -> None:
    file = AnswersFile(str(path), journal, ordered=ordered, drops_failed=drops_failed)
    for row in journal.results(-1 if ordered else 0, ordered=ordered):
        file.write(row)
    file.close()


def test_only_missing_lines_are_written(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    journal.load(prompts("a", "b", "c"))
    answer(journal, **{"1": "A", "2": "B"})
    write_all(journal, path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        write_all(journal, path)
        assert sorted(written(path)) == [(1, "A"), (2, "B")], cut
    answer(journal, **{"3": "C"})
    write_all(journal, path)
    assert path.read_bytes().startswith(whole)
    assert written(path)[2:] == [(3, "C")]


def test_ordered_lines_are_put_in_order(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    journal.load(prompts("a", "b", "c"))
    answer(journal, **{"3": "C"})
    answer(journal, **{"1": "A"})
    write_all(journal, path)
    assert written(path) == [(3, "C"), (1, "A")]
    write_all(journal, path, ordered=True)
    assert written(path) == [(1, "A")]
    answer(journal, **{"2": "B"})
    write_all(journal, path, ordered=True)
    assert written(path) == [(1, "A"), (2, "B"), (3, "C")]


def test_the_line_of_a_changed_prompt_is_replaced(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    journal.load(prompts({"prompt": "a", "id": "x"}, {"prompt": "b", "id": "y"}))
    answer(journal, x="A", y="B")
    write_all(journal, path)
    journal.load(prompts({"prompt": "new", "id": "n"}, {"prompt": "changed", "id": "x"}))
    answer(journal, x="A2", n="N")
    write_all(journal, path)
    assert sorted(written(path)) == [("n", "N"), ("x", "A2")]


def test_a_line_with_a_changed_index_is_written_again(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    journal.load(prompts({"prompt": "a", "id": "x"}))
    answer(journal, x="A")
    write_all(journal, path)
    journal.load(prompts({"prompt": "n", "id": "n"}, {"prompt": "a", "id": "x"}))
    write_all(journal, path)
    assert [json.loads(line)["index"] for line in path.read_bytes().splitlines()] == [1]


def test_lines_of_failed_prompts_are_removed_with_retry_failed(
    journal: Journal, tmp_path: Path
) -> None:
    path = tmp_path / "answers"
    journal.load(prompts("a", "b"))
    first, second = journal.claim(-1, 9)
    journal.note_outcomes([(first.row, outcome("", error_type="ServerError", error_message="No"))])
    journal.note_outcomes([(second.row, outcome("B"))])
    write_all(journal, path)
    assert written(path) == [(1, None), (2, "B")]
    AnswersFile(str(path), journal, drops_failed=True).close()
    assert written(path) == [(2, "B")]


@pytest.mark.parametrize(
    "line",
    [
        b"My notes.\n",
        b'{"id": 77, "index": 0, "text": "?"}\n',
        b"Notes without a line end",
        b'{"id":1,"prompt":"a"}',
    ],
)
def test_a_file_with_foreign_lines_is_not_changed(
    journal: Journal, tmp_path: Path, line: bytes
) -> None:
    path = tmp_path / "answers"
    path.write_bytes(line)
    journal.load(prompts("a"))
    answer(journal, **{"1": "A"})
    with pytest.raises(ConfigurationError, match=r"line 1: the journal does not have this answer"):
        write_all(journal, path)
    assert path.read_bytes() == line


def test_a_line_contains_the_extra_keys_of_the_prompt(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    journal.load(prompts({"prompt": "a", "label": [1], "id": "x"}))
    answer(journal, x="\u2028\u00e4")
    write_all(journal, path)
    assert json.loads(path.read_bytes()) == {
        "id": "x",
        "index": 0,
        "text": "\u2028\u00e4",
        "finish_reason": None,
        "model": None,
        "server": "http://s",
        "attempts": 1,
        "seconds": 0.5,
        "error": None,
        "label": [1],
    }


def test_lines_of_openais_batch_api_get_lines_in_its_format(
    journal: Journal, tmp_path: Path
) -> None:
    types = pytest.importorskip("openai.types.chat")
    path = tmp_path / "answers"
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    journal.load(prompts(*({"custom_id": name, "body": body} for name in "ab")))
    first, second = journal.claim(-1, 9)
    journal.note_outcomes([(first.row, outcome("A", finish_reason="stop", model="m"))])
    journal.note_outcomes([(second.row, outcome("", error_type="ServerError", error_message="No"))])
    write_all(journal, path)
    write_all(journal, path)  # each is recognized after a restart
    good, bad = (json.loads(line) for line in path.read_bytes().splitlines())
    assert (good["custom_id"], good["error"]) == ("a", None)
    completion = types.ChatCompletion.model_validate(good["response"]["body"])
    assert completion.choices[0].message.content == "A"
    assert (bad["custom_id"], bad["response"]) == ("b", None)
    assert bad["error"] == {"code": "ServerError", "message": "No"}


def test_a_pipe_gets_the_lines(journal: Journal, tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes with a name")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    journal.load(prompts("a"))
    answer(journal, **{"1": "A"})
    write_all(journal, pipe)
    assert json.loads(os.read(reader, 65536))["text"] == "A"
    os.close(reader)
