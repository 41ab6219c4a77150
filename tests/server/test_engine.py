from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from h2o_client.errors import GenerationError
from h2o_client.server import EngineFailure, Turn
from h2o_client.server.engine import prompt_of
from h2o_client.wire.events import Final, Token

TURNS = [Turn("user", "Hi"), Turn("assistant", "Hello"), Turn("user", "Bye")]


class Silent:
    """An engine without an answer."""

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        return iter([Final()])


class Templated(Silent):
    def prompt(self, turns: Sequence[Turn], parameters: Mapping[str, object]) -> str:
        return " / ".join(turn.content for turn in turns)


def test_an_engine_without_a_template_gets_its_prompt_in_h2ogpts_format() -> None:
    assert prompt_of(Silent(), TURNS, {}) == (
        "<|prompt|>Hi<|endoftext|><|answer|>Hello<|endoftext|><|prompt|>Bye<|endoftext|><|answer|>"
    )


def test_the_system_prompt_is_the_first_part_of_the_prompt() -> None:
    prompt = prompt_of(Silent(), [Turn("system", "Be brief"), *TURNS], {})
    assert prompt.startswith("<|system|>Be brief<|endoftext|><|prompt|>Hi")


def test_an_engines_template_has_priority() -> None:
    assert prompt_of(Templated(), TURNS, {}) == "Hi / Hello / Bye"


def test_an_engines_failure_is_a_generation_error_with_retry_after() -> None:
    failure = EngineFailure("loading", error_type="overloaded", status=503, retry_after=2)
    assert isinstance(failure, GenerationError)
    assert (failure.said, failure.status, failure.retry_after) == ("loading", 503, 2)
