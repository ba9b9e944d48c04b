"""Imperfect agents for offline data: an oracle that slips, a searcher who reads states, and one who acts at random.

An experience model that only saw experts lets a weak policy get away with anything, so the data must hold wandering,
wrong objects, things put away elsewhere and impossible actions.
"""

from __future__ import annotations

import random
import re
from typing import Any

from .oracle import AlfworldOracle
from .reader import AlfworldReader, impossible

_NAME = re.compile(r"(oracle|random|slips|searcher)(?:-(0?\.\d+|[01]))?$")


class SlippingOracle:
    """Acts like the oracle, but with probability `slip` does something else, one time in six something impossible.

    The oracle looks at the true facts anew each time, so it makes good what a slip has spoilt.
    """

    def __init__(self, slip: float, seed: int) -> None:
        self.slip, self.rng, self.oracle = slip, random.Random(seed), AlfworldOracle()

    def act(self, env: Any) -> str:
        """The next action, as text."""
        if self.rng.random() >= self.slip:
            return self.oracle.act(env)
        offered: list[str] = env.unwrapped.engine.admissible
        if self.rng.random() < 1 / 6:
            return impossible(env.unwrapped.task, offered, self.rng)
        here = [action for action in offered if not action.startswith("go to ")]
        return self.rng.choice(here if self.rng.random() < 0.5 else offered)


class Searcher:
    """`reader.AlfworldReader` as a demonstrator; it reads states and the instruction alone, as an agent must."""

    def __init__(self, slip: float, seed: int) -> None:
        self.reader = AlfworldReader(slip, seed)

    @property
    def thought(self) -> str:
        return self.reader.thought

    def act(self, env: Any) -> str:
        """The next action, as text."""
        unwrapped = env.unwrapped
        return self.reader.act(unwrapped.task, unwrapped.state, unwrapped.engine.admissible, unwrapped.transitions)


def demonstrator(name: str, seed: int) -> AlfworldOracle | SlippingOracle | Searcher:
    """An agent by name: `oracle`, `slips-0.3`, `searcher-0.1` (how often it wanders, in [0, 1]) or `random`.

    Raises:
        ValueError: no such name, or a number outside [0, 1].
    """
    match = _NAME.match(name)
    if not match or (match[1] in ("slips", "searcher")) != bool(match[2]):
        raise ValueError(f"`policy` must be oracle, random, slips-P or searcher-P, P in [0, 1], got {name!r}")
    if match[1] == "oracle":
        return AlfworldOracle()
    if match[1] == "searcher":
        return Searcher(float(match[2]), seed)
    return SlippingOracle(float(match[2]) if match[2] else 1.0, seed)
