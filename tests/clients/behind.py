"""A gateway for clients, and the turns that the model behind it received."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from h2o_client.server.engine import Turn

MODEL = "acme/large"


@dataclass
class Behind:
    """``url`` is the gateway's, with ``/v1``. ``turns`` are the turns that reached the model."""

    url: str = ""
    turns: list[tuple[tuple[str, str], ...]] = field(default_factory=list)

    def answer(self, prompt: str, turns: Sequence[Turn]) -> str:
        self.turns.append(tuple((turn.role, turn.content) for turn in turns))
        return f"I heard {prompt}"
