"""Makes new ALFWorld games from what the `alfworld` package ships, each won once in the real engine before it is kept.

Run: `python -m dreamgym_env.wrappers.alfworld.generate --games 200 --seed 0 --out alfworld-games`. A game depends on
the seed, the split and its number alone, so a longer run adds to a shorter one, and one that was cut off goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH
from alfworld.info import __version__ as ALFWORLD_VERSION

from dreamgym_env.progress import ProgressBar
from dreamgym_env.types import DataError

from .engine import Engine
from .games import DATA_FOLDER, KINDS, Goal, OfficialSplit
from .oracle import Situation, next_action
from .problems import Problem, Wish, draw_wish, furnish
from .translation import cache_root

GENERATOR_VERSION = 1
"""Raised with every change that makes other games of the same seed."""
LONGEST_PLAN = 50


@dataclass(frozen=True)
class GenerateConfig:
    """Settings of the game generator."""

    out: Path = Path("alfworld-games")
    """Folder that gets `json_2.1.1/<split>/<task>/<trial>/`; give it to the environment as `data_dir`."""
    games: int = 200
    """Games of the training split, >= 0."""
    seen: int = 20
    """Games of valid_seen (training rooms, other goals), >= 0."""
    unseen: int = 50
    """Games of valid_unseen (held-out rooms), >= 0."""
    seed: int = 0
    """Other seeds make other games, >= 0."""

    def __post_init__(self) -> None:
        for name in ("games", "seen", "unseen", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be >= 0, got {getattr(self, name)}")

    @property
    def counts(self) -> dict[OfficialSplit, int]:
        return {"train": self.games, "valid_seen": self.seen, "valid_unseen": self.unseen}


def cache_folder(seed: int) -> Path:
    """Where games made on demand are kept."""
    return cache_root() / f"{GENERATOR_VERSION}-{ALFWORLD_VERSION}-seed{seed}"


def game_folder(split: OfficialSplit, number: int, seed: int) -> Path:
    """Where game `number` of a split lies below the data folder; the task types take turns."""
    return Path(split, _wish(split, number, seed).folder, f"trial_G{GENERATOR_VERSION}_S{seed}_{number:05d}")


@cache
def _wish(split: OfficialSplit, number: int, seed: int) -> Wish:
    return draw_wish(KINDS[number % len(KINDS)], split, random.Random(f"{seed}/{split}/{number}"))


def generate(root: Path, split: OfficialSplit, count: int, seed: int) -> list[Path]:
    """Makes sure that the first `count` games of a split are in `root`; gives their `game.tw-pddl` files in order.

    Only one process at a time writes into a folder; others wait and then find the games there.

    Raises:
        DataError: a game could not be won in ten tries, which means that TextWorld or ALFWorld have changed.
    """
    folders = [root / DATA_FOLDER / game_folder(split, number, seed) for number in range(count)]
    if any(not folder.exists() for folder in folders):
        with _alone(root):
            missing = [number for number, folder in enumerate(folders) if not folder.exists()]
            engine = Engine()
            with ProgressBar(transient=True, disable=not missing) as bar:
                for number in bar.track(missing, description=f"making ALFWorld games ({split})"):
                    _write(folders[number], _won(engine, split, number, seed), number)
            engine.close()
    return [folder / "game.tw-pddl" for folder in folders]


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by a process that dies
        yield


def _won(engine: Engine, split: OfficialSplit, number: int, seed: int) -> tuple[Problem, dict[str, Any]]:
    """A problem and its game file, once the oracle has won it; another layout where it did not."""
    wish = _wish(split, number, seed)
    for attempt in range(10):
        name = game_folder(split, number, seed).name
        problem = furnish(wish, name, random.Random(f"{seed}/{split}/{number}/{attempt}"))
        data = game_data(problem)
        walkthrough = play(engine, data, Goal(wish.kind, wish.thing.lower(), wish.target.lower()))
        if walkthrough:
            return problem, data | {"solvable": True, "walkthrough": walkthrough}
    raise DataError(f"no layout of {wish.folder} (seed {seed}, {split} {number}) could be won in {attempt + 1} tries")


def game_data(problem: Problem) -> dict[str, Any]:
    """What a `game.tw-pddl` file holds, before anybody has played it."""
    grammar = Path(ALFRED_TWL2_PATH).read_text(encoding="utf-8").replace("UNKNOWN GOAL", problem.instruction)
    return {
        "pddl_domain": Path(ALFRED_PDDL_PATH).read_text(encoding="utf-8"),
        "grammar": grammar,
        "pddl_problem": problem.pddl,
        "solvable": False,
        "walkthrough": None,
    }


def play(engine: Engine, data: dict[str, Any], goal: Goal) -> list[str]:
    """The oracle's commands that win a game, or none where it does not win or has nothing to do."""
    engine.begin(data)
    commands: list[str] = []
    while not engine.won and len(commands) < LONGEST_PLAN:
        commands.append(next_action(Situation.of(engine), goal))
        engine.act(commands[-1])
    return commands if engine.won else []


def _write(folder: Path, game: tuple[Problem, dict[str, Any]], number: int) -> None:
    """Writes both files beside the place and moves them in together, so that no half game is ever found."""
    problem, data = game
    wish = problem.wish
    in_light = wish.kind == "look_at_obj_in_light"
    traj = {
        "task_id": folder.name,
        "task_type": wish.kind,
        "pddl_params": {
            "object_target": wish.thing,
            "parent_target": "" if in_light else wish.target,
            "toggle_target": wish.target if in_light else "",
            "mrecep_target": "",
            "object_sliced": False,
        },
        "scene": {"floor_plan": f"FloorPlan{wish.room}", "scene_num": wish.room},
        "turk_annotations": {"anns": []},
        "generated": {"by": "dreamgym", "version": GENERATOR_VERSION, "number": number},
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        (beside / "game.tw-pddl").write_text(json.dumps(data), encoding="utf-8")
        (beside / "traj_data.json").write_text(json.dumps(traj), encoding="utf-8")
        beside.chmod(0o755)
        os.rename(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def main(config: GenerateConfig) -> dict[str, Any]:
    """Writes the games and returns how many each split has."""
    for split, count in config.counts.items():
        generate(config.out, split, count, config.seed)
    counts = {str(split): count for split, count in config.counts.items()}
    return {"out": str(config.out), "alfworld": ALFWORLD_VERSION, **counts}


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(GenerateConfig, description=__doc__)), indent=2))
