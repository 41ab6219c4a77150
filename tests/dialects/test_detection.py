"""Which dialect a server speaks, by its responses to two requests."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from h2o_client.dialects import detection
from h2o_client.dialects.detection import Found
from h2o_client.dialects.dialect import Dialect
from h2o_client.dialects.documents import Layout, Settings
from h2o_client.dialects.endpoint import Refused
from h2o_client.dialects.latest import LATEST
from h2o_client.dialects.v0_3 import V0_3
from h2o_client.dialects.v0_7 import V0_7
from h2o_client.dialects.v0_8 import V0_8
from h2o_client.dialects.v0_9_2 import V0_9_2
from h2o_client.dialects.v0_9_6 import V0_9_6
from h2o_client.errors import ConfigurationError, UnsupportedError
from h2o_client.wire import pagedata
from h2o_client.wire.pagedata import Data, Failed
from recordings import recording

PAGE = b"<!doctype html><title>h2oGPT"
API_OFF = b'{"message":"API is disabled"}'


def page_of(node: Mapping[str, object]) -> bytes:
    return pagedata.write([Data(node), None])


def by_page(
    node: Mapping[str, object],
    *,
    first: bytes = PAGE,
    status: int = 404,
    kind: str = "application/json",
) -> Found:
    return detection.by_page(first, status, kind, page_of(node))


@pytest.mark.parametrize(
    ("name", "era", "is_certain"),
    [
        ("v0.9.1-models", V0_8, False),
        ("v0.9.4-models", V0_9_2, False),
        ("v0.10.0-models", V0_9_6, True),
        ("HEAD-models", LATEST, False),
    ],
)
def test_real_lists_of_models_determine_the_dialect(
    name: str, era: Dialect, is_certain: bool
) -> None:
    found = detection.by_models(recording(name).payload)
    assert found is not None
    assert (found.dialect.first, found.is_certain) == (era.first, is_certain)
    assert found.models is not None
    assert found.models[0].id == "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"
    assert "/api/models lists models with" in found.why


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        PAGE,
        b"{}",
        b"[]",
        b'["x"]',
        b'[{"x":1}]',
        b'{"models":[]}',
        b"[{",
        b"[" * 10_000,
    ],
)
def test_without_a_list_of_models_the_page_determines_the_dialect(body: bytes) -> None:
    assert detection.by_models(body) is None


def test_the_beginning_is_enough_for_a_page_but_not_for_a_list() -> None:
    assert detection.is_enough(b"  <!doctype")
    assert detection.is_enough(b'{"message":')
    assert not detection.is_enough(b' [{"id":')
    assert not detection.is_enough(b"  ")


@pytest.mark.parametrize(
    ("name", "era", "version"),
    [
        ("v0.4-get-root-data-json", V0_3, "0.4"),
        ("v0.7-settings-read-back", V0_7, "0.7"),
    ],
)
def test_real_pages_determine_the_dialect(name: str, era: Dialect, version: str) -> None:
    found = detection.by_page(PAGE, 404, "application/json", recording(name).payload)
    assert (found.dialect.first, found.version) == (era.first, version)
    assert found.layout is not None
    assert found.layout.models[0].id == "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"


@pytest.mark.parametrize(
    ("name", "kind", "era", "version"),
    [
        ("v0.9.1-settings-read-back", "application/json", V0_8, "0.9.0 to 0.9.1"),
        ("v0.9.4-settings-read-back", "text/sveltekit-data", V0_9_2, "0.9.2 to 0.9.4"),
    ],
)
@pytest.mark.parametrize("first", [API_OFF, b"API is disabled"])
def test_with_the_api_switched_off_the_type_of_the_page_determines_the_dialect(
    name: str, kind: str, era: Dialect, version: str, first: bytes
) -> None:
    found = detection.by_page(first, 403, kind, recording(name).payload)
    assert found.dialect.is_of_era(era)
    assert not found.dialect.api
    assert "switched off" in found.why
    assert (found.version, found.is_certain) == (version, True)


@pytest.mark.parametrize(
    ("node", "version"),
    [
        ({"requiresLogin": False}, "0.3"),
        ({"requiresLogin": True, "messagesBeforeLogin": 0}, "0.4"),
        (
            {"requiresLogin": True, "messagesBeforeLogin": 0, "settings": {"customPrompts": {}}},
            "0.5 to 0.6",
        ),
    ],
)
def test_the_versions_of_2023_are_distinguished(node: dict[str, object], version: str) -> None:
    found = by_page(node)
    assert (found.dialect.first, found.version) == (V0_3.first, version)


def test_a_later_page_is_recognized_without_the_api() -> None:
    node = {"loginRequired": False, "assistants": [], "enableAssistants": False}
    assert by_page(node).dialect.is_of_era(V0_8)
    later = by_page(node, kind="text/sveltekit-data")
    assert (later.dialect.first, later.dialect.api) == (V0_9_2.first, False)


@pytest.mark.parametrize("body", [b"", PAGE, b"[]", page_of({}), page_of({"settings": {}})])
def test_a_page_of_something_else_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's and our own
        detection.by_page(PAGE, 200, "text/html", body)


def test_a_failed_page_raises_its_error() -> None:
    with pytest.raises(Refused, match="Internal"):
        detection.by_page(PAGE, 404, "", pagedata.write([Failed(500, "Internal Error")]))


@pytest.mark.parametrize(
    ("version", "era"),
    [
        ("0.3", V0_3), ("0.3.0", V0_3), ("0.6.1", V0_3), ("v0.4", V0_3), ("0.7.0", V0_7),
        ("0.8", V0_8), ("0.8.4", V0_8), ("0.9.0", V0_8), ("0.9.1", V0_8), ("0.9.2", V0_9_2),
        ("0.9.4", V0_9_2), ("0.9.5", V0_9_2), ("0.9.6", V0_9_6), ("0.10.0", V0_9_6),
        ("0.10", V0_9_6), ("0.10.1", LATEST), ("0.11.0", LATEST), ("1.0", LATEST),
        ("latest", LATEST), ("HEAD", LATEST),
    ],
)  # fmt: skip
def test_a_given_version_belongs_to_a_dialect(version: str, era: Dialect) -> None:
    found = detection.by_version(version)
    assert found.dialect.is_of_era(era)
    assert version in found.why


@pytest.mark.parametrize(
    ("signs", "names", "version"),
    [
        ({}, {"settings"}, "0.8 to 0.8.4"),
        ({}, {"settings", "tools"}, "0.9.0 to 0.9.1"),
        ({"tools": False}, {"settings", "tools"}, "0.9.2 to 0.9.4"),
        ({"tools": False}, {"settings", "tools", "publicConfig"}, "0.9.5"),
    ],
)
def test_the_page_distinguishes_versions_with_equal_lists_of_models(
    signs: dict[str, object], names: set[str], version: str
) -> None:
    found = detection.by_models(json.dumps([{"id": "m", **signs}]).encode())
    assert found is not None
    assert (found.dialect.span, found.is_certain) == ("", False)
    layout = Layout(settings=Settings(), models=(), names=frozenset(names))
    told = detection.by_layout(found, layout)
    assert (told.version, told.dialect.span, told.is_certain) == (version, version, True)
    assert told.dialect.stops == (version == "0.9.5")


def test_a_given_version_is_not_changed_by_a_page() -> None:
    layout = Layout(settings=Settings(), models=(), names=frozenset({"tools", "publicConfig"}))
    said = detection.by_version("0.9.4")
    told = detection.by_layout(said, layout)
    assert (told.dialect, told.version) == (said.dialect, "0.9.4")
    assert told.layout is layout


def test_v0_9_5_is_recognized_by_the_type_of_an_answer() -> None:
    page = {"loginRequired": False, "assistants": []}
    for unsure in (V0_9_2, by_page(page, kind="text/sveltekit-data").dialect):
        later = detection.by_answer(unsure, "application/jsonl")
        assert (later.stops, later.span, later.api) == (True, "0.9.5", unsure.api)
        assert detection.by_answer(later, "application/jsonl") is later
        earlier = detection.by_answer(unsure, "text/event-stream")
        assert (earlier.stops, earlier.span) == (False, "0.9.2 to 0.9.4")
    for another in (V0_7, V0_8, V0_9_6, LATEST):
        assert detection.by_answer(another, "application/jsonl") is another


@pytest.mark.parametrize("version", ["", "new", "0", "0.9", "v0.9", "1.x"])
def test_an_invalid_version_is_refused(version: str) -> None:
    with pytest.raises(ConfigurationError, match="server_version="):
        detection.by_version(version)


@pytest.mark.parametrize("version", ["0.1", "0.2.9"])
def test_a_version_before_v0_3_is_unsupported(version: str) -> None:
    with pytest.raises(UnsupportedError, match=version):
        detection.by_version(version)


def test_only_a_json_response_means_that_runs_can_be_resumed() -> None:
    assert detection.shows_runs(404, "application/json")
    assert not detection.shows_runs(404, "text/html")
    assert not detection.shows_runs(200, "application/json")


@pytest.mark.parametrize("before", [V0_9_6, LATEST])
def test_runs_distinguish_the_newest_servers(before: Dialect) -> None:
    found = Found(before, "", "because", is_certain=False)
    with_runs, without = (detection.by_runs(found, has_runs=each) for each in (True, False))
    assert (with_runs.dialect, with_runs.version) == (LATEST, "after 0.10.0")
    assert (without.dialect, without.version) == (V0_9_6, "0.10.0")
    assert detection.by_runs(with_runs, has_runs=True) is with_runs
    assert detection.by_runs(without, has_runs=True).dialect is LATEST


def test_runs_do_not_distinguish_earlier_servers() -> None:
    for era in (V0_3, V0_7, V0_8, V0_9_2):
        found = Found(era, "", "")
        assert detection.by_runs(found, has_runs=True) is found
        assert detection.upgraded(found) is found


def test_an_uncertain_version_counts_as_the_previous_one() -> None:
    unsure = Found(LATEST, "", "", is_certain=False)
    assert detection.is_same(unsure, Found(V0_9_6, "", ""))
    assert not detection.is_same(Found(LATEST, "", ""), Found(V0_9_6, "", ""))
    assert not detection.is_same(unsure, Found(V0_9_2, "", ""))
