"""Measures the fast engine against TextWorld's stock engine on the same games and the same commands, in one run.

Run: `python -m dreamgym_env.wrappers.alfworld.benchmark --data-dir alfworld-games --games 6 --steps 60`. With
`--processes 4` it also steps four environments in one process and then in four.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import textworld
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
from textworld.envs import PddlEnv

from .fast import FastPddlEnv
from .games import KINDS, SplitName, find_games, official_splits
from .translation import translate


@dataclass(frozen=True)
class BenchmarkConfig:
    """Settings of the comparison."""

    data_dir: Path = Path("alfworld-games")
    """Folder with `json_2.1.1/`."""
    split: SplitName = "train"
    """Whose games are played."""
    games: int = 6
    """Games, >= 1."""
    steps: int = 60
    """Random admissible commands in each game, >= 1."""
    processes: int = 0
    """Environments of the comparison between one process and one process each; 0 for none."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("games", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}")


def stock_engine() -> Any:
    """ALFWorld's own engine, as `AlfredTWEnv` sets it up."""
    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    return AlfredDemangler(PddlEnv(infos), shuffle=False)


def fast_engine() -> FastPddlEnv:
    return FastPddlEnv(textworld.EnvInfos(won=True, admissible_commands=True))


def main(config: BenchmarkConfig) -> dict[str, Any]:
    """Steps per second of processor time of both engines, the ratio, and seconds for load and reset.

    Processor time, so that other work on the machine counts for neither. Every text and command list is compared.
    """
    games = find_games(str(config.data_dir), official_splits(config.split), KINDS)[: config.games]
    stock, fast, rng = stock_engine(), fast_engine(), random.Random(config.seed)
    spent: dict[str, float] = defaultdict(float)

    def timed(what: str, call: Any, *arguments: Any) -> Any:
        begun = time.process_time()
        result = call(*arguments)
        spent[what] += time.process_time() - begun
        return result

    steps = differing = 0
    for game in games:
        translate.cache_clear()
        with TemporaryDirectory() as empty, patch.dict(os.environ, {"DREAMGYM_CACHE": empty}):
            for name, engine in (("stock", stock), ("fast", fast)):
                timed(f"{name} load", engine.load, str(game.path))
            translate.cache_clear()
            timed("fast load kept", fast.load, str(game.path))
            timed("fast load kept", fast.reset)
        fast.load(str(game.path))  # its reset is timed with the stock one's, below
        states = [timed(f"{name} load", engine.reset) for name, engine in (("stock", stock), ("fast", fast))]
        for _ in range(config.steps):
            command = rng.choice(states[0]["admissible_commands"])
            states = [timed(name, engine.step, command)[0] for name, engine in (("stock", stock), ("fast", fast))]
            steps += 1
            said = [(state.feedback, state["admissible_commands"], state["won"]) for state in states]
            differing += said[0] != said[1]
    vector = vector_speeds(config) if config.processes else {}
    return vector | {
        "games": len(games),
        "steps": steps,
        "steps that differ": differing,
        "stock steps/s": round(steps / spent["stock"], 1),
        "fast steps/s": round(steps / spent["fast"], 1),
        "ratio": round(spent["stock"] / spent["fast"], 1),
        "stock load and reset, s": round(spent["stock load"] / len(games), 3),
        "fast load and reset, s": round(spent["fast load"] / len(games), 3),
        "the same with the translation of an earlier process, s": round(spent["fast load kept"] / len(games), 3),
    }


def vector_speeds(config: BenchmarkConfig) -> dict[str, Any]:
    """Steps per second of wall time of `processes` environments, one after the other and in a process each.

    Both play the same games with the same commands; each round waits for the slowest. Games are loaded before.
    """
    found: dict[str, Any] = {}
    for mode, extra in (("sync", None), ("async", {"shared_memory": False})):
        envs = gym.make_vec(
            "Real-ALFWorld-v0", num_envs=config.processes, vectorization_mode=mode, vector_kwargs=extra,
            data_dir=str(config.data_dir), split=config.split,
        )  # fmt: skip
        rng = random.Random(config.seed)
        _, infos = envs.reset(seed=config.seed)
        begun = time.perf_counter()
        for _ in range(config.steps):
            _, _, _, _, infos = envs.step([rng.choice(offered or ["look"]) for offered in infos["available_actions"]])
        found[f"{mode} steps/s"] = round(config.processes * config.steps / (time.perf_counter() - begun), 1)
        envs.close()
    return {**found, "async to sync": round(found["async steps/s"] / found["sync steps/s"], 2)}


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(BenchmarkConfig, description=__doc__)), indent=2))
