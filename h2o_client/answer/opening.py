"""How a face opens an answer: in two steps, so that it can be ended before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from h2o_client.answer.steps import AnswerSteps
    from h2o_client.answer.stream import AnswerStream


class Opening(msgspec.Struct, frozen=True):
    """A prompt that is about to be sent, and its answer, which can be stopped and ended already.

    ``send`` sends the prompt. It returns when the head of the answer is there, or the answer was
    stopped, and raises what a prompt raises.
    """

    stream: AnswerStream
    send: Callable[[], AnswerSteps]
