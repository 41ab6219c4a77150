from __future__ import annotations

import pytest

from h2o_client.wire.request import Request, delete, get, post, post_form, post_json

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (get("/a"), Request(method="GET", path="/a", safe=True)),
        (post("/a"), Request(method="POST", path="/a")),
        (delete("/a"), Request(method="DELETE", path="/a", safe=True)),
        (
            post_json("/a", {"b": "ü", "c": [1, None]}),
            Request(
                method="POST", path="/a", body='{"b":"ü","c":[1,null]}'.encode(), content_type=JSON
            ),
        ),
        (
            post_json("/a", {}, accept="*/*"),
            Request(method="POST", path="/a", body=b"{}", content_type=JSON, accept="*/*"),
        ),
        (
            post_form("/a", [("b", "ü &"), ("b", "")]),
            Request(method="POST", path="/a", body=b"b=%C3%BC+%26&b=", content_type=FORM),
        ),
        (
            post_form("/a", [], safe=True),
            Request(method="POST", path="/a", body=b"", content_type=FORM, safe=True),
        ),
    ],
    ids=repr,
)
def test_requests_are_compared_by_value(request_: Request, expected: Request) -> None:
    assert request_ == expected


def test_json_is_accepted_by_default() -> None:
    # Without it the errors of every version are HTML pages.
    assert get("/a").accept == post("/a").accept == post_json("/a", {}).accept == JSON


def test_the_repr_of_a_request_lacks_its_body() -> None:
    assert str(post_json("/a", {"secret": 1})) == "POST /a"
