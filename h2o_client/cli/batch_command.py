"""``h2o-chat batch``: answer a file of prompts."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import click

from h2o_client.batch.answers_file import AnswersFile
from h2o_client.batch.formats import FORMATS, Format, read_prompts
from h2o_client.batch.journal import Counts, Journal, JournalError
from h2o_client.batch.prompts import Defaults
from h2o_client.batch.start import (
    CONCURRENCY,
    GIVE_UP_AFTER,
    begin,
    check_limits,
    choose_sender,
    parsed,
)
from h2o_client.cli.batch_progress import Display, duration, sentence
from h2o_client.cli.exit import (
    BROKEN_OFF,
    INTERRUPTED,
    NOBODY_READS,
    UNWRITTEN,
    Terminated,
    handling_termination,
    status_of,
)
from h2o_client.cli.shared_options import Connection, account_options, sampling_options
from h2o_client.cli.terminal import say, say_error
from h2o_client.errors import H2oError
from h2o_client.log import log
from h2o_client.private_file import is_open_file
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from pathlib import Path

    from h2o_client.batch.batch import Batch

_STOP_WITHIN = 1.5  # seconds, so that the command ends within two
_POLL_EVERY = 0.25
_SECRETS = ("--cookie", "--header", "--proxy")
_EPILOG = """\b
Exit status: 0 every prompt has an answer, 1 an answer could not be written, 2
invalid arguments or an invalid line, 3 the server refused, 4 the network
failed, 5 some prompts failed, 129 the terminal was closed, 130 Ctrl-C, 143
SIGTERM.
"""


@click.command(
    "batch", epilog=_EPILOG, short_help="Send every prompt in a file, and write the answers."
)
@click.argument("prompts", metavar="PROMPTS")
@account_options
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="-",
    help="Write the answers to FILE, one JSON object per line [default: stdout].",
)
@click.option("-m", "--model", metavar="NAME", help="The model for prompts without one.")
@click.option("-s", "--system", metavar="TEXT", help="The system prompt.")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A sampling parameter for chat-ui v0.3 to v0.6, such as temperature=0.7; may be repeated.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=CONCURRENCY,
    show_default=True,
    help="Largest number of concurrent prompts for each account.",
)
@click.option(
    "--per-minute",
    type=click.IntRange(1),
    metavar="N",
    help="Largest number of prompts per minute for each account [default: learned].",
)
@click.option("--ordered", is_flag=True, help="Write the answers in the order of the prompts.")
@click.option(
    "--journal",
    metavar="FILE",
    help="The file that records the progress [default: OUTPUT.journal].",
)
@click.option(
    "--format", type=click.Choice(FORMATS), help="Format of the prompts [default: detected]."
)
@click.option("--column", metavar="NAME", help="The column of a CSV file with the prompts.")
@click.option("--retry-failed", is_flag=True, help="Send failed prompts of earlier runs again.")
@click.option(
    "--give-up-after",
    type=click.FloatRange(0),
    default=GIVE_UP_AFTER,
    show_default=True,
    metavar="SECONDS",
    help="How long to retry if the server is down.",
)
@click.option(
    "--dask",
    metavar="ADDRESS|local",
    help="Let Dask workers send the prompts: those of the scheduler at ADDRESS, or local ones.",
)
@click.option("--dry-run", is_flag=True, help="Check and count the prompts, and send nothing.")
@click.option("--quiet", is_flag=True, help="Show no progress and no summary.")
def batch(
    connections: Sequence[Connection],
    prompts: str,
    output: str,
    model: str | None,
    system: str | None,
    parameters: tuple[str, ...],
    concurrency: int,
    per_minute: int | None,
    ordered: bool,
    journal: str | None,
    format: Format | None,
    column: str | None,
    retry_failed: bool,
    give_up_after: float,
    dask: str | None,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Send every prompt in a file, and write each answer as a line of JSON.

    PROMPTS is a file with one prompt per line: JSON (a string, or an object with "prompt" or
    "messages" and optionally "id", "system", "model", "files", "options" and your own keys), a line
    of OpenAI's Batch API, or plain text. It may also be a CSV file. "-" reads stdin. Each prompt is
    answered once: after Ctrl-C, a crash or a reboot, run the same command again to continue.

    \b
    Examples:
      h2o-chat batch prompts.jsonl -o answers.jsonl
      h2o-chat batch questions.csv --column question -o answers.jsonl
      h2o-chat batch prompts.txt -o answers.jsonl --per-minute 30 --concurrency 4
    """
    defaults = Defaults.of(model, system, sampling_options(parameters))
    name = journal or _journal_beside(output)
    if dry_run:
        counts = _count_prompts(prompts, name, defaults, format, column)
        _say_counts(counts, name, retry_failed=retry_failed)
        return 0
    for connection in connections:
        connection.check_address()
    _check_output(output, prompts)
    with ExitStack() as stack:
        opened = Journal(name)
        stack.callback(opened.close)
        with _reading(prompts) as values:
            found = read_prompts(values, name=prompts, format=format, column=column)
            opened.load(parsed(found, defaults))
        answers = _answers(output, opened, ordered=ordered, drops_failed=retry_failed)
        stack.callback(answers.close)
        if retry_failed:
            opened.retry_failed()
        sessions = [stack.enter_context(each.open()) for each in connections]
        check_limits(sessions, concurrency, per_minute, give_up_after)
        running = begin(
            opened,
            sessions,
            concurrency=concurrency,
            per_minute=per_minute,
            ordered=ordered,
            sender=choose_sender(None, dask, defaults, give_up_after),
            give_up_after=give_up_after,
        )
        return _Writing(running, answers, output, opened.path, quiet=quiet).status()


class _Writing:
    """Writes the answers as they arrive, shows the progress, and stops at a signal."""

    def __init__(
        self,
        running: Batch,
        answers: AnswersFile,
        output: str,
        journal: Path | None,
        *,
        quiet: bool,
    ) -> None:
        self._running = running
        self._answers = answers
        self._output = output
        self._journal = journal
        self._is_quiet = quiet
        self._began = monotonic()
        self._signal = 0  # the exit status for the received signal; 0 without one
        self._ends_at = 0.0
        self._failures: Counter[str] = Counter()
        self._failure: H2oError | OSError | None = None

    def status(self) -> int:
        """Run until the end, and return the exit status."""
        with self._running, self._signals(), _notices():
            with Display(self._running, is_quiet=self._is_quiet) as display:
                self._write_all(display)
            if self._signal:
                self._leave()
        return self._finish()

    def _write_all(self, display: Display) -> None:
        while True:
            display.update()
            try:
                row = self._running.next_row(_POLL_EVERY)
            except H2oError as exc:
                self._failure = exc
                return
            if row is None:
                if self._running.is_over:
                    self._check_place()
                    return
                if self._is_late():
                    return
                continue
            if row.outcome.has_failed:
                self._failures[row.outcome.error_type] += 1
            try:
                self._answers.write(row)
            except OSError as exc:
                self._failure = exc
                return

    def _check_place(self) -> None:
        try:
            self._answers.check_place()
        except OSError as exc:
            self._failure = exc

    def _is_late(self) -> bool:
        return bool(self._signal) and monotonic() > self._ends_at

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Within the block, a signal stops the batch without raising an exception."""

        def stop(status: int) -> None:
            if self._signal:  # a second signal ends the program at once
                os._exit(status)
            self._signal, self._ends_at = status, monotonic() + _STOP_WITHIN + 0.2
            self._running.stop(_STOP_WITHIN)

        def terminate(terminated: Terminated) -> bool:
            stop(int(terminated.code or 0))
            return True

        former = signal.getsignal(signal.SIGINT)
        with handling_termination(terminate):
            if former != signal.SIG_IGN:
                signal.signal(signal.SIGINT, lambda *_: stop(INTERRUPTED))
            try:
                yield
            finally:
                signal.signal(signal.SIGINT, former)

    def _leave(self) -> NoReturn:
        """End the program without waiting. The journal has the state of the unfinished prompts."""
        with suppress(OSError):
            self._answers.close()
        self._say_summary()
        say(_how_to_continue(self._journal))
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(self._signal)

    def _finish(self) -> int:
        self._say_summary()
        failure, waiting = self._failure, self._running.progress.waiting
        if isinstance(failure, BrokenPipeError):
            return NOBODY_READS
        if isinstance(failure, OSError):
            told = f"Error: Cannot write the answers to {self._output}: "
            told += f"{failure.strerror or failure}."
            if self._journal is not None:
                is_there = self._journal.exists()
                told += " The journal has them." if is_there else " The journal was removed, too."
            say(told)
        elif failure is not None:
            say_error(failure)
        if waiting or failure is not None:
            say(_how_to_continue(self._journal))
        if isinstance(failure, OSError | JournalError):
            return UNWRITTEN
        if failure is not None:
            return status_of(failure)
        return BROKEN_OFF if self._running.progress.failed else 0

    def _say_summary(self) -> None:
        if self._is_quiet:
            return
        progress = self._running.progress
        summary = f"{sentence(progress)}, in {duration(monotonic() - self._began)}."
        if self._failures:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self._failures.most_common(3))
            summary += f" Failures: {kinds}. --retry-failed sends these prompts again."
        say(summary)


def _journal_beside(output: str) -> str | None:
    """The default path of the journal; None if the output is not a regular file."""
    if is_open_file(output):
        return None
    try:
        is_file = output != "-" and stat.S_ISREG(os.stat(output).st_mode)
    except OSError:
        is_file = output != "-"
    return f"{output}.journal" if is_file else None


@contextmanager
def _reading(prompts: str) -> Iterator[BinaryIO]:
    """Open the file of prompts. Raises a usage error if it cannot be read."""
    if prompts == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(prompts, "rb")  # noqa: SIM115
    except OSError as exc:
        raise click.UsageError(f"Cannot read {prompts}: {exc.strerror or exc}.") from exc
    with file:
        yield file


def _check_output(output: str, prompts: str) -> None:
    """Raise a usage error if the output is the file of prompts, or in a missing folder."""
    if output == "-" or is_open_file(output):
        return
    if prompts != "-" and os.path.exists(output) and os.path.exists(prompts):
        if os.path.samefile(output, prompts):
            raise click.UsageError("--output is the file of prompts. Use another file.")
    elif not os.path.isdir(os.path.dirname(output) or "."):
        raise click.UsageError(f"Cannot write {output}. Does its folder exist?")


def _answers(output: str, journal: Journal, *, ordered: bool, drops_failed: bool) -> AnswersFile:
    try:
        return AnswersFile(output, journal, ordered=ordered, drops_failed=drops_failed)
    except OSError as exc:
        raise click.UsageError(f"Cannot write {output}: {exc.strerror or exc}.") from exc


def _count_prompts(
    prompts: str, journal: str | None, defaults: Defaults, format: Format | None, column: str | None
) -> Counts:
    """Count the prompts that a run would send. Creates no journal."""
    opened = Journal(journal if journal is not None and os.path.exists(journal) else None)
    try:
        with _reading(prompts) as file:
            found = read_prompts(file, name=prompts, format=format, column=column)
            return opened.check(parsed(found, defaults))
    finally:
        opened.close()


def _say_counts(counts: Counts, journal: str | None, *, retry_failed: bool) -> None:
    summary = f"{counts.total} prompt{'' if counts.total == 1 else 's'}."
    if counts.answered or counts.failed:
        summary += f" In {journal}, {counts.answered} are answered and {counts.failed} have failed."
    sent = counts.waiting + (counts.failed if retry_failed else 0)
    click.echo(f"{summary} {sent} would be sent.")


@contextmanager
def _notices() -> Iterator[None]:
    """Within the block, show the library's warnings from the log on stderr."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"Warning: {record.getMessage()}")

    handler = Handler(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _how_to_continue(journal: Path | None) -> str:
    """A sentence with the same command, without its secrets."""
    if journal is None:
        return "The same command sends all prompts again. To continue instead, use --journal FILE."
    words, hides = ["h2o-chat"], False
    for word in sys.argv[1:]:
        name, equals, _ = word.partition("=")
        if hides:
            words.append("...")
        elif name in _SECRETS and equals:
            words.append(f"{name}=...")
        else:
            words.append(shlex.quote(word))
        hides = not hides and word in _SECRETS
    return f"To continue: {' '.join(words)}"
