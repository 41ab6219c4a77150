"""Collect the answer to a prompt whose connection broke, or whose program was killed.

The answer is read from the server. The prompt is sent again only if the server certainly does not
have it, or has failed to answer it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from h2o_client.answer.steps import Answer
from h2o_client.errors import (
    GenerationError,
    IncompleteAnswerError,
    NotFoundError,
    UnsupportedError,
)
from h2o_client.log import log

if TYPE_CHECKING:
    from h2o_client.aio.session import AsyncH2oSession
    from h2o_client.answer.found_answer import FoundAnswer

_RETRY_AFTER = (0.0, 0.5, 1.0)  # seconds before each new request for a message that is missing
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 3.0


class Missing(Enum):
    """What the server does not have: the prompt, or an answer, and never will."""

    PROMPT = auto()
    ANSWER = auto()


async def collect(
    session: AsyncH2oSession, conversation_id: str, patience: Callable[[], float]
) -> Answer | Missing:
    """Return the answer to the only prompt in a conversation, or what is missing.

    ``patience`` returns how many more seconds to wait for the answer. Raises `H2oError` if the
    conversation cannot be read.
    """
    waits, pause = iter(_RETRY_AFTER), _FIRST_PAUSE
    while True:
        try:
            found = await session._find_answer(conversation_id)
        except NotFoundError:
            return Missing.PROMPT
        if found.text is not None:
            return _answer(found, conversation_id)
        if found.failure is not None:
            return Missing.ANSWER
        if found.resume_token is not None:
            return await _resume(session, found)
        if not found.is_taken and found.is_certain:
            wait = next(waits, None)
            if wait is None:
                return Missing.PROMPT
            await asyncio.sleep(wait)
            continue
        left = patience()
        if left <= 0:
            return Missing.ANSWER
        await asyncio.sleep(min(pause, left))
        pause = min(_LONGEST_PAUSE, 1.5 * pause)


async def _resume(session: AsyncH2oSession, found: FoundAnswer) -> Answer | Missing:
    assert found.resume_token is not None
    reply = session.resume(found.resume_token, position=0)
    try:
        return await reply.read()
    except (IncompleteAnswerError, GenerationError, UnsupportedError) as exc:
        log.info("the answer of an earlier run is not on the server: %s", exc)
        return Missing.ANSWER
    except asyncio.CancelledError:
        # The batch was stopped: the next run tries again.
        await reply.leave()
        raise


def _answer(found: FoundAnswer, conversation_id: str) -> Answer:
    return Answer(
        text=found.text or "",
        finish_reason="stop",
        model=found.model,
        conversation_id=conversation_id,
        message_id=found.message_id,
        title=found.title,
    )
