"""The pace at which threads are started."""

from __future__ import annotations

import math

import anyio
import pytest

from h2o_client.aio import offload
from h2o_client.aio.offload import Pace
from local_service import PATIENCE

pytestmark = pytest.mark.anyio


async def test_a_thread_that_has_not_begun_holds_the_next_one_up_for_a_moment() -> None:
    pace = Pace(1, 0.001)
    first, second = await pace.turn(), await pace.turn()
    assert second.taken_at - first.taken_at >= 0.1


async def test_a_thread_starts_as_soon_as_the_one_before_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offload, "_BEGUN_WITHIN", math.inf)
    pace = Pace(1, 0.001)
    with anyio.fail_after(PATIENCE):
        (await pace.turn()).has_begun = True
        await pace.turn()
