"""The fuzz target, run on these inputs without atheris."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoder import ENDPOINTS, TARGETS, check
from recordings import recording

INPUTS = (
    b"",
    b'data:{"token":{"text":"a"}}\n\ndata:{"generated_text":""}\n\n',
    b'{"type":"stream","token":"\\ud83e"}\n{"type":"finalAnswer","text":"x"}\n',
    b'[{"generated_text":"all"}]',
    b"4\r\nabcd\r\n0\r\n\r\n",
    b'{"type":"data","nodes":[{"type":"data","data":[{"a":1},2]}]}',
    b'{"json":{"a":1},"meta":{"values":{"a":["Date"]}}}',
    b'{"message":"no"}',
    b"[" * 100_000,
    b"\xff\xfe\x00",
)


@pytest.mark.parametrize("target", range(len(TARGETS)), ids=[each.__name__ for each in TARGETS])
@pytest.mark.parametrize("data", INPUTS, ids=range(len(INPUTS)))
def test_the_fuzz_target_takes_what_it_is_given(data: bytes, target: int) -> None:
    for cut in (0, 3, 255):
        check(bytes([target, cut]) + data)


def test_every_document_of_every_era_is_fuzzed() -> None:
    assert len(ENDPOINTS) > 30
    for place in range(len(ENDPOINTS)):
        check(bytes([5, place]) + b'{"conversationId":"x"}')


@pytest.mark.parametrize("name", ["v0.4-message-1", "v0.7-content-unicode", "HEAD-content-unicode"])
def test_real_answers_pass_the_fuzz_target(name: str) -> None:
    for cut in (0, 6, 200):
        check(bytes([0, cut]) + recording(name).payload)


@given(st.binary(max_size=200))
def test_any_input_passes_the_fuzz_target(data: bytes) -> None:
    check(data)
