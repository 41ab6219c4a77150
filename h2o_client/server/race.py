"""Wait for one coroutine, unless another one ends first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class Overtaken(Exception):
    """Another coroutine ended first: the one with the index ``by``."""

    def __init__(self, by: int) -> None:
        super().__init__(by)
        self.by = by


async def unless(
    work: Coroutine[Any, Any, _Result], *others: Coroutine[Any, Any, object]
) -> _Result:
    """Return the result of ``work``. If another one ends first, cancel it and raise `Overtaken`."""
    done = asyncio.ensure_future(work)
    ends = [asyncio.ensure_future(each) for each in others]
    try:
        await asyncio.wait((done, *ends), return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        raise Overtaken(next(place for place, each in enumerate(ends) if each.done()))
    finally:
        for task in (done, *ends):
            task.cancel()
        await asyncio.gather(done, *ends, return_exceptions=True)
