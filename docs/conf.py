"""How Sphinx builds these pages: ``make docs``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

sys.path.insert(0, str(Path(__file__).parents[1]))

from h2o_client import __version__

project = "h2o-chat"
author = "the h2o-chat authors"
copyright = "the h2o-chat authors, under the MIT licence"
release = version = __version__

extensions = ["sphinx.ext.autodoc", "myst_parser"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
default_role = "py:obj"
pygments_style = "default"
nitpicky = True
# Names in signatures that these pages do not describe: those of Python and of other packages.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(argparse|asyncio|collections|contextlib|datetime|http|os|pathlib|socket|ssl|threading|typing"
        r"|typing_extensions)\..*",
    ),
    (r"py:.*", r"(msgspec|opentelemetry|pytest|starlette|uvicorn)\..*"),
    (
        r"py:.*",
        r"Cookies|Answers|as_engine|PromptFormat|Unpack|Event|.*\bFinal|.*\bMalformed"
        r"|concurrent\.futures\.Executor|Executor|distributed\..*|Client",
    ),  # described where they are used
]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88

html_theme = "furo"
smartquotes = False  # would change the two dashes of options
html_title = f"h2o-chat {version}"
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}


def show_arguments(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Convert the arguments in docstrings, ``name: description``, to a list of fields."""
    begins = True
    for place, line in enumerate(lines):
        argument = re.match(r"(\w+): (?=\S)", line)
        if argument and begins:
            lines[place] = f":param {line}"
        begins = not line.strip() or (begins and (bool(argument) or line.startswith(" ")))


def shorten_signature(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    """Replace the options of each method by `Options`, which is described once."""
    if signature is None:
        return None
    signature = re.sub(r"temperature=None, .*web_search=None", "**options: Options", signature)
    return re.sub(r"= ?<factory>", "= {}", signature), returns


def find_elsewhere(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element
) -> Element | None:
    """Resolve a public name without its module, for docstrings."""
    domain = env.domains.python_domain
    for module in (
        "h2o_client",
        "h2o_client.server",
        "h2o_client.batch",
        "h2o_client.plugins.pytest",
    ):
        name = f"{module}.{node['reftarget']}"
        found = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, shown)
        if found is not None:
            return found
    return None


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx."""
    app.connect("autodoc-process-docstring", show_arguments)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("missing-reference", find_elsewhere)
