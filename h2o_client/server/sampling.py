"""Check sampling parameters like text-generation-inference. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec

from h2o_client.server.engine import EngineFailure
from h2o_client.wire import json


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """The checked parameters; None for those that were not given."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None
    truncate: int | None = None
    seed: int | None = None
    do_sample: bool | None = None
    return_full_text: bool | None = None
    stop: tuple[str, ...] = ()

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always chosen.

        ``do_sample`` decides. If it is not given, any sampling parameter turns sampling on.
        """
        if self.do_sample is not None:
            return not self.do_sample
        return (self.temperature, self.top_p, self.top_k, self.typical_p) == (None,) * 4


def read_sampling(parameters: Mapping[str, object]) -> Sampling:
    """Check the parameters, and ignore unknown names and null values.

    Raises `EngineFailure` with status 422 for values that text-generation-inference refuses.
    """
    given: dict[str, object] = {}
    for name, read in _READERS.items():
        value = parameters.get(name)
        if value is not None:
            given[name] = read(name, value)
    return json.convert(given, Sampling)


def refused(said: str) -> EngineFailure:
    """The refusal of an invalid request, in the format of text-generation-inference."""
    return EngineFailure(f"Input validation error: {said}", error_type="validation", status=422)


_Reader = Callable[[str, object], object]
_LARGEST = 2**31 - 1


def _number(limit: float = math.inf) -> _Reader:
    must = "be strictly positive" if limit == math.inf else f"be > 0.0 and <= {limit}"

    def read(name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise refused(f"`{name}` must be a number")
        if not (0 < value <= limit and value < math.inf):  # NaN fails this, too
            raise refused(f"`{name}` must {must}")
        return float(value)

    return read


def _integer(least: int) -> _Reader:
    must = "strictly positive" if least else "positive"

    def read(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise refused(f"`{name}` must be an integer")
        if value < least:
            raise refused(f"`{name}` must be {must}")
        return min(value, _LARGEST)

    return read


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise refused(f"`{name}` must be true or false")
    return value


def _texts(name: str, value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise refused(f"`{name}` must be a list of strings")
    return [each for each in texts if each]


_READERS: Mapping[str, _Reader] = {
    "temperature": _number(),
    "top_p": _number(1.0),
    "top_k": _integer(0),
    "typical_p": _number(1.0),
    "repetition_penalty": _number(),
    "max_new_tokens": _integer(1),
    "truncate": _integer(1),
    "seed": _integer(0),
    "do_sample": _flag,
    "return_full_text": _flag,
    "stop": _texts,
}
