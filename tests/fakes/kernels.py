"""A real Jupyter kernel, used like by a front end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

from local_service import PATIENCE

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


@dataclass
class Ran:
    """The outputs of a cell."""

    status: str
    shown: list[dict[str, str]]  # each display in its latest state
    drawings: int
    printed: str
    error: list[str]  # the traceback, line by line


@dataclass
class _Outputs:
    shown: list[tuple[str | None, dict[str, str]]] = field(default_factory=list)
    drawings: int = 0
    printed: str = ""
    error: list[str] = field(default_factory=list)

    def take(self, kind: str, content: dict[str, Any]) -> None:
        if kind in ("display_data", "execute_result"):
            self.shown.append((content.get("transient", {}).get("display_id"), content["data"]))
        elif kind == "update_display_data":
            drawn = content["transient"]["display_id"]
            self.shown = [
                (each, content["data"] if each == drawn else data) for each, data in self.shown
            ]
            self.drawings += 1
        elif kind == "stream":
            self.printed += content["text"]
        elif kind == "error":
            self.error = list(content["traceback"])


class Kernel:
    """Runs cells. ``watch`` is called with the shown output at each change.

    ``connection_file``: its name is like a front end's; otherwise like that of another program.
    """

    def __init__(self, connection_file: str = "") -> None:
        self._connection_file = connection_file

    def __enter__(self) -> Self:
        self._manager = KernelManager(kernel_name="python3", connection_file=self._connection_file)
        self._manager.start_kernel(env={**os.environ, "IPYTHON_SUPPRESS_CONFIG_ERRORS": "1"})
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Shut the kernel down like a front end, and wait for its end."""
        if self._manager.has_kernel:
            self._client.stop_channels()
            self._manager.shutdown_kernel()
            self._manager.cleanup_resources()

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def run(self, code: str, *, watch: Callable[[str], object] = bool) -> Ran:
        asked = self._client.execute(code)
        outputs = _Outputs()
        end = time.monotonic() + PATIENCE
        while True:
            message = self._client.get_iopub_msg(timeout=end - time.monotonic())
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                break
            outputs.take(kind, content)
            watch(outputs.printed + "".join(each["text/plain"] for _, each in outputs.shown))
        reply: dict[str, Any] = {}
        while reply.get("parent_header", {}).get("msg_id") != asked:
            reply = self._client.get_shell_msg(timeout=end - time.monotonic())
        return Ran(
            status=reply["content"]["status"],
            shown=[data for _, data in outputs.shown],
            drawings=outputs.drawings,
            printed=outputs.printed,
            error=outputs.error,
        )
