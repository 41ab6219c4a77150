"""Elicitations: questions of a tool to the user, and the user's answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from h2o_client.errors import ConfigurationError, ElicitationClosedError, TransportError
from h2o_client.transport.call import Call

if TYPE_CHECKING:
    from h2o_client.backend.api_client import ApiClient
    from h2o_client.dialects.dialect import Dialect
    from h2o_client.timeouts import Timeouts
    from h2o_client.wire.transcript import Transcript


class Elicitations:
    """The elicitations of one answer.

    ``answered`` is the id of an elicitation that was answered after its stream had ended: the next
    message has to name it so that the server continues the answer. "" if there is none.
    """

    def __init__(
        self,
        api: ApiClient,
        dialect: Dialect,
        conversation_id: str,
        transcript: Transcript,
        timeouts: Timeouts,
    ) -> None:
        self.answered: str = ""
        self._api = api
        self._dialect = dialect
        self._conversation_id = conversation_id
        self._transcript = transcript
        self._timeouts = timeouts
        # Elicitations whose answer was sent, but the response was lost.
        self._may_be_answered: set[str] = set()

    def answer(
        self,
        action: str,
        content: Mapping[str, object] | None,
        elicitation_id: str | None,
        *,
        has_finished: bool,
    ) -> None:
        """Send the user's answer. ``has_finished``: the stream of the answer has ended.

        Raises as `ApiClient.fetch`, and `ConfigurationError` if no elicitation is open.
        """
        waiting = self._transcript.elicitation
        meant = elicitation_id or (waiting.id if waiting is not None else None)
        if meant is None:
            raise ConfigurationError("No tool has an open question to the user")
        request = self._dialect.answer_elicitation(self._conversation_id, meant, action, content)
        try:
            if self._api.fetch(request, Call(self._timeouts)):
                self.answered = meant
        except TransportError:
            self._may_be_answered.add(meant)
            raise
        except ElicitationClosedError:
            # It was closed by an earlier attempt whose response was lost, or by another client.
            if meant not in self._may_be_answered:
                self._close(meant)
                raise
            self.answered = meant if has_finished else ""
        self._close(meant)

    def take_answered(self) -> str:
        """Return the elicitation that the next message has to name, and forget it."""
        answered, self.answered = self.answered, ""
        return answered

    def _close(self, elicitation_id: str) -> None:
        waiting = self._transcript.elicitation
        if waiting is not None and waiting.id == elicitation_id:
            self._transcript.elicitation = None
