"""Answers that another process continues, and the list of running answers."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fake_chatui import FakeChatUi
from fake_checks import check, every_era, talking
from fake_model import Says
from fake_store import VERSIONS
from h2o_client import (
    AsyncH2oSession,
    ConfigurationError,
    ElicitationClosedError,
    GenerationError,
    H2oSession,
    IncompleteAnswerError,
    NotFoundError,
    Running,
    TransportError,
    UnsupportedError,
)
from h2o_client.answer.reply import leave_running
from h2o_client.answer.server_run import ResumeToken

HOLDS = Says(("One", " two"), holds=True, rest=(" three", " four"))
TEXT = "One two three four"

Open = Callable[..., H2oSession]


def left(
    server: FakeChatUi, tmp_path: Path, *, ask: str = 'client.stream("Hello", keep=True)'
) -> str:
    """The token of an answer whose process was killed before the answer ended."""
    program = f"""
        import os, signal
        from h2o_client import H2oSession

        client = H2oSession({server.url!r}, server_version="latest")
        reply = {ask}
        print(next(reply), reply.resume_token, flush=True)
        client.save_cookies({str(tmp_path / "cookies")!r})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    first, token = done.stdout.split()
    assert (first, done.stderr) == ("One", "")
    return token


def test_another_process_resumes_the_answer_of_a_killed_one(
    tmp_path: Path, open_session: Open
) -> None:
    with FakeChatUi("head", answer=[HOLDS]) as server:
        token = left(server, tmp_path)
        client = open_session(server.url, cookies=tmp_path / "cookies")
        reply = client.resume(token)
        server.released.set()
        assert "".join(reply) == " two three four"
        assert reply.answer is not None
        assert reply.answer.text == reply.text == TEXT
        assert (reply.finish_reason, reply.model, reply.title) == ("stop", "acme/large", "A title")
        assert reply.message_id == client.conversation(reply.conversation_id).messages()[-1].id
        assert list(server.conversations) == [reply.conversation_id]  # the conversation is kept
        assert (server.stops, len(server.prompts)) == ([], 1)


def test_the_whole_answer_can_be_read_again(tmp_path: Path, open_session: Open) -> None:
    with FakeChatUi("head", answer=[HOLDS]) as server:
        token = left(server, tmp_path)
        server.released.set()
        client = open_session(server.url, cookies=tmp_path / "cookies")
        assert "".join(client.resume(token, position=0)) == TEXT
        assert "".join(client.resume(token, position=5)) == "wo three four"
        assert "".join(client.resume(token, position=999)) == ""
        assert client.resume(token).read().text == TEXT


def test_a_conversation_created_for_one_answer_is_deleted_with_it(
    tmp_path: Path, open_session: Open
) -> None:
    with FakeChatUi("head", answer=[HOLDS]) as server:
        token = left(server, tmp_path, ask='client.stream("Hello")')
        assert len(server.conversations) == 1
        server.released.set()
        client = open_session(server.url, cookies=tmp_path / "cookies")
        assert client.resume(token, delete=True).read().text == TEXT
        client.close()
        check(server)


@pytest.mark.parametrize("ours", ["", ",true"])
def test_a_forged_token_deletes_no_conversation(open_session: Open, ours: str) -> None:
    with FakeChatUi("head", answer=[Says(("Yes",))]) as server:
        client = open_session(server.url)
        precious = client.conversation(keep=True)
        reply = precious.stream("Hello")
        run_id = ResumeToken.read(str(reply.resume_token)).run_id
        reply.read()
        # In 0.1 the last field was the permission to delete the conversation afterwards.
        for run in (run_id, "00000000-0000-4000-8000-000000000000"):
            said = f'["{server.url}","{precious.id}","{run}",0{ours}]'
            token = "h2o1." + urlsafe_b64encode(said.encode()).decode().rstrip("=")
            with suppress(IncompleteAnswerError):
                client.resume(token).read()
        client.close()
        assert list(server.conversations) == [precious.id]


def test_a_one_shot_of_the_same_session_is_deleted_when_it_is_resumed(open_session: Open) -> None:
    with FakeChatUi("head", answer=[HOLDS]) as server:
        client = open_session(server.url)
        reply = client.stream("Hello")
        token = str(reply.resume_token)
        leave_running(reply)
        server.released.set()
        assert client.resume(token).read().text == TEXT
        client.close()
        check(server)


def test_a_resumed_answer_can_be_stopped(tmp_path: Path, open_session: Open) -> None:
    with FakeChatUi("head", answer=[HOLDS]) as server:
        token = left(server, tmp_path)
        client = open_session(server.url, cookies=tmp_path / "cookies")
        with client.resume(token) as reply:
            assert next(reply) == " two"
            reply.stop()
            assert "".join(reply) == ""
        assert (reply.finish_reason, len(server.stops)) == ("stopped", 1)


def test_a_conversation_opened_by_its_id_waits_for_the_answer_that_is_resumed(
    tmp_path: Path, open_session: Open
) -> None:
    with FakeChatUi("head", answer=[HOLDS, Says(("Yes",))]) as server:
        token = left(server, tmp_path)
        server.released.set()
        client = open_session(server.url, cookies=tmp_path / "cookies")
        reply = client.resume(token)
        reply.read()
        with client.conversation(reply.conversation_id) as chat:
            assert chat.chat("And?").text == "Yes"
        assert [each[1] for each in server.prompts[1].turns] == ["Hello", TEXT, "And?"]


def test_resuming_a_failed_answer_raises_its_error(tmp_path: Path, open_session: Open) -> None:
    says = Says(("One", " two"), holds=True, end="error")
    with FakeChatUi("head", answer=[says]) as server:
        token = left(server, tmp_path)
        server.released.set()
        client = open_session(server.url, cookies=tmp_path / "cookies")
        with pytest.raises(GenerationError) as caught:
            client.resume(token).read()
        assert caught.value.partial.startswith("One two")


def test_resuming_an_answer_whose_prompt_never_arrived_fails(open_session: Open) -> None:
    with FakeChatUi("head") as server:
        client = open_session(server.url, max_retries=0)
        kept = client.stream("Hello", keep=True)
        kept.read()
        run = "0b6e3a52-6b6e-4a8e-9e1f-0123456789ab"
        token = str(ResumeToken(client.base_url, kept.conversation_id, run))
        with pytest.raises(IncompleteAnswerError, match="never reached the server") as caught:
            client.resume(token).read()
        assert caught.value.resendable is True


@pytest.mark.anyio
async def test_async_code_can_resume(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=[HOLDS]) as server:
        token = left(server, tmp_path)
        server.released.set()
        async with AsyncH2oSession(server.url, cookies=tmp_path / "cookies") as client:
            async with client.resume(token) as reply:
                assert "".join([text async for text in reply]) == " two three four"
                assert reply.resume_token is not None
            with pytest.raises(ConfigurationError):
                client.resume("?")
            assert await client.running() == []
            await client.save_cookies(tmp_path / "again")
        assert (tmp_path / "again").exists()


def test_running_answers_are_listed_and_can_be_resumed(tmp_path: Path, open_session: Open) -> None:
    with FakeChatUi("head", answer=[HOLDS]) as server:
        left(server, tmp_path)
        client = open_session(server.url, cookies=tmp_path / "cookies")
        (running,) = client.running()
        assert isinstance(running, Running)
        assert (running.title, [running.conversation_id]) == ("A title", list(server.conversations))
        server.released.set()
        assert "".join(client.resume(running.resume_token)) == TEXT
        assert client.running() == []
        stranger = open_session(server.url)
        assert stranger.running() == []


@every_era
def test_only_the_newest_servers_keep_runs(version: str) -> None:
    with talking(version) as (_, client):
        reply = client.stream("Hello")
        token = reply.resume_token
        reply.read()
        if VERSIONS[version].is_latest:
            assert token is not None
            assert client.running() == []
            return
        assert (token, reply.resumed) == (None, 0)
        run = ResumeToken(client.base_url, "0" * 24, "0b6e3a52-6b6e-4a8e-9e1f-0123456789ab")
        with pytest.raises(UnsupportedError, match="cannot resume answers"):
            client.resume(str(run))
        with pytest.raises(UnsupportedError, match="cannot list running answers"):
            client.running()


def test_a_token_contains_the_position_of_the_taken_text(open_session: Open) -> None:
    with FakeChatUi("head", answer=[Says(("One", " two", " three"))]) as server:
        reply = open_session(server.url).stream("Hello")
        found = []
        for _ in reply:
            assert reply.resume_token is not None
            found.append(ResumeToken.read(reply.resume_token).position)
        assert found == [3, 7, 13]


def test_a_token_is_short_and_holds_no_secret(open_session: Open) -> None:
    with FakeChatUi("head") as server:
        url = server.url.replace("//", "//ada:secret@")
        reply = open_session(url).stream("Hello")
        token = reply.resume_token
        assert token is not None
        reply.close()
        assert len(token) < 250
        found = ResumeToken.read(token)
        assert (found.base_url, found.conversation_id) == (server.url, reply.conversation_id)
        cookie = next(iter(server.sessions))
        assert all(each not in repr(found) for each in ("secret", "ada", cookie))


@pytest.mark.parametrize(
    "token", ["", "x", "h2o1.", "h2o1.!!!", "h2o1.e30", "h2o1.W10", 5, None, "h2o1.é", b"h2o1.x"]
)
def test_an_invalid_token_is_refused(token: object, open_session: Open) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"Invalid resume token\. Pass the exact value of Reply\.resume_token\.",
    ):
        open_session("http://127.0.0.1:1").resume(token)  # type: ignore[arg-type]


def test_a_token_of_another_server_is_refused(open_session: Open) -> None:
    token = str(ResumeToken("https://chat.example.org", "0" * 24, "x"))
    with pytest.raises(ConfigurationError, match=r"https://chat\.example\.org"):
        open_session("http://127.0.0.1:1").resume(token)


@pytest.mark.parametrize("position", [-1, 1.5, True, "1"])
def test_a_position_must_be_a_number_of_characters(position: object, open_session: Open) -> None:
    token = str(ResumeToken("http://127.0.0.1:1", "0" * 24, "x"))
    with pytest.raises(ConfigurationError, match="Invalid position"):
        open_session("http://127.0.0.1:1").resume(token, position=position)  # type: ignore[arg-type]


def test_a_session_without_the_cookie_does_not_find_the_answer(
    tmp_path: Path, open_session: Open
) -> None:
    with FakeChatUi("head", answer=[HOLDS]) as server:
        token = left(server, tmp_path)
        with pytest.raises(NotFoundError, match="cookie"):
            open_session(server.url).resume(token)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_saved_cookies_are_readable_by_their_owner_only(tmp_path: Path, open_session: Open) -> None:
    path = tmp_path / "cookies"
    path.write_text("old")
    path.chmod(0o644)
    with FakeChatUi("head") as server:
        client = open_session(server.url)
        with pytest.raises(ConfigurationError, match="no cookies yet"):
            client.save_cookies(path)
        assert path.read_text() == "old"
        chat = client.conversation(keep=True)
        chat.chat("Hello")
        client.save_cookies(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(tmp_path.iterdir()) == [path]
        assert [each.id for each in open_session(server.url, cookies=path).conversations()] == [
            chat.id
        ]
    with pytest.raises(ConfigurationError, match="Cannot write cookies"):
        client.save_cookies(tmp_path / "nowhere" / "cookies")


def test_a_third_process_can_resume_after_the_second(tmp_path: Path, open_session: Open) -> None:
    with FakeChatUi("head", answer=[HOLDS]) as server:
        token = left(server, tmp_path)
        second = open_session(server.url, cookies=tmp_path / "cookies").resume(token)
        assert second.resume_token is not None
        assert ResumeToken.read(second.resume_token).position == len("One")
        assert next(second) == " two"
        assert ResumeToken.read(second.resume_token).position == len("One two")
        server.released.set()
        third = open_session(server.url, cookies=tmp_path / "cookies").resume(second.resume_token)
        assert "".join(third) == " three four"
        second.close()


def test_after_an_elicitation_the_token_names_the_second_run(open_session: Open) -> None:
    asks = Says(("One",), asks=True)
    with FakeChatUi("head", answer=[asks, Says((" two", " three"))]) as server:
        client = open_session(server.url)
        reply = client.stream("Hello", keep=True)
        assert "".join(reply) == "One"
        reply.answer_elicitation("accept", {"confirm": "DELETE"})
        assert next(reply) == " two"
        token = reply.resume_token
        assert token is not None
        assert "".join(reply) == " three"
        assert "".join(client.resume(token)) == " three"


PARKED = Says(("Let me look. ",), asks=True)


def test_a_resumed_answer_continues_after_the_users_answer(open_session: Open) -> None:
    # The server accepted the answer to the elicitation, but without a message the tool never ran.
    with FakeChatUi("head", answer=[PARKED, Says((), tool=("It ", "is 5."))]) as server:
        client = open_session(server.url)
        asked = client.stream("Hello", keep=True)
        assert "".join(asked) == "Let me look. "
        assert asked.resume_token is not None
        resumed = client.resume(asked.resume_token, position=0)
        assert "".join(resumed) == "Let me look. "
        assert resumed.elicitation is not None
        resumed.answer_elicitation("accept", {"confirm": "DELETE"})
        assert "".join(resumed) == "It is 5."
        assert resumed.read().text == "Let me look. It is 5."
        assert resumed.message_id == client.conversation(asked.conversation_id).messages()[-1].id


def test_a_resumed_answer_continues_after_several_elicitations(open_session: Open) -> None:
    says = [PARKED, PARKED, PARKED, Says(("Done.",))]
    with FakeChatUi("head", answer=says) as server:
        client = open_session(server.url)
        asked = client.stream("Hello", keep=True)
        list(asked)
        assert asked.resume_token is not None
        resumed = client.resume(asked.resume_token)
        for _ in range(3):
            list(resumed)
            resumed.answer_elicitation("accept", {"confirm": "DELETE"})
        assert "".join(resumed) == "Done."
        assert resumed.read().text == "Let me look. " * 3 + "Done."


def test_a_continued_resumed_answer_can_be_stopped(open_session: Open) -> None:
    with FakeChatUi("head", answer=[PARKED, Says(("One",), holds=True)]) as server:
        client = open_session(server.url)
        asked = client.stream("Hello", keep=True)
        list(asked)
        assert asked.resume_token is not None
        resumed = client.resume(asked.resume_token)
        list(resumed)
        resumed.answer_elicitation("accept", {"confirm": "DELETE"})
        assert next(resumed) == "One"
        resumed.close()
        assert len(server.stops) == 1


@pytest.mark.anyio
async def test_a_resumed_answer_continues_in_async_code(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=[PARKED, Says(("Done.",))]) as server:
        async with AsyncH2oSession(server.url) as client:
            asked = client.stream("Hello", keep=True)
            assert [text async for text in asked] == ["Let me look. "]
            assert asked.resume_token is not None
            async with client.resume(asked.resume_token, position=0) as resumed:
                assert [text async for text in resumed] == ["Let me look. "]
                await resumed.answer_elicitation("accept", {"confirm": "DELETE"})
                assert [text async for text in resumed] == ["Done."]


def test_a_question_answered_in_another_tab_raises_elicitation_closed_error(
    open_session: Open,
) -> None:
    with FakeChatUi("head", answer=[PARKED]) as server:
        reply = open_session(server.url).stream("Hello", keep=True)
        list(reply)
        (conversation,) = server.conversations.values()
        conversation.elicitations = dict.fromkeys(conversation.elicitations, False)
        with pytest.raises(ElicitationClosedError, match="Already answered") as caught:
            reply.answer_elicitation("accept", {"confirm": "DELETE"})
        assert caught.value.status == 409
        assert reply.elicitation is None


def test_the_users_answer_counts_even_if_its_response_was_lost(open_session: Open) -> None:
    lost: list[str] = []

    def before(exchange: Any) -> bool:
        if not exchange.request.path.endswith("/elicitation") or lost:
            return False
        lost.append(exchange.request.path)
        (conversation,) = server.conversations.values()
        conversation.elicitations = dict.fromkeys(conversation.elicitations, False)
        exchange.reset()
        return True

    with FakeChatUi("head", answer=[PARKED, Says(("Done.",))], before=before) as server:
        reply = open_session(server.url).stream("Hello")
        list(reply)
        with pytest.raises(TransportError):
            reply.answer_elicitation("accept", {"confirm": "DELETE"})
        reply.answer_elicitation("accept", {"confirm": "DELETE"})
        assert "".join(reply) == "Done."


def test_closing_a_resumed_finished_answer_stops_nothing(open_session: Open) -> None:
    with FakeChatUi("head", answer=[HOLDS, Says(("Yes", " indeed"))]) as server:
        client = open_session(server.url)
        server.released.set()
        done = client.stream("Hello", keep=True)
        token = done.resume_token
        done.read()
        assert token is not None
        for end in ("close", "stop"):
            getattr(client.resume(token), end)()
        assert server.stops == []
        with client.conversation(done.conversation_id) as chat:
            assert chat.chat("next").text == "Yes indeed"


@pytest.mark.parametrize("path", ["", "\0", None, 5])
def test_cookies_that_cannot_be_saved_say_so(path: object, open_session: Open) -> None:
    with FakeChatUi("head") as server:
        client = open_session(server.url)
        client.chat("Hello")
        with pytest.raises(ConfigurationError, match="Cannot write cookies"):
            client.save_cookies(path)  # type: ignore[arg-type]


def test_saving_cookies_follows_a_link(tmp_path: Path, open_session: Open) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with FakeChatUi("head") as server:
        client = open_session(server.url)
        client.chat("Hello")
        client.save_cookies(link)
    assert link.is_symlink()
    assert "hf-chat" in target.read_text()
