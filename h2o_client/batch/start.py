"""`run()`: check the prompts, open the journal and the accounts, and start the batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from h2o_client.batch.accounts import open_accounts
from h2o_client.batch.attempts import LocalSender, Sender
from h2o_client.batch.batch import Batch
from h2o_client.batch.dispatcher import Engine
from h2o_client.batch.formats import InvalidLine
from h2o_client.batch.journal import Journal
from h2o_client.batch.prompts import BatchPrompt, Defaults, InvalidPrompt, Prompt, parse_prompt
from h2o_client.config import check_count
from h2o_client.errors import ConfigurationError
from h2o_client.options import Options, takes_options

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from distributed import Client
    from typing_extensions import Unpack

    from h2o_client.session import H2oSession

CONCURRENCY = 8
GIVE_UP_AFTER = 3600.0


@takes_options
def run(
    sessions: H2oSession | Sequence[H2oSession],
    prompts: Iterable[Prompt],
    *,
    concurrency: int = CONCURRENCY,
    per_minute: int | None = None,
    journal: str | os.PathLike[str] | None = None,
    ordered: bool = False,
    executor: Executor | None = None,
    dask: str | Client | None = None,
    give_up_after: float = GIVE_UP_AFTER,
    retry_failed: bool = False,
    model: str | None = None,
    system: str | None = None,
    **options: Unpack[Options],
) -> Batch:
    """Send each of ``prompts`` once, with the accounts of ``sessions``. Iterate for the results.

    prompts: strings, lists of messages, or mappings with ``prompt`` or ``messages`` and optionally
        ``id``, ``system``, ``model``, ``files`` and ``options``. Other keys are copied to ``extra``
        of the result. All prompts are read and checked before the first is sent.
    concurrency: the largest number of concurrent prompts for each session.
    per_minute: the largest number of prompts in any minute for each session. By default the batch
        learns it from the server's refusals.
    journal: a file that records the state of each prompt. After a crash, the same call with the
        same file continues the batch. The file contains prompts and answers in plain text.
    ordered: return the results in the order of the prompts.
    executor: an executor whose workers send the prompts, each with a copy of the session. The
        batch does not close it.
    dask: the address of a Dask scheduler, "local" for workers on this machine, or a Client; its
        workers send the prompts. Needs the extra ``batch``.
    give_up_after: seconds to wait for a server that is down or refuses everything, and for a
        Dask worker if there is none.
    retry_failed: whether to send prompts again that failed in an earlier run.
    model: the model for prompts without one; by default that of the session.
    system: the system prompt for prompts without one.
    options: the options for prompts without their own: see `Options`. ``timeout`` is a number of
        seconds.

    Raises `InvalidPrompts` with the invalid prompts, and `ConfigurationError` if the journal cannot
    be used. The sessions are not closed.
    """
    found = list(sessions) if isinstance(sessions, Iterable) else [sessions]
    # A text and a mapping are iterable, too.
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
        raise ConfigurationError(
            f"prompts must be a list of prompts, not {type(prompts).__name__}",
            hint="For a single prompt, pass [prompt].",
            argument="prompts",
        )
    check_limits(found, concurrency, per_minute, give_up_after)
    defaults = Defaults.of(model, system, options)
    opened = Journal(journal)
    try:
        opened.load(parsed(enumerate(prompts, 1), defaults))
        if retry_failed:
            opened.retry_failed()
        return begin(
            opened,
            found,
            concurrency=concurrency,
            per_minute=per_minute,
            ordered=ordered,
            sender=choose_sender(executor, dask, defaults, give_up_after),
            give_up_after=give_up_after,
        )
    except BaseException:
        opened.close()
        raise


def check_limits(
    sessions: Sequence[H2oSession], concurrency: int, per_minute: int | None, give_up_after: float
) -> None:
    """Raise `ConfigurationError` for an invalid argument."""
    from h2o_client.session import H2oSession

    if not sessions or not all(isinstance(each, H2oSession) for each in sessions):
        raise ConfigurationError("A batch needs at least one session", argument="sessions")
    check_count("concurrency", concurrency, 1)
    if per_minute is not None:
        check_count("per_minute", per_minute, 1)
    if not isinstance(give_up_after, int | float) or not give_up_after >= 0:
        raise ConfigurationError(
            f"Invalid give_up_after {give_up_after!r}",
            hint="Pass seconds, 0 or more.",
            argument="give_up_after",
        )


def parsed(
    values: Iterable[tuple[int, object] | InvalidLine], defaults: Defaults
) -> Iterator[BatchPrompt | InvalidLine]:
    """Yield each value as a parsed prompt, or the reason why it is invalid."""
    for value in values:
        if isinstance(value, InvalidLine):
            yield value
            continue
        try:
            yield parse_prompt(value[1], value[0], defaults)
        except InvalidPrompt as exc:
            yield InvalidLine(value[0], str(exc))


def choose_sender(
    executor: Executor | None, dask: str | Client | None, defaults: Defaults, give_up_after: float
) -> Sender:
    """Return the sender for these arguments. Raises `ConfigurationError` if they are invalid."""
    if executor is not None and dask is not None:
        raise ConfigurationError("Only one of executor and dask can be used", argument="executor")
    if executor is not None:
        from h2o_client.batch.workers import ExecutorWorkers, WorkerSender

        return WorkerSender(ExecutorWorkers(executor), defaults.prompt_format)
    if dask is not None:
        from h2o_client.batch.dask_workers import DaskWorkers
        from h2o_client.batch.workers import WorkerSender

        return WorkerSender(DaskWorkers(dask, give_up_after), defaults.prompt_format)
    return LocalSender(defaults.prompt_format)


def begin(
    journal: Journal,
    sessions: Sequence[H2oSession],
    *,
    concurrency: int,
    per_minute: int | None,
    ordered: bool,
    sender: Sender,
    give_up_after: float,
) -> Batch:
    """Start a batch with a journal that has loaded its prompts."""
    from h2o_client.aio.session import AsyncH2oSession

    wrapped = [AsyncH2oSession._wrapping(each) for each in sessions]
    accounts, former = open_accounts(
        journal, wrapped, concurrency=concurrency, per_minute=per_minute
    )

    def engine(on_result: Callable[[], None]) -> Engine:
        return Engine(
            journal,
            accounts,
            former,
            sender=sender,
            give_up_after=give_up_after,
            on_result=on_result,
        )

    return Batch(journal, engine, sessions, ordered=ordered)
