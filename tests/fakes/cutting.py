"""A breakable connection to a server: it is cut, reset or stalled at any byte of an answer."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from local_service import PATIENCE, LocalService, Request, Wire, read_request
from scripted import header_lines

How = Literal["end", "reset", "stall", "lost"]


@dataclass(frozen=True)
class Cut:
    """How many bytes of an answer pass. "lost" also drops the request."""

    at: int
    how: How = "end"


class BreakingPath(LocalService):
    """A proxy for ``port``. ``plan`` gives for each request where its answer is cut."""

    def __init__(
        self, port: int, plan: Callable[[Request], Cut | None], *, patience: float = PATIENCE
    ) -> None:
        super().__init__(patience=patience)
        self.target = port
        self.plan = plan
        self.log: list[Request] = []
        self.passed = 0  # bytes of the answers to cut

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, wire: Wire, number: int) -> None:
        there = self.wire(socket.create_connection(("127.0.0.1", self.target), self.patience))
        try:
            while request := read_request(wire, number, self.patience):
                with self.changed:
                    self.log.append(request)
                    self.changed.notify_all()
                cut = self.plan(request)
                if cut is not None and cut.how == "lost":
                    wire.rst()
                    return
                there.send(self._as_sent(request))
                if not self._pass_back(there, wire, cut):
                    return
        finally:
            there.close()

    def _as_sent(self, request: Request) -> bytes:
        own, other = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.target}"
        headers = header_lines(list(request.headers.items())).replace(own, other)
        head = f"{request.method} {request.target} HTTP/1.1\r\n{headers}\r\n"
        return head.encode("latin-1") + request.body

    def _pass_back(self, there: Wire, wire: Wire, cut: Cut | None) -> bool:
        """Forward an answer until the client sends data. Return False if the connection broke."""
        passed = 0
        while True:
            ready, _, _ = select.select([there.sock, wire.sock], [], [], self.patience)
            if wire.sock in ready:
                return True
            if there.sock not in ready or not there.more(self.patience):
                wire.fin()
                return False
            data = there.take()
            left = len(data) if cut is None else max(0, cut.at - passed)
            passed += len(data)
            if data[:left]:
                wire.send(data[:left])
            if cut is None:
                continue
            self.passed += len(data)
            if passed >= cut.at and cut.how != "stall":
                wire.rst() if cut.how == "reset" else wire.fin()
                return False
