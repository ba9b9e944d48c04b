"""ALFWorld's game files: where they are, which of them can be played, and what each asks for."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from dreamgym_env.domains.alfworld_things import listed
from dreamgym_env.types import DataError

OfficialSplit = Literal["train", "valid_seen", "valid_unseen"]
SplitName = Literal["train", "held_out", "all", "valid_seen", "valid_unseen"]
Kind = Literal[
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The six task types, in ALFWorld's order (its numbers 1 to 6)."""
DATA_FOLDER = "json_2.1.1"
_SENTENCE = re.compile(r'"rhs": "Your task is to: ((?:[^"\\\n]|\\.)*)\."')
_FACT = re.compile(r"\((\w+)((?: [^\s()]+)+)\)")


@dataclass(frozen=True)
class Goal:
    """What wins: `kind`, and types in lower case; `target` is a receptacle's, or the lamp's for looking in light."""

    kind: Kind
    thing: str
    target: str


@dataclass(frozen=True)
class Game:
    """One playable game. `task_id` is its folder below the data folder: split, task and trial."""

    task_id: str
    path: Path
    kind: Kind
    split: OfficialSplit
    instruction: str
    initial_state: str

    @property
    def goal(self) -> Goal:
        """Read from `traj_data.json` beside the game.

        Raises:
            DataError: the file lacks it.
        """
        path = self.path.with_name("traj_data.json")
        try:
            params = json.loads(path.read_text(encoding="utf-8"))["pddl_params"]
            target = params["toggle_target"] if self.kind == "look_at_obj_in_light" else params["parent_target"]
            return Goal(self.kind, params["object_target"].lower(), target.lower())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} must hold `pddl_params` of its task, got {error!r}") from error


def official_splits(split: SplitName) -> tuple[OfficialSplit, ...]:
    """The data folders that a split means: held-out tasks are those of unseen rooms."""
    named: dict[str, tuple[OfficialSplit, ...]] = {
        "held_out": ("valid_unseen",),
        "all": get_args(OfficialSplit),
        **{each: (each,) for each in get_args(OfficialSplit)},
    }
    return named[split]


def read_game(path: Path, split: OfficialSplit) -> Game:
    """The game in a `game.tw-pddl` file.

    Raises:
        DataError: the file is broken, not solvable, or of no task type that can be played; the message names it.
    """
    kind = path.parent.parent.name.partition("-")[0]
    if kind not in KINDS or "Sliced" in path.parent.parent.name:
        raise DataError(f"{path} is of a task type that ALFWorld does not play: {kind!r}")
    if not path.with_name("traj_data.json").exists():
        raise DataError(f"{path} has no traj_data.json beside it")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        problem, grammar, solvable = data["pddl_problem"], data["grammar"], data.get("solvable")
        sentence = _SENTENCE.search(grammar)
        instruction = json.loads(f'"{sentence[1]}"') if sentence else ""
        initial_state = first_look(problem)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a game file: {error!r}") from error
    if not solvable:
        raise DataError(f"{path} is not marked as solvable")
    if not instruction or not data.get("pddl_domain"):
        raise DataError(f"{path} is not a game file: no task sentence or no `pddl_domain`")
    task_id = f"{split}/{path.parent.parent.name}/{path.parent.name}"
    return Game(task_id, path, kind, split, instruction, initial_state)  # type: ignore[arg-type]


def first_look(problem: str) -> str:
    """The state in which a game begins, read from its PDDL problem without an engine.

    Raises:
        ValueError: the problem has no initial facts, or no agent or receptacle in them.
    """
    start, goal = problem.index("(:init"), problem.rindex("(:goal")
    facts = [(name.lower(), rest.lower().split()) for name, rest in _FACT.findall(problem[start:goal])]
    names = entity_names({argument for _, arguments in facts for argument in arguments})
    places = sorted((one, where) for name, (one, *rest) in facts if name == "receptacleatlocation" for where in rest)
    here = {where for name, (_, *rest) in facts if name == "atlocation" for where in rest}
    if not places or not here:
        raise ValueError("no receptacle or no agent in the initial facts")
    if facing := [f"{names[one]}" for one, where in places if where in here]:
        return f"You are facing the {listed(facing)}. Next to it, you see nothing."
    around = listed([f"a {names[one]}" for one, _ in places])
    return f"You are in the middle of a room. Looking quickly around you, you see {around}."


def entity_names(ids: set[str]) -> dict[str, str]:
    """ALFWorld's name of every PDDL id: the type and a number that falls along the sorted ids."""
    kinds = {each: each.partition("_bar_")[0] + ("basin" if "basin" in each else "") for each in ids if "_bar_" in each}
    left = Counter(kinds.values())
    names = {}
    for each in sorted(kinds):
        names[each] = f"{kinds[each]} {left[kinds[each]]}"
        left[kinds[each]] -= 1
    return names


@lru_cache(maxsize=16)
def find_games(root: str, splits: tuple[OfficialSplit, ...], kinds: tuple[Kind, ...]) -> tuple[Game, ...]:
    """All games of these splits and task types below `<root>/json_2.1.1`, split by split, types mixed (`_place`).

    Files that cannot be played are skipped and named in one warning.

    Raises:
        DataError: nothing is left.
    """
    games, skipped = [], []
    for split in splits:
        for path in sorted((Path(root) / DATA_FOLDER / split).glob("*/*/game.tw-pddl")):
            if path.parent.parent.name.partition("-")[0] in set(KINDS) - set(kinds):
                continue
            try:
                games.append(read_game(path, split))
            except DataError as error:
                skipped.append(str(error))
    if skipped:
        warnings.warn(f"skipped {len(skipped)} ALFWorld files:\n" + "\n".join(skipped), stacklevel=3)
    if not games:
        raise DataError(
            f"{Path(root) / DATA_FOLDER} must hold playable games of {'/'.join(splits)} and {'/'.join(kinds)}"
            " (<task>/<trial>/game.tw-pddl); `alfworld-download` fetches the official ones"
        )
    return tuple(sorted(games, key=lambda game: (splits.index(game.split), *_place(game.task_id))))


def _place(task_id: str) -> tuple[int, str]:
    """Where a game stands in its split, so that the first so many are a fair sample of all task types: generated games
    by their number, since types take turns; official ones as drawn by lot, the same on every machine."""
    number = re.search(r"/trial_G\d+_S\d+_(\d+)$", task_id)
    return (int(number[1]), "") if number else (-1, hashlib.sha256(task_id.encode()).hexdigest())


def official_root(data_dir: str | None) -> str | None:
    """The folder of given games: `data_dir`, ALFWORLD_DATA, or where `alfworld-download` puts them; else None.

    Raises:
        DataError: `data_dir` or ALFWORLD_DATA names a folder without games.
    """
    downloaded = os.path.expanduser("~/.cache/alfworld")  # what the package alfworld sets ALFWORLD_DATA to
    named = data_dir or os.environ.get("ALFWORLD_DATA") or downloaded
    if (Path(named) / DATA_FOLDER).is_dir():
        return str(named)
    if data_dir is None and Path(named) == Path(downloaded):
        return None
    asked = "`data_dir`" if data_dir else "ALFWORLD_DATA"
    raise DataError(f"{asked} must be a folder with {DATA_FOLDER}/train and so on, got {named}")


def read_kinds(task_types: Sequence[Any] | None) -> tuple[Kind, ...]:
    """Task types by name or by ALFWorld's number (1 to 6); all six for None.

    Raises:
        ValueError: there is no such type, or none is named.
    """
    if task_types is None:
        return KINDS
    asked = [KINDS[each - 1] if isinstance(each, int) and 1 <= each <= len(KINDS) else each for each in task_types]
    if not asked or set(asked) - set(KINDS):
        raise ValueError(f"`task_types` must be of {list(KINDS)} or 1 to {len(KINDS)}, got {list(task_types)}")
    return tuple(kind for kind in KINDS if kind in asked)
