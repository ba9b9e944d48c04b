"""`Engine`: plays one ALFWorld game at a time in TextWorld and says what is true in it; only the oracle asks that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textworld.core import EnvInfos

from .fast import FastPddlEnv

_INTRO = re.compile(r"-= Welcome to TextWorld, ALFRED! =-\n\n(.*)\n\nYour task is to: (.*)\.", re.DOTALL)


def split_intro(feedback: str) -> tuple[str, str]:
    """The state and the instruction in a game's first text: without the banner and the task line, and the task.

    Raises:
        ValueError: the text is no ALFWorld introduction.
    """
    match = _INTRO.fullmatch(feedback.strip())
    if not match:
        raise ValueError(f"an ALFWorld game must begin with its banner and end with its task, got {feedback!r}")
    return match[1], match[2]


class Engine:
    """One TextWorld engine; every one has its own copy of the planner's library, so many can live side by side."""

    def __init__(self) -> None:
        self._env = FastPddlEnv(EnvInfos(won=True, admissible_commands=True))
        self.admissible: list[str] = []
        """The commands that do something now, sorted."""
        self.won = False

    def begin(self, game: Path | Mapping[str, Any]) -> str:
        """Loads a `game.tw-pddl` file (or what one holds) and gives its first text, banner and task included."""
        self._env.load(str(game) if isinstance(game, Path) else game)
        return self._took(self._env.reset())

    def act(self, command: str) -> str:
        """What ALFWorld answers; `Nothing happens.` for a command that is not admissible."""
        return self._took(self._env.step(command)[0])

    def facts(self) -> dict[str, list[tuple[str, ...]]]:
        """Everything that is true: arguments, by their names in the game, of each predicate in lower case."""
        names = {key: info.name.strip() for key, info in self._env._entity_infos.items()}
        found: dict[str, list[tuple[str, ...]]] = {}
        for fact in self._env._pddl_state.facts:
            found.setdefault(fact.name, []).append(tuple(names[each.name] for each in fact.arguments))
        return found

    def close(self) -> None:
        """Frees the library; the engine cannot be used afterwards."""
        self._env.close()

    def _took(self, state: Any) -> str:
        self.admissible, self.won = list(state["admissible_commands"]), bool(state["won"])
        return str(state.feedback)
