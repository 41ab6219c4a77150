"""One interface to the blocking and the async API, for tests of both."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cutting import Cut
from fake_checks import MESSAGE
from local_service import Request

LOG = re.compile(r"/conversation/[^/]+/stream")


class Way:
    """A connection with faults: the responses to messages and to requests for a log, in turn."""

    def __init__(
        self, messages: Sequence[Cut | None] = (), logs: Sequence[Cut | None] = ()
    ) -> None:
        self._messages, self._logs = list(messages), list(logs)

    def __call__(self, request: Request) -> Cut | None:
        if request.method == "POST" and MESSAGE.fullmatch(request.path):
            return self._messages.pop(0) if self._messages else None
        if LOG.fullmatch(request.path):
            return self._logs.pop(0) if self._logs else None
        return None
