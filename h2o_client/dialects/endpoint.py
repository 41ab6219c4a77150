"""A request, together with the function that parses its response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from h2o_client.wire.request import Request

T = TypeVar("T")
U = TypeVar("U")


class Endpoint(msgspec.Struct, Generic[T], frozen=True):
    """A request, and a function that reads the body of a successful response.

    ``read`` raises ValueError for a body that it does not understand. It raises `Refused` or
    `Moved` if a page reports this in a response with status 200.
    """

    request: Request
    read: Callable[[bytes], T]

    def then(self, take: Callable[[T], U]) -> Endpoint[U]:
        """The same request. ``take`` converts its result."""
        return Endpoint(self.request, lambda body: take(self.read(body)))


class Refused(Exception):
    """A response with status 200 says that the page failed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Moved(Exception):
    """A response with status 200 redirects to another page, usually to a login."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(location)
        self.status = status
        self.location = location
