from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.wire.lines import LineSplitter
from h2o_client.wire.sse import field, write_comment, write_event


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (b"data:{}", b"data", b"{}"),
        (b"data: {}", b"data", b"{}"),
        (b"data:  {}", b"data", b" {}"),  # one space belongs to the field, the next to the value
        (b"data:\t{}", b"data", b"\t{}"),
        (b"data:", b"data", b""),
        (b"data: ", b"data", b""),
        (b"data", b"data", b""),
        (b"data: a:b", b"data", b"a:b"),
        (b"data:[DONE]", b"data", b"[DONE]"),
        (b"event: update", b"event", b"update"),
        (b"id: 7", b"id", b"7"),
        (b"retry:3000", b"retry", b"3000"),
        (b": heartbeat", b"", b"heartbeat"),
        (b":", b"", b""),
        (b" data: x", b" data", b"x"),
        (b"DATA: x", b"DATA", b"x"),
    ],
)
def test_a_line_is_a_name_and_a_value(line: bytes, name: bytes, value: bytes) -> None:
    assert field(line) == (name, value)


def test_an_event_is_written_with_its_fields_and_a_blank_line() -> None:
    assert write_event(b"{}") == b"data:{}\n\n"
    assert write_event(b"{}", event="update", id="7") == b"id: 7\nevent: update\ndata:{}\n\n"


def test_data_of_several_lines_is_written_as_several_fields() -> None:
    assert write_event(b"a\nb") == b"data:a\ndata:b\n\n"


def test_a_comment_is_an_event_without_data() -> None:
    assert write_comment() == b":\n\n"
    assert write_comment("heartbeat") == b":heartbeat\n\n"


@given(
    st.binary().filter(lambda data: b"\r" not in data),
    st.text("abc:", max_size=3),
    st.text("012", max_size=3),
)
def test_what_is_written_can_be_read(data: bytes, event: str, id: str) -> None:
    # Readers remove one space, so a writer of such data would have to add one.
    data = b"\n".join(line.lstrip(b" ") for line in data.split(b"\n"))
    lines = LineSplitter(carriage_returns=True).feed(write_event(data, event=event, id=id))
    assert lines.pop() == b""
    fields = [field(line) for line in lines]
    assert b"\n".join(value for name, value in fields if name == b"data") == data
    heads = {name: value for name, value in fields if name != b"data"}
    expected = {b"id": id.encode(), b"event": event.encode()}
    assert heads == {name: value for name, value in expected.items() if value}
