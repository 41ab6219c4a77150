from __future__ import annotations

import asyncio

import pytest

from h2o_client.server.race import Overtaken, unless


async def after(steps: int, result: str = "") -> str:
    for _ in range(steps):
        await asyncio.sleep(0)
    return result


def test_the_works_result_is_returned_if_it_is_first() -> None:
    assert asyncio.run(unless(after(1, "done"), after(9), after(9))) == "done"


@pytest.mark.parametrize("first", [0, 1])
def test_the_position_of_the_first_to_end_is_reported(first: int) -> None:
    others = [after(1 if place == first else 9) for place in range(2)]
    with pytest.raises(Overtaken) as caught:
        asyncio.run(unless(after(9), *others))
    assert caught.value.by == first


def test_the_work_s_failure_is_raised() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(unless(fail(), after(9)))


def test_the_others_are_cancelled() -> None:
    cancelled = []

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(name)

    with pytest.raises(Overtaken):
        asyncio.run(unless(forever("work"), after(2), forever("other")))
    assert sorted(cancelled) == ["other", "work"]
