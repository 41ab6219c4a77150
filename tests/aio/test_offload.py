"""The pace at which threads are started."""

from __future__ import annotations

import math

import anyio
import pytest

from h2o_client.aio import offload
from h2o_client.aio.offload import Pace
from local_service import PATIENCE

pytestmark = pytest.mark.anyio


async def test_a_thread_that_has_not_begun_delays_the_next_one_briefly() -> None:
    pace = Pace(1, 0.001)
    first, second = await pace.wait(), await pace.wait()
    assert second.at - first.at >= 0.1


async def test_a_thread_starts_as_soon_as_the_previous_one_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offload, "_STARTED_WITHIN", math.inf)
    pace = Pace(1, 0.001)
    with anyio.fail_after(PATIENCE):
        (await pace.wait()).has_begun = True
        await pace.wait()
