"""The layers of imports, the version, and the public names."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import h2o_client

PACKAGE = Path(h2o_client.__file__).parent

# Each layer may import itself and those above it in this list, which are lower layers.
LAYERS = (
    ("version", "printable", "private_file", "errors", "arguments", "log"),
    ("messages", "timeouts"),
    ("config",),
    ("wire", "options"),
    ("transport", "dialects"),
    ("backend",),
    ("answer",),
    ("conversation",),
    ("doctor",),
    ("session",),
    ("server",),
    ("aio",),
    ("gateway", "batch"),
    ("cli", "plugins"),
    ("notebook",),
    ("provider",),
    ("__main__",),
)
PURE = ("wire", "dialects", "messages", "errors", "arguments", "printable", "answer/state")
FORBIDDEN_IN_PURE = {"socket", "threading", "time", "os", "requests", "urllib3", "anyio", "asyncio"}


def modules(name: str) -> list[Path]:
    folder = PACKAGE / name
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{name}.py"]


def imports(path: Path) -> set[str]:
    """The modules that ``path`` imports at run time, without those for type checkers."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [each for each in tree.body if not is_for_checkers(each)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "h2o_client":
                found.update(f"h2o_client.{alias.name}" for alias in node.names)
            else:
                found.add(node.module)
    return found


def is_for_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def layers_used(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("h2o_client.")}


def test_every_module_belongs_to_a_layer() -> None:
    placed = {name for layer in LAYERS for name in layer} | {"__init__"}
    assert {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()} - {
        "__pycache__"
    } == placed


def test_the_page_on_the_project_names_every_module_and_folder() -> None:
    page = (PACKAGE.parent / "docs" / "project.rst").read_text(encoding="utf-8")
    for name in (name for layer in LAYERS for name in layer):
        assert re.search(rf"``{name}/?``", page), name


def test_a_layer_imports_only_lower_layers() -> None:
    below: set[str] = set()
    for layer in LAYERS:
        for name in layer:
            for path in modules(name):
                assert layers_used(path) <= below | set(layer), path
        below |= set(layer)


# The modules of these folders have the names of their counterparts for sync or another version.
PARALLEL = ("aio", "server/v0_3", "server/v0_9_6", "server/latest")


def names_of_modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imported_at_once(name: str, known: dict[str, Path]) -> set[str]:
    """The modules that the import of ``name`` runs, without the package itself."""
    found: set[str] = set()

    def look(body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found.add(inner if inner in known else node.module)
            elif isinstance(node, ast.Try) or (
                isinstance(node, ast.If) and not is_for_checkers(node)
            ):
                look(node.body)

    look(ast.parse(known[name].read_text(encoding="utf-8")).body)
    return found & known.keys() - {name, "h2o_client"}


def test_no_chain_of_imports_has_more_than_13_modules() -> None:
    known = names_of_modules()

    @functools.cache
    def longest(name: str) -> tuple[str, ...]:
        return (
            name,
            *max((longest(other) for other in imported_at_once(name, known)), key=len, default=()),
        )

    chain = max(map(longest, known), key=len)
    assert len(chain) <= 13, chain


def test_the_root_has_at_most_12_modules() -> None:
    assert (
        len({path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__", "version"})
        <= 12
    )


def test_no_class_has_more_than_20_attributes() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                own = {
                    target.attr
                    for target in ast.walk(node)
                    if isinstance(target, ast.Attribute)
                    and isinstance(target.ctx, ast.Store)
                    and isinstance(target.value, ast.Name)
                    and target.value.id == "self"
                }
                assert len(own) <= 20, (path, node.name, sorted(own))


def test_no_two_files_use_one_name_for_different_things() -> None:
    paths: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            paths.setdefault(path.name, []).append(path.relative_to(PACKAGE).as_posix())
    for name, same in paths.items():
        alone = [path for path in same if not path.startswith(PARALLEL)]
        assert len(alone) <= 1, (name, same)
        assert len({path.startswith("server/") for path in same}) == 1, (name, same)


def test_pure_modules_use_no_network_no_clock_and_no_thread() -> None:
    for name in PURE:
        for path in modules(name):
            roots = {each.split(".")[0] for each in imports(path)}
            assert not roots & FORBIDDEN_IN_PURE, path


def test_only_the_transport_imports_requests_and_urllib3() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "transport":
            roots = {each.split(".")[0] for each in imports(path)}
            assert not roots & {"requests", "urllib3"}, path


def test_only_wire_json_decodes_with_msgspec() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "wire" / "json.py":
            code = ast.unparse(ast.parse(path.read_text(encoding="utf-8")))
            for name in ("json.decode", "json.Decoder", "convert", "DecodeError", "MsgspecError"):
                assert f"msgspec.{name}" not in code, (path, name)


def test_only_the_async_api_and_the_gateway_import_anyio() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name not in ("aio", "gateway") and "server" not in path.parts:
            assert "anyio" not in {each.split(".")[0] for each in imports(path)}, path


def test_the_server_shares_only_the_wire_with_the_client() -> None:
    for path in modules("server"):
        assert layers_used(path) <= {"wire", "errors", "printable", "server"}, path


def test_importing_the_package_loads_no_extra() -> None:
    extras = (
        *("anyio", "asyncio", "starlette", "uvicorn", "click", "rich", "prompt_toolkit"),
        *("IPython", "markdown_it"),
    )
    code = f"import sys, h2o_client; print([name for name in {extras} if name in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert shown.stdout.strip() == "[]"


def test_the_version_matches_the_metadata() -> None:
    assert h2o_client.__version__ == metadata("h2o-chat")["Version"]


def test_every_public_name_exists_and_is_documented() -> None:
    for name in h2o_client.__all__:
        public = getattr(h2o_client, name)
        assert name in ("__version__", "Messages") or (public.__doc__ or "").strip(), name


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_connections_use_a_clock_that_no_test_replaces() -> None:
    """Exceptions: the server, and the interfaces that display times."""
    for path in PACKAGE.rglob("*.py"):
        if not {"server", "cli", "notebook"} & set(path.parts) and path.stem != "timeouts":
            assert "time.monotonic" not in path.read_text(), path
