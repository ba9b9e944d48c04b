"""Imperfect agents for offline data: an oracle that slips or fumbles, a searcher who reads states, or randomness.

An experience model that only saw experts lets a weak policy get away with anything, so the data must hold wandering,
wrong objects, things put away elsewhere and impossible actions.
"""

from __future__ import annotations

import random
import re
from typing import Any

from .oracle import AlfworldOracle
from .reader import AlfworldReader, impossible

_WORDS = re.compile(r"([a-z]+ \d+)")
_NAME = re.compile(r"(oracle|random|slips|fumbles|searcher|stumbler)(?:-(0?\.\d+|[01]))?$")


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


class FumblingOracle(SlippingOracle):
    """With probability `slip` does what is impossible now: mostly what could be done a while ago, or does it to another
    thing or place. What it does else is the slipping oracle's, half of the time."""

    def __init__(self, slip: float, seed: int) -> None:
        super().__init__(0.5, seed)
        self.fumble = slip

    def act(self, env: Any) -> str:
        """The next action, as text."""
        if self.rng.random() >= self.fumble:
            return super().act(env)
        unwrapped = env.unwrapped
        now: list[str] = unwrapped.engine.admissible
        if self.rng.random() < 0.25:
            return impossible(unwrapped.task, now, self.rng)
        told = sorted({*now, *(step.action for step in unwrapped.transitions)})
        words = [_WORDS.split(action) for action in told]
        names = sorted({name for split in words for name in split[1::2]})
        for _ in range(20):
            parts = list(self.rng.choice(words))
            if len(parts) > 1:
                parts[self.rng.randrange(1, len(parts), 2)] = self.rng.choice(names)
            if (action := "".join(parts)) not in now:
                return action
        return impossible(unwrapped.task, now, self.rng)


class Searcher:
    """`reader.AlfworldReader` as a demonstrator; it reads states and the instruction alone, as an agent must."""

    def __init__(self, slip: float, seed: int, stumble: float = 0.0, orderly: bool = False) -> None:
        self.reader = AlfworldReader(slip, seed, stumble, orderly)

    @property
    def thought(self) -> str:
        return self.reader.thought

    def act(self, env: Any) -> str:
        """The next action, as text."""
        unwrapped = env.unwrapped
        return self.reader.act(unwrapped.task, unwrapped.state, unwrapped.engine.admissible, unwrapped.transitions)


def demonstrator(name: str, seed: int) -> AlfworldOracle | SlippingOracle | Searcher:
    """An agent by name: `oracle`, `slips-0.3`, `fumbles-0.4`, `searcher-0.1`, `stumbler-0.4` (how often it errs, in
    [0, 1]), `random`. A stumbler is an orderly searcher that also does again what cannot be done twice; it shows how to
    go on then, and its thought says where it looks next.

    Raises:
        ValueError: no such name, or a number outside [0, 1].
    """
    match = _NAME.match(name)
    if not match or (match[1] in ("slips", "fumbles", "searcher", "stumbler")) != bool(match[2]):
        raise ValueError(
            f"`policy` must be oracle, random, slips-P, fumbles-P, searcher-P or stumbler-P, P in [0, 1], got {name!r}"
        )
    if match[1] == "oracle":
        return AlfworldOracle()
    if match[1] == "searcher":
        return Searcher(float(match[2]), seed)
    if match[1] == "stumbler":
        return Searcher(float(match[2]), seed, float(match[2]), orderly=True)
    if match[1] == "fumbles":
        return FumblingOracle(float(match[2]), seed)
    return SlippingOracle(float(match[2]) if match[2] else 1.0, seed)
