"""A request together with the reader of its response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from h2o_client.wire.request import Request

T = TypeVar("T")
U = TypeVar("U")


class Endpoint(msgspec.Struct, Generic[T], frozen=True):
    """A request, and how the body of a successful response is read.

    ``read`` raises ValueError for a body it does not understand, `Refused` and `Moved` for what a
    page says inside an HTTP 200.
    """

    request: Request
    read: Callable[[bytes], T]

    def then(self, take: Callable[[T], U]) -> Endpoint[U]:
        """The same request, for a part of what it returns."""
        return Endpoint(self.request, lambda body: take(self.read(body)))


class Refused(Exception):
    """A page that failed, inside an HTTP 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Moved(Exception):
    """A page that is elsewhere, inside an HTTP 200: usually a login."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(location)
        self.status = status
        self.location = location
