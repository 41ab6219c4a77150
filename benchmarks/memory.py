"""Megabytes that a stream of a million tokens takes at its last token, beyond one str of its text.

Measured in a process of its own, before the terminal event is seen: `reply.text` could be asked for
at any token, so its text is somewhere; what is beside it is what counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from prerendered import prerendered

TOKENS = 1_000_000


def resident() -> int:
    """Bytes of this process in memory, now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def measured(url: str, tokens: int) -> dict[str, float]:
    """In this process."""
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
    raise AssertionError("fewer tokens than were asked for")


def beyond_the_text(url: str, tokens: int = TOKENS) -> float:
    """In a fresh process."""
    command = [sys.executable, __file__, url, str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["megabytes"])


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
        return
    with prerendered() as url:
        megabytes = beyond_the_text(url)
    print(f"{megabytes:.1f} MB beyond the text of {TOKENS:,} tokens")


if __name__ == "__main__":
    main()
