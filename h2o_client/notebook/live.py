"""An answer that grows in place while it comes, where the front end can; else tokens, printed.

A thread reads, and the thread that runs the cell draws: an interrupt of the kernel then never hits
the reading, and the last words of an answer that pauses are drawn too.
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
from h2o_client.notebook.plain_text import in_a_sentence, shown

if TYPE_CHECKING:
    from h2o_client.aio.reply import AsyncReply
    from h2o_client.answer.reply import Reply

_PACE = 0.1  # seconds from one drawing to the next,
_SHARE = 9  # times as long as it takes at least,
_MOST_SENT = 300_000  # and not more than these characters a second: servers drop what exceeds 1 MB
_LAST_WORDS = 2.0  # seconds that an answer is given to end after a stop; it takes 1.5 at most

# Jupyter's console and the Qt console take no updates. A kernel is not told who shows what it
# sends, but they name the file that it connects by after their process, and servers after a UUID.
_OF_A_CONSOLE = re.compile(r"\bkernel-\d+\.json$")
STOPPED = "The answer was stopped. What came before is kept."
_NO_UPDATES = "The answer is being shown here. Where it is not, print(_.text) shows it."
_HINT = (
    "{reply!r}: the prompt is sent when the reply is read.\n"
    "    async for token in reply: ...    # as it comes\n"
    "    answer = await reply.read()      # the whole answer"
)


def show(reply: Reply) -> None:
    """Displays a reply, as the last expression of a cell, until it has ended."""
    if reply.finish_reason is not None:
        display(rich_display.of_reply(reply), raw=True)
        return
    try:
        follow(reply)
    except KeyboardInterrupt as interrupt:
        _leave_displayhook()
        raise in_a_sentence(interrupt) from None
    except H2oError as error:
        _leave_displayhook()
        _fail_the_cell(in_a_sentence(error))


def follow(reply: Reply) -> None:
    """Shows an answer as it comes, and returns at its end. Raises what breaks it off.

    An interrupt stops it: what had come stays, and KeyboardInterrupt goes on, with no traceback.
    """
    if _can_update():
        _draw(reply)
    else:
        _print(reply)


def show_async(reply: AsyncReply) -> None:
    """Displays a reply that only a coroutine can read: a task of the running loop does.

    One that is being read already is shown as far as it has come; without a notebook's event loop
    a hint on how to read it is.
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
    """One display, drawn again and again. ``pause``: how long to wait until the next time."""

    def __init__(self) -> None:
        self.pause: float = _PACE
        first = {"text/html": "<div>…</div>", "text/plain": _NO_UPDATES}
        self._drawn: rich_display.Bundle = {}
        handle = display(first, raw=True, display_id=True)
        assert isinstance(handle, DisplayHandle)
        self._handle = handle

    def draw(self, reply: Reply | AsyncReply, note: str = "") -> None:
        """Shows what has come, if that is more than before."""
        begun = time.monotonic()
        bundle = rich_display.of_reply(reply, note=note)
        if bundle == self._drawn:
            return
        self._handle.update(bundle, raw=True)
        self._drawn = bundle
        took = time.monotonic() - begun
        size = sum(map(len, bundle.values()))
        self.pause = max(_PACE, _SHARE * took, size / _MOST_SENT)


class _Reading:
    """A thread that reads a reply to its end; ``over`` is set then."""

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
        """Ends the answer as `Reply.stop` does; nothing of it is left on the server then.

        Interrupts that come meanwhile leave out the wait for its last words.
        """
        with interrupts_noted() as again:
            try:
                self._reply.stop()
                self._wait(again)
            finally:
                self._reply.close()
            self._wait(again)

    def _wait(self, again: threading.Event) -> None:
        end = time.monotonic() + _LAST_WORDS
        while not again.is_set() and time.monotonic() < end:
            if self.over.wait(_PACE):
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
        raise in_a_sentence(KeyboardInterrupt(STOPPED)) from None
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
        raise in_a_sentence(KeyboardInterrupt(STOPPED)) from None
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
    """Whether there is a kernel, and so a front end that draws over what it has shown."""
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return False
    connection = str(shell.config.get("IPKernelApp", {}).get("connection_file", ""))
    return _OF_A_CONSOLE.search(connection) is None


def _leave_displayhook() -> None:
    # ipykernel takes a display that it does not see the end of for one that goes on, and errors of
    # later cells for the display's.
    hook = getattr(get_ipython(), "displayhook", None)
    if hook is not None and getattr(hook, "msg", None) is not None:
        with interrupts_noted():  # it waits for the outputs to be sent
            hook.finish_displayhook()


def _fail_the_cell(error: H2oError) -> None:
    # Of an error that a display raises, IPython shows the traceback, and the object's repr as well;
    # and then it takes the cell for a good one, and the next would run.
    shell = get_ipython()
    if shell is None:
        raise error
    shell.showtraceback((type(error), error, error.__traceback__))
    result = getattr(shell.displayhook, "exec_result", None)
    if result is not None:
        result.error_in_exec = error


@contextmanager
def interrupts_noted() -> Iterator[threading.Event]:
    """Meanwhile an interrupt sets the event, and raises nothing: what is begun comes to its end."""
    again = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield again  # no interrupt comes here
        return
    former = signal.signal(signal.SIGINT, lambda *_: again.set())
    try:
        yield again
    finally:
        signal.signal(signal.SIGINT, former or signal.default_int_handler)
