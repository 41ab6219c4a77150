"""Show an answer that grows in place, or print its tokens if the front end cannot update.

A background thread reads the answer, and the cell's thread draws it. So an interrupt of the kernel
never interrupts the reading, and text is drawn even while the answer pauses.
"""

from __future__ import annotations

import asyncio
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from IPython.core.getipython import get_ipython
from IPython.display import DisplayHandle, display

from h2o_client.errors import H2oError
from h2o_client.notebook import display as rich_display
from h2o_client.notebook.plain_text import as_one_line, shown

if TYPE_CHECKING:
    from h2o_client.aio.reply import AsyncReply
    from h2o_client.answer.reply import Reply

_LEAST_PAUSE = 0.1  # seconds between two drawings
_SHARE = 9  # a pause is at least this many times as long as the drawing before it
_MOST_SENT = 300_000  # characters a second; Jupyter servers drop more than 1 MB
_STOPPED_WITHIN = 2.0  # seconds to wait for the end after a stop, which takes at most 1.5

# The Jupyter console and the Qt console do not support updates. A kernel does not know its front
# end, but the consoles name its connection file by their process number, servers by a UUID.
_OF_A_CONSOLE = re.compile(r"\bkernel-\d+\.json$")
STOPPED = "The answer was stopped. Its text so far is kept."
_NO_UPDATES = "The answer appears here. If your front end does not show it, use print(_.text)."
_HINT = (
    "{reply!r}: reading the reply sends the prompt.\n"
    "    async for token in reply: ...    # token by token\n"
    "    answer = await reply.read()      # the whole answer"
)


def show(reply: Reply) -> None:
    """Display a reply, as the last expression of a cell, until it has ended."""
    if reply.finish_reason is not None:
        display(rich_display.of_reply(reply), raw=True)
        return
    try:
        follow(reply)
    except KeyboardInterrupt as interrupt:
        _leave_displayhook()
        raise as_one_line(interrupt) from None
    except H2oError as error:
        _leave_displayhook()
        _fail_the_cell(as_one_line(error))


def follow(reply: Reply) -> None:
    """Show an answer as it arrives, and return at its end. Raises the errors of the reply.

    An interrupt stops the answer: its text stays, and KeyboardInterrupt is raised, which IPython
    shows without a traceback.
    """
    if _can_update():
        _draw(reply)
    else:
        _print(reply)


def show_async(reply: AsyncReply) -> None:
    """Display an async reply: a task in the running event loop reads it.

    If it is already being read, show its text so far. Without a notebook's event loop, show how to
    read it.
    """
    if reply.model or not _can_update() or (loop := _running_loop()) is None:
        bundle = (
            rich_display.of_reply(reply)
            if reply.model
            else {"text/plain": _HINT.format(reply=reply)}
        )
        display(bundle, raw=True)
        return
    task = loop.create_task(_draw_async(reply, Drawing()))
    _tasks.add(task)  # the loop itself holds tasks only weakly
    task.add_done_callback(_tasks.discard)


_tasks: set[asyncio.Task[None]] = set()


class Drawing:
    """A display that is redrawn. ``pause``: seconds to wait before the next drawing."""

    def __init__(self) -> None:
        self.pause: float = _LEAST_PAUSE
        first = {"text/html": "<div>…</div>", "text/plain": _NO_UPDATES}
        self._drawn: rich_display.Bundle = {}
        handle = display(first, raw=True, display_id=True)
        assert isinstance(handle, DisplayHandle)
        self._handle = handle

    def draw(self, reply: Reply | AsyncReply, note: str = "") -> None:
        """Show the text so far, if it has changed."""
        begun = time.monotonic()
        bundle = rich_display.of_reply(reply, note=note)
        if bundle == self._drawn:
            return
        self._handle.update(bundle, raw=True)
        self._drawn = bundle
        took = time.monotonic() - begun
        size = sum(map(len, bundle.values()))
        self.pause = max(_LEAST_PAUSE, _SHARE * took, size / _MOST_SENT)


class _Reading:
    """A thread that reads a reply to its end, and then sets ``over``."""

    def __init__(self, reply: Reply) -> None:
        self.over = threading.Event()
        self.error: BaseException | None = None
        self._reply = reply
        threading.Thread(target=self._run, name="h2o-notebook", daemon=True).start()

    def _run(self) -> None:
        try:
            for _ in self._reply:
                pass
        except BaseException as exc:
            self.error = exc
        finally:
            self.over.set()

    def stop(self) -> None:
        """Stop the answer as `Reply.stop` does, and close the reply.

        A further interrupt skips the wait for the end of the answer.
        """
        with interrupts_noted() as again:
            try:
                self._reply.stop()
                self._wait(again)
            finally:
                self._reply.close()
            self._wait(again)

    def _wait(self, again: threading.Event) -> None:
        end = time.monotonic() + _STOPPED_WITHIN
        while not again.is_set() and time.monotonic() < end:
            if self.over.wait(_LEAST_PAUSE):
                break


def _draw(reply: Reply) -> None:
    drawing = Drawing()
    reading = _Reading(reply)
    try:
        while not reading.over.wait(drawing.pause):
            drawing.draw(reply, "answering …")
    except KeyboardInterrupt:
        with interrupts_noted():
            reading.stop()
            drawing.draw(reply)
        raise as_one_line(KeyboardInterrupt(STOPPED)) from None
    except BaseException:
        reply.close()
        raise
    drawing.draw(reply)
    if reading.error is not None:
        raise reading.error


def _print(reply: Reply) -> None:
    last = "\n"
    try:
        for token in reply:
            last = shown(token)
            print(last, end="", flush=True)
    except KeyboardInterrupt:
        with interrupts_noted():
            reply.close()
        raise as_one_line(KeyboardInterrupt(STOPPED)) from None
    finally:
        if not last.endswith("\n"):
            print(flush=True)


async def _draw_async(reply: AsyncReply, drawing: Drawing) -> None:
    reading = asyncio.ensure_future(reply.read())
    try:
        while not (await asyncio.wait([reading], timeout=drawing.pause))[0]:
            drawing.draw(reply, "answering … (await _.stop() ends it)")
    except asyncio.CancelledError:
        reading.cancel()
        raise
    error = None if reading.cancelled() else reading.exception()
    drawing.draw(reply, str(error or ""))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _can_update() -> bool:
    """Whether there is a kernel whose front end can update a display."""
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return False
    connection = str(shell.config.get("IPKernelApp", {}).get("connection_file", ""))
    return _OF_A_CONSOLE.search(connection) is None


def _leave_displayhook() -> None:
    # Otherwise ipykernel would assume that the display has not ended, and assign the errors of
    # later cells to it.
    hook = getattr(get_ipython(), "displayhook", None)
    if hook is not None and getattr(hook, "msg", None) is not None:
        with interrupts_noted():  # this waits until the outputs are sent
            hook.finish_displayhook()


def _fail_the_cell(error: H2oError) -> None:
    # If a display raised an error, IPython would also show the object's repr and treat the cell as
    # successful, so that the next cell would run.
    shell = get_ipython()
    if shell is None:
        raise error
    shell.showtraceback((type(error), error, error.__traceback__))
    result = getattr(shell.displayhook, "exec_result", None)
    if result is not None:
        result.error_in_exec = error


@contextmanager
def interrupts_noted() -> Iterator[threading.Event]:
    """Within the block, an interrupt sets the event instead of raising KeyboardInterrupt."""
    again = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield again  # interrupts occur only in the main thread
        return
    former = signal.signal(signal.SIGINT, lambda *_: again.set())
    try:
        yield again
    finally:
        signal.signal(signal.SIGINT, former or signal.default_int_handler)
