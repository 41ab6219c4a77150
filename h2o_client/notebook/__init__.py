"""IPython and Jupyter: answers that grow in place, and ``%load_ext h2o_client``.

It is imported only when something is displayed or the extension is loaded. Needs the extra
``notebook``.
"""

from h2o_client.notebook.display import of_answer, of_conversation
from h2o_client.notebook.live import show, show_async
from h2o_client.notebook.magics import load_ipython_extension, unload_ipython_extension
from h2o_client.notebook.short_tracebacks import of_error

__all__ = [
    "load_ipython_extension",
    "of_answer",
    "of_conversation",
    "of_error",
    "show",
    "show_async",
    "unload_ipython_extension",
]
