"""The requests of each dialect since v0.7, and how it reads the responses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message as Mail
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import h2o_client
from h2o_client.dialects import detection
from h2o_client.dialects.conversation_requests import read_shared
from h2o_client.dialects.detection import DIALECTS, by_version
from h2o_client.dialects.dialect import Dialect
from h2o_client.dialects.documents import Created, Settings
from h2o_client.dialects.message_requests import Prompt, Upload
from h2o_client.dialects.run_requests import resume_probe
from h2o_client.dialects.v0_8 import V0_8
from h2o_client.errors import UnsupportedError
from h2o_client.wire import pagedata
from h2o_client.wire.request import Request
from recordings import recording

ID = "6b02c9d11306e1473508e3f3"
PATH = f"/conversation/{ID}"
VERSIONS = ("0.4", "0.7", "0.9.1", "0.9.4", "0.10.0", "latest")
IMAGE = Upload("dot.gif", b"GIF8", "image/gif")
TEXT = Upload("notes.txt", b"Gr\xc3\xbc\xc3\x9fe", "text/plain")
PROMPT = Prompt(id="i", answer_id="a", run_id="r", text="Hi\u2028ü", parameters={"top_k": 1})


def dialect(version: str) -> Dialect:
    return by_version(version).dialect


def document(request: Request) -> dict[str, object]:
    """The JSON of a message, in any encoding of the request."""
    assert request.body is not None
    if request.content_type == "application/json":
        found = json.loads(request.body)
    else:
        payload = parts(request)[0].get_payload(decode=True)
        assert isinstance(payload, bytes)
        found = json.loads(payload)
    assert isinstance(found, dict)
    return found


def parts(request: Request) -> list[Mail]:
    assert request.body is not None
    head = f"Content-Type: {request.content_type}\r\n\r\n".encode()
    mail = message_from_bytes(head + request.body)
    assert mail.is_multipart()
    return [part for part in mail.get_payload() if isinstance(part, Mail)]


def test_the_dialects_are_in_the_order_of_their_versions() -> None:
    assert [dialect(each).first for each in VERSIONS] == [each.first for each in DIALECTS]
    for former, later in pairwise(DIALECTS):
        assert former.last < later.first


def test_no_dialect_refers_to_another() -> None:
    folder = Path(detection.__file__).parent
    eras = [*folder.glob("v0_*.py"), folder / "latest.py"]
    assert len(eras) == len(DIALECTS)
    other = re.compile(r"^(from|import) .*(v0_|latest)", re.MULTILINE)
    assert [each for each in eras if other.search(each.read_text(encoding="utf-8"))] == []


def test_no_other_module_names_a_dialect() -> None:
    package = Path(h2o_client.__file__).parent
    eras = re.compile(r"dialects\.(v0_|latest)|\bV0_\d")
    outside = [each for each in package.rglob("*.py") if each.parent.name != "dialects"]
    assert [each for each in outside if eras.search(each.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("version", "kind", "said"),
    [
        ("0.7", "application/json", {"inputs": "Hi\u2028ü", "id": "i", "response_id": "a",
                                   "is_retry": False, "web_search": False}),
        ("0.9.1", "application/json", {"inputs": "Hi\u2028ü", "id": "i"}),
        ("0.9.4", "multipart/form-data", {"inputs": "Hi\u2028ü", "id": "i"}),
        ("0.10.0", "multipart/form-data", {"inputs": "Hi\u2028ü", "id": "i", "generationId": "r"}),
        ("latest", "multipart/form-data", {"inputs": "Hi\u2028ü", "id": "i", "generationId": "r"}),
    ],
)  # fmt: skip
def test_the_message_of_each_dialect(version: str, kind: str, said: dict[str, object]) -> None:
    request = dialect(version).message(ID, PROMPT)
    assert (request.method, request.path, request.accept) == ("POST", PATH, "*/*")
    assert request.content_type.partition(";")[0] == kind
    assert (request.safe, request.budget) == (False, "first_token")
    assert document(request) == said


@pytest.mark.parametrize("version", ["0.9.1", "0.9.4", "0.10.0", "latest"])
def test_a_retry_and_a_continuation_send_no_text(version: str) -> None:
    retry = dialect(version).message(ID, Prompt(id="i", retry=True))
    assert document(retry) == {"id": "i", "is_retry": True}
    continuation = dialect(version).message(ID, Prompt(id="i", continues=True))
    assert document(continuation) == {"id": "i", "is_continue": True}


@pytest.mark.parametrize("version", ["0.7", "0.9.1", "0.9.4"])
def test_a_web_search_is_part_of_the_message(version: str) -> None:
    ours = dialect(version)
    ours.check(web_search=True)
    assert ours.web_search(ID, "x") is None
    assert document(ours.message(ID, Prompt(id="i", text="x", web_search=True)))["web_search"]


@pytest.mark.parametrize("version", ["0.9.4", "0.10.0", "latest"])
def test_files_are_parts_in_base64_with_a_prefix_in_their_names(version: str) -> None:
    ours = dialect(version)
    ours.check(files=[TEXT])
    odd = Upload('a"b\r\n.png', b"\x89PNG\0", "image/png")
    data, first, second = parts(ours.message(ID, Prompt(id="i", text="x", files=(TEXT, odd))))
    assert data.get_param("name", header="content-disposition") == "data"
    assert first.get_param("name", header="content-disposition") == "files"
    assert first.get_filename() == "base64;notes.txt"
    assert first.get_content_type() == "text/plain"
    assert first.get_payload() == "R3LDvMOfZQ=="
    assert second.get_filename() == "base64;a%22b%0D%0A.png"
    assert second.get_payload() == "iVBORwA="


@pytest.mark.parametrize("version", ["0.7", "0.8", "0.8.4"])
def test_files_are_base64_in_the_json_of_v0_7_and_v0_8(version: str) -> None:
    ours = by_version(version).dialect
    ours.check(files=[IMAGE])
    said = document(ours.message(ID, Prompt(id="i", text="x", files=(IMAGE,))))
    assert said["files"] == ["R0lGOA=="]
    with pytest.raises(UnsupportedError, match="cannot take files other than images") as refused:
        ours.check(files=[IMAGE, TEXT])
    assert refused.value.versions == (
        "chat-ui v0.7" if version == "0.7" else "chat-ui v0.8 to v0.8.4"
    )


@pytest.mark.parametrize("version", ["0.9.0", "0.9.1"])
def test_files_are_objects_in_the_json_of_v0_9_1(version: str) -> None:
    ours = by_version(version).dialect
    ours.check(files=[TEXT])
    assert document(ours.message(ID, Prompt(id="i", text="x", files=(TEXT,))))["files"] == [
        {"type": "base64", "name": "notes.txt", "value": "R3LDvMOfZQ==", "mime": "text/plain"}
    ]


def test_if_the_version_is_uncertain_between_v0_8_and_v0_9_1_no_file_is_sent() -> None:
    with pytest.raises(UnsupportedError, match=r'server_version="0\.8\.4"'):
        V0_8.check(files=[IMAGE])
    V0_8.check(web_search=True)


@pytest.mark.parametrize(
    ("upload", "is_image"),
    [
        (Upload("a.png", b"", "image/png"), True),
        (Upload("file-1", b"\x89PNG\r\n\x1a\n", "application/octet-stream"), True),
        (Upload("file-1", b"\xff\xd8\xff\xe0", "application/octet-stream"), True),
        (Upload("file-1", b"RIFF\1\0\0\0WEBPVP8", "application/octet-stream"), True),
        (Upload("file-1", b"\0\1", "application/octet-stream"), False),
        (Upload("a.pdf", b"%PDF", "application/pdf"), False),
    ],
)
def test_an_image_is_recognized_by_its_name_or_its_first_bytes(
    upload: Upload, is_image: bool
) -> None:
    assert upload.is_image == is_image


@pytest.mark.parametrize(
    ("version", "settings", "posted"),
    [
        ("0.7", Settings(accepted=True, shares_data=False),
         {"ethicsModalAccepted": True, "shareConversationsWithModelAuthors": False}),
        ("0.9.1", Settings(accepted=False, shares_data=True),
         {"shareConversationsWithModelAuthors": True}),
        ("0.9.4", Settings(accepted=True, shares_data=False, active_model="m", custom_prompts={},
                       others={"tools": []}),
         {"ethicsModalAccepted": True, "shareConversationsWithModelAuthors": False,
          "activeModel": "m", "customPrompts": {}, "tools": []}),
        ("0.10.0", Settings(accepted=True, shares_data=False, others={"directPaste": True}),
         {"welcomeModalSeen": True, "shareConversationsWithModelAuthors": False,
          "directPaste": True}),
        ("latest", Settings(shares_data=False), {"shareConversationsWithModelAuthors": False}),
    ],
)  # fmt: skip
def test_posted_settings_are_complete_and_always_include_sharing(
    version: str, settings: Settings, posted: dict[str, object]
) -> None:
    request = dialect(version).change_settings(settings)
    assert (request.method, request.path, request.safe) == ("POST", "/settings", True)
    assert request.content_type == "application/json"
    assert json.loads(request.body or b"") == posted


def test_the_real_settings_of_v0_10_are_sent_back_unchanged() -> None:
    ours = dialect("0.10.0")
    stored = ours.settings().read(recording("v0.10.0-settings").payload)
    assert (stored.accepted, stored.shares_data) == (True, True)
    assert json.loads(ours.change_settings(stored).body or b"") == {
        "welcomeModalSeen": True,
        "activeModel": "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1",
        "streamingMode": "smooth",
        "directPaste": False,
        "hapticsEnabled": True,
        "hidePromptExamples": {},
        "shareConversationsWithModelAuthors": True,
        "customPrompts": {},
        "customPromptsEnabled": {},
        "multimodalOverrides": {},
        "toolsOverrides": {},
        "providerOverrides": {},
        "reasoningEffortOverrides": {},
        "reasoningOverrides": {},
    }


@pytest.mark.parametrize("version", ["0.7", "0.9.1", "0.9.4", "0.10.0", "latest"])
def test_a_preprompt_is_sent_with_the_creation(version: str) -> None:
    ours = dialect(version)
    assert json.loads(ours.create("m", "P").request.body or b"") == {"model": "m", "preprompt": "P"}
    assert json.loads(ours.create("m", None).request.body or b"") == {"model": "m"}


def test_a_conversation_of_the_newest_servers_comes_with_its_leaf() -> None:
    body = recording("HEAD-created").payload
    leaf = "f83f6838-614d-4cb4-ad33-98840b9c09a0"
    # This is how an upgrade from v0.10 is detected.
    for version in ("0.10.0", "latest"):
        create = dialect(version).create("m", None)
        assert create.read(body) == Created("6b02d72c6a7f6f95d6ecc381", leaf)
        assert create.read(b'{"conversationId":"6b02"}') == Created("6b02")


@pytest.mark.parametrize(
    ("version", "paths"),
    [
        ("0.7", [f"{PATH}/__data.json?x-sveltekit-invalidated=01"]),
        ("0.9.1", [f"{PATH}/__data.json?x-sveltekit-invalidated=01", f"/api{PATH}"]),
        ("0.9.4", [f"{PATH}/__data.json?x-sveltekit-invalidated=01", f"/api{PATH}"]),
        ("0.10.0", [f"/api/v2/conversations/{ID}", f"/api{PATH}"]),
        ("latest", [f"/api/v2/conversations/{ID}", f"/api{PATH}"]),
    ],
)
def test_the_request_for_a_conversation(version: str, paths: list[str]) -> None:
    asks = dialect(version).conversation(ID)
    assert [ask.request.path for ask in asks] == paths
    assert all(ask.request.safe for ask in asks)


def test_a_real_conversation_of_v0_10_is_read() -> None:
    ask = dialect("0.10.0").conversation(ID)[0]
    stored = ask.read(recording("v0.10.0-conversation").payload)
    assert [each.role for each in stored.messages] == ["system", "user", "assistant"]
    assert stored.messages[2].parent == stored.messages[1].id
    assert stored.messages[2].created_at is not None
    assert stored.unfinished == frozenset()


def test_a_real_list_of_v0_10_is_read() -> None:
    found = dialect("0.10.0").conversations(1).read(recording("v0.10.0-conversations").payload)
    assert found.entries[0].title == "🧪 Scripted title"
    assert found.entries[0].updated_at is not None
    assert found.more is False


@pytest.mark.parametrize(
    ("version", "method", "path"),
    [
        ("0.4", "POST", "/conversations?/delete"), ("0.7", "POST", "/conversations?/delete"),
        ("0.9.1", "POST", "/conversations?/delete"), ("0.9.4", "POST", "/conversations?/delete"),
        ("0.9.5", "DELETE", "/api/conversations"),
        ("0.10.0", "DELETE", "/api/conversations"), ("latest", "DELETE", "/api/conversations"),
    ],
)  # fmt: skip
def test_the_request_that_deletes_all_conversations(version: str, method: str, path: str) -> None:
    request = by_version(version).dialect.delete_all()
    assert (request.method, request.path, request.safe) == (method, path, True)


@pytest.mark.parametrize(
    ("version", "paths"),
    [
        ("0.7", ["/__data.json", "/__data.json", "/__data.json", "/__data.json"]),
        ("0.9.1", ["/api/models", "/__data.json", "/__data.json", "/api/conversations?p=2"]),
        ("0.9.4", ["/api/models", "/__data.json", "/__data.json", "/api/conversations?p=2"]),
        ("0.10.0", ["/api/models", "/api/v2/user/settings", "/api/v2/user",
               "/api/v2/conversations?p=2"]),
    ],
)  # fmt: skip
def test_the_requests_about_the_session(version: str, paths: list[str]) -> None:
    ours = dialect(version)
    asked: list[Any] = [ours.models(), ours.settings(), ours.user(), ours.conversations(2)]
    assert [ask.request.path for ask in asked] == paths


def test_without_the_api_everything_is_read_from_pages() -> None:
    layout = {"loginRequired": False, "assistants": []}
    page = pagedata.write([pagedata.Data(layout)])
    for content_type in ("application/json", "text/sveltekit-data"):
        ours = detection.by_page(b"", 404, content_type, page).dialect
        asked: list[Any] = [ours.models(), ours.settings(), ours.user(), ours.conversations(2)]
        assert {ask.request.path for ask in asked} == {"/__data.json"}
        assert len(ours.conversation(ID)) == 1


@pytest.mark.parametrize(
    ("body", "shared"),
    [
        (b'{"url":"https://127.0.0.1:31870/r/MIAQOXG"}', "MIAQOXG"),
        (b'{"shareId":"QKxTQJQ"}', "QKxTQJQ"),
    ],
)
def test_the_id_of_a_shared_conversation_is_read(body: bytes, shared: str) -> None:
    assert read_shared(body) == shared


def test_ids_are_escaped_in_the_path() -> None:
    odd = "a/b?c#d"
    for version in VERSIONS:
        ours = dialect(version)
        requests = [
            ours.message(odd, PROMPT), ours.rename(odd, "T"), ours.share(odd).request,
            *(ask.request for ask in ours.conversation(odd)),
        ]  # fmt: skip
        assert all("a%2Fb%3Fc%23d" in request.path for request in requests), version


@pytest.mark.parametrize("version", ["0.4", "0.7", "0.9.1", "0.9.4"])
def test_a_vote_is_about_one_message(version: str) -> None:
    request = dialect(version).vote(ID, "m/1", -1)
    assert request.path == f"{PATH}/message/m%2F1/vote"
    assert request.body == b'{"score":-1}'


def test_an_unsupported_feature_is_refused_by_name() -> None:
    cannot = {
        "continue": {*VERSIONS} - {"0.9.1", "0.9.4"},
        "summarize": {*VERSIONS} - {"0.4"},
        "vote": {"0.10.0", "latest"},
        "files": {"0.4", "0.7"},
        "web search": {"0.10.0", "latest"},
        "elicitation": {*VERSIONS} - {"latest"},
    }
    for version in VERSIONS:
        ours = dialect(version)
        tried: dict[str, Callable[[], object]] = {
            "continue": ours.check_continue,
            "summarize": partial(ours.summarize, ID),
            "vote": partial(ours.vote, ID, "m", 1),
            "files": partial(ours.check, files=[TEXT]),
            "web search": partial(ours.check, web_search=True),
            "elicitation": partial(ours.answer_elicitation, ID, "e", "accept", None),
        }
        for feature, attempt in tried.items():
            if version in cannot[feature]:
                with pytest.raises(UnsupportedError) as refused:
                    attempt()
                assert refused.value.versions == ours.name
            else:
                attempt()


def test_the_response_to_an_elicitation_says_whether_to_continue() -> None:
    ours = dialect("latest")
    ask = ours.answer_elicitation(ID, "e", "accept", {"sure": True})
    assert ask.request.path == f"{PATH}/elicitation"
    assert json.loads(ask.request.body or b"") == {
        "elicitationId": "e",
        "action": "accept",
        "content": {"sure": True},
    }
    assert ask.read(b'{"ok":true,"resume":true}')
    assert not ask.read(b'{"ok":true,"resume":false}')
    declined = ours.answer_elicitation(ID, "e", "decline", None).request
    assert json.loads(declined.body or b"") == {"elicitationId": "e", "action": "decline"}
    resumed = ours.message(ID, Prompt(id="a", resumes="e", run_id="r"))
    assert document(resumed) == {"id": "a", "resumeElicitationId": "e", "generationId": "r"}


def test_the_probe_names_a_missing_conversation() -> None:
    assert resume_probe().path == "/conversation/000000000000000000000000/stream"
    assert resume_probe().accept == "application/json"
