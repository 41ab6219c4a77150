"""Measure the memory of a stream of a million tokens at its last token, without its text.

`reply.text` is available at any time, so the text itself is always in memory and is not counted.
The stream runs in a separate process, and is measured before its terminal event.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from prerendered import prerendered

TOKENS = 1_000_000


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def measured(url: str, tokens: int) -> dict[str, float]:
    """Measure in this process."""
    from h2o_client import H2oSession

    with H2oSession(url) as client:
        client.chat("flood 1000")
        before = resident()
        characters = 0
        with client.stream(f"flood {tokens}") as reply:
            for count, token in enumerate(reply, 1):
                characters += len(token)
                if count == tokens:
                    return {"megabytes": (resident() - before - characters) / 1e6}
    raise AssertionError("fewer tokens than requested")


def beyond_the_text(url: str, tokens: int = TOKENS) -> float:
    """Measure in a new process; return megabytes."""
    command = [sys.executable, __file__, url, str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["megabytes"])


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
        return
    with prerendered() as url:
        megabytes = beyond_the_text(url)
    print(f"{megabytes:.1f} MB for {TOKENS:,} tokens, without the text")


if __name__ == "__main__":
    main()
