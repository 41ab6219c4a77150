"""Answers that the server may not have stored yet. The next message has to wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from h2o_client.timeouts import monotonic
from h2o_client.transport.locks import Guard

if TYPE_CHECKING:
    from h2o_client.backend.background_reader import BackgroundResponse

_MOST_REMEMBERED = 1000


class UnstoredAnswer(msgspec.Struct, frozen=True):
    """An answer that the server may not have stored yet.

    ``answer_id`` is None if the server chooses it; then the answer is the last message, unless that
    is still ``former``. ``left`` means that the model may still be generating it. ``response`` is
    read in the background if only its end shows that the server is done. ``seconds`` is the time to
    wait for the answer.
    """

    answer_id: str | None
    seconds: float
    marked_until: float = 0.0
    former: str | None = None
    left: bool = False
    response: BackgroundResponse | None = None


class UnstoredAnswers:
    """The unstored answers of one session, by conversation. Threads may share it."""

    def __init__(self) -> None:
        self._guard = Guard()  # guards both dicts
        self._answers: dict[str, UnstoredAnswer] = {}
        # By conversation: the time until which a late stop may end the next answer.
        self._late_stops: dict[str, float] = {}

    def put(self, conversation_id: str, answer: UnstoredAnswer) -> None:
        """Remember an answer, and forget the oldest ones if there are too many."""
        with self._guard:
            self._answers[conversation_id] = answer
            while len(self._answers) > _MOST_REMEMBERED:
                del self._answers[next(iter(self._answers))]

    def get(self, conversation_id: str) -> UnstoredAnswer | None:
        """What to wait for: an answer, or the time in which a late stop has an effect."""
        with self._guard:
            answer = self._answers.get(conversation_id)
            marked_until = self._late_stops.get(conversation_id, 0.0)
        if answer is None and marked_until > monotonic():
            return UnstoredAnswer(None, 0.0, marked_until)
        return answer

    def remove(self, conversation_id: str) -> UnstoredAnswer | None:
        """Forget an answer, and return it if there was one. Late stops are remembered."""
        with self._guard:
            return self._answers.pop(conversation_id, None)

    def note_late_stop(self, conversation_id: str, until: float) -> None:
        """Note that a late stop request may end the next answer, up to the time ``until``."""
        now = monotonic()
        with self._guard:
            expired = [each for each, end in self._late_stops.items() if end < now]
            for each in expired:
                del self._late_stops[each]
            self._late_stops[conversation_id] = until

    def forget_late_stop(self, conversation_id: str) -> None:
        """No stop will end the next answer in a conversation."""
        with self._guard:
            self._late_stops.pop(conversation_id, None)

    def forget(self) -> None:
        """Forget all answers in a forked child: the parent waits for them."""
        self._guard = Guard()  # another thread of the parent may have held it
        self._answers = {}
