"""`Opening`: a prompt that has not been sent yet, and its answer, which can already be ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from h2o_client.answer.steps import AnswerSteps
    from h2o_client.answer.stream import AnswerStream


class Opening(msgspec.Struct, frozen=True):
    """A prompt that is about to be sent. Its answer can already be stopped and ended.

    ``send`` sends the prompt. It returns when the response headers have arrived or the answer was
    stopped, and raises the same errors as `H2oSession.stream`.
    """

    stream: AnswerStream
    send: Callable[[], AnswerSteps]
