"""Arguments of callers: every class that json accepts, but never half a surrogate pair."""

from __future__ import annotations

import enum
import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from fake_chatui import FakeChatUi
from fake_checks import every_era, talking
from fake_store import VERSIONS
from h2o_client import ConfigurationError, H2oSession, Message
from h2o_client.answer.uploads import read_uploads
from h2o_client.arguments import document, optional_text, text, texts

HALF = "half \ud83e"


class Shouting(str):
    """A str with another str(), like those of Enums and some templates."""

    __slots__ = ()

    def __str__(self) -> str:
        return "SHOUTING"

    def __format__(self, spec: str) -> str:
        return "SHOUTING"

    __repr__ = __str__


class Word(str, enum.Enum):
    HELLO = "hello"


class Exactly(float):
    """Like numpy.float64."""


class Count(enum.IntEnum):
    TWO = 2


class Bag(Mapping[str, object]):
    """A mapping that is no dict."""

    def __init__(self, **values: object) -> None:
        self._values = values

    def __getitem__(self, name: str) -> object:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@pytest.mark.parametrize("value", ["hello", Shouting("hello"), Word.HELLO])
def test_a_text_of_any_class_becomes_a_str(value: str) -> None:
    plain = text(value, "It")
    assert (type(plain), plain) == (str, "hello")
    assert optional_text(value, "It") == "hello"
    assert optional_text(None, "It") is None


@pytest.mark.parametrize("value", [b"hello", 5, None, ["hello"]])
def test_a_value_that_is_not_text_is_named(value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"It must be a str, not {type(value).__name__}"):
        text(value, "It")


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="It has half a surrogate pair at 5"):
        text(HALF, "It")


def test_a_document_contains_only_plain_types() -> None:
    value = Bag(
        text=Shouting("a"),
        word=Word.HELLO,
        number=Exactly(0.5),
        count=Count.TWO,
        part=Fraction(1, 4),
        yes=True,
        nothing=None,
        inside=MappingProxyType({Shouting("b"): (Exactly(1.5), [Word.HELLO])}),
    )
    plain = document(value, "It")
    assert plain == {
        "text": "a",
        "word": "hello",
        "number": 0.5,
        "count": 2,
        "part": 0.25,
        "yes": True,
        "nothing": None,
        "inside": {"b": [1.5, ["hello"]]},
    }
    assert [type(each) for each in plain.values()] == [
        str, str, float, int, float, bool, type(None), dict,
    ]  # fmt: skip
    assert [type(each) for each in texts({Shouting("a"): Word.HELLO}, "It").values()] == [str]


def nested(depth: int) -> object:
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": object()}, "JSON has no object"),
        ({"a": b"x"}, "JSON has no bytes"),
        ({"a": {1, 2}}, "JSON has no set"),
        ({"a": math.nan}, "JSON has no nan"),
        ({"a": Exactly(math.inf)}, "JSON has no inf"),
        ({"a": [HALF]}, "half a surrogate pair"),
        ({HALF: 1}, "half a surrogate pair"),
        ({5: 1}, "A name must be a str, not int"),
        ({"a": nested(sys.getrecursionlimit())}, "nested too deeply"),
        ([("a", 1)], "a mapping of names"),
    ],
)
def test_values_that_json_lacks_are_refused(value: object, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        document(value, "It")


@every_era
def test_every_argument_accepts_what_json_accepts(version: str) -> None:
    with talking(version) as (server, client):
        model = Shouting(client.models()[0].id)
        assert client.chat(Shouting("one"), model=model).text
        message = Bag(role=Word("hello") and Shouting("user"), content=Shouting("two"))
        assert client.chat([message], system=Shouting("brief")).text
        assert client.chat([Message(Shouting("user"), Shouting("three"))]).text
        given: dict[str, Any] = {"temperature": Exactly(0.5), "stop": Shouting("end")}
        warns = pytest.warns(UserWarning, match="ignores sampling parameters")
        with nullcontext() if VERSIONS[version].before(0, 7) else warns:
            assert client.chat("four", parameters=Bag(top_k=Count.TWO), **given).text
        with client.conversation(model=model) as chat:
            chat.chat("five")
            chat.rename(Shouting("A title"))
            assert (type(chat.title), chat.title) == (str, "A title")
            answer = chat.messages()[-1].id or ""
            assert chat.retry(Shouting(answer)).read().text
        if VERSIONS[version].since(0, 7):  # which keeps no others
            client.update_settings(others=Bag(ethicsModalAccepted=True))
        assert "SHOUTING" not in repr(server.prompts)


DOORS: dict[str, Callable[[H2oSession], object]] = {
    "a prompt": lambda client: client.stream(HALF),
    "a message": lambda client: client.stream([{"role": "user", "content": HALF}]),
    "a part": lambda client: client.stream(
        [{"role": "user", "content": [{"type": "text", "text": HALF}]}]
    ),
    "a role": lambda client: client.stream([{"role": HALF, "content": "x"}]),
    "a system prompt": lambda client: client.stream("x", system=HALF),
    "a system prompt of a conversation": lambda client: client.conversation(system=HALF),
    "a format": lambda client: client.stream("x", prompt_format=lambda messages: HALF),
    "a model": lambda client: client.stream("x", model=HALF),
    "a model of a conversation": lambda client: client.conversation(model=HALF),
    "a model of a session": lambda client: H2oSession(client.base_url, model=HALF),
    "a stop": lambda client: client.stream("x", stop=[HALF]),
    "a parameter": lambda client: client.stream("x", parameters={"a": {"b": HALF}}),
    "a parameter's name": lambda client: client.stream("x", parameters={HALF: 1}),
    "a title": lambda client: client.conversation("a" * 24).rename(HALF),
    "a message's id": lambda client: client.conversation("a" * 24).retry(HALF),
    "an edited message's id": lambda client: client.conversation("a" * 24).edit(HALF, "x"),
    "an edited prompt": lambda client: client.conversation("a" * 24).edit("b", HALF),
    "a vote": lambda client: client.conversation("a" * 24).vote(1, HALF),
    "the active model": lambda client: client.update_settings(model=HALF),
    "a custom prompt": lambda client: client.update_settings(custom_prompts={"m": HALF}),
    "another setting": lambda client: client.update_settings(others={"a": HALF}),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("version", ["0.4", "head"])
def test_every_argument_refuses_half_a_surrogate_pair_before_anything_is_sent(
    door: Callable[[H2oSession], object], version: str
) -> None:
    with FakeChatUi(version) as server, H2oSession(server.url) as client:
        with pytest.raises(ConfigurationError):
            door(client)
        assert server.requests == []


@pytest.mark.skipif(os.name != "posix", reason="file names are texts elsewhere")
def test_a_file_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "wb") as file:
        file.write(b"x")
    with pytest.raises(ConfigurationError, match="The name of a file has half a surrogate"):
        read_uploads([os.fsdecode(path)])


@pytest.mark.parametrize("score", [True, 1.0, "1", 2, None])
def test_a_vote_is_a_whole_number(score: Any) -> None:
    with (
        H2oSession("http://chat.example") as client,
        pytest.raises(ConfigurationError, match="Pass 1, 0 or -1"),
    ):
        client.conversation("a" * 24).vote(score, "b")
