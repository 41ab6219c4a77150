"""Compare the time of importing h2o_client with `import requests`, in new interpreters, in turn.

`import h2o_client` loads almost nothing: each name is loaded on first use. So the import of
`H2oSession` is the important figure. Bytecode files are used, as after an installation.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 15
EXTRAS = ("anyio", "click", "rich", "starlette", "uvicorn")
STATEMENTS = {
    "nothing": "pass",
    "requests": "import requests",
    "h2o_client": "import h2o_client",
    "H2oSession": "from h2o_client import H2oSession",
}


def medians() -> dict[str, float]:
    """Return the median seconds of a process for each statement."""
    runs: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        for turn in range(ROUNDS + 1):
            for name, seconds in runs.items():
                began = time.perf_counter()
                command = [sys.executable, "-c", STATEMENTS[name]]
                subprocess.run(command, check=True, env=environment)
                if turn:  # the first turn writes the bytecode
                    seconds.append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in runs.items()}


def ratios() -> dict[str, float]:
    """Return the ratio of each to requests."""
    found = medians()
    return {name: seconds / found["requests"] for name, seconds in found.items()}


def loaded() -> list[str]:
    """Return the packages of extras that the import loads; there should be none."""
    code = (
        f"import sys; from h2o_client import H2oSession; print(*{set(EXTRAS)} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def main() -> None:
    for name, seconds in medians().items():
        print(f"{STATEMENTS[name]:35} {1000 * seconds:6.1f} ms")
    for name, ratio in ratios().items():
        print(f"{name:10} ratio to requests {ratio:.2f}")
    print(f"extras loaded: {', '.join(loaded()) or 'none'}")


if __name__ == "__main__":
    main()
