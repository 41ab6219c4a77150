"""Send thousands of prompts. Each is answered once, even if the program is killed and run again."""

from h2o_client.batch.attempts import WorkerError
from h2o_client.batch.batch import Batch
from h2o_client.batch.formats import InvalidLine
from h2o_client.batch.journal import InvalidPrompts, JournalError
from h2o_client.batch.progress import AccountProgress, Progress
from h2o_client.batch.prompts import Prompt, PromptId
from h2o_client.batch.results import PromptError, Result
from h2o_client.batch.start import run

__all__ = [
    "AccountProgress",
    "Batch",
    "InvalidLine",
    "InvalidPrompts",
    "JournalError",
    "Progress",
    "Prompt",
    "PromptError",
    "PromptId",
    "Result",
    "WorkerError",
    "run",
]
