"""A policy's own episodes in a real environment under a budget of transitions, for SFT and DPO to learn from.

Rounds of episodes are files of their own until the last one is there, so that a stopped collection goes on with the
next round, and gives what it would have given. (`collect.py` does the same with demonstrators.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamgym_env.curriculum import Curriculum
from dreamgym_env.loading import starting_policy
from dreamgym_env.progress import ProgressBar
from dreamgym_env.trajectories import read_trajectories, write_trajectories
from dreamgym_env.types import Sampling, Task, Trajectory

from .disk import writing
from .pools import BudgetedPool, EnvPool, open_pool, read_settings
from .rollout import Collector, collect

PlayRound = Callable[[int, int], list[Trajectory]]
"""The episodes of a round, given its number and the transitions that are left; [] where no episode is sure to fit."""


@dataclass(frozen=True)
class OfflineConfig:
    """What to collect."""

    output: str
    """Folder for `trajectories.jsonl`."""
    env_id: str
    """Gymnasium id of a real environment."""
    settings: tuple[str, ...]
    """Keywords of `gym.make`, as name=value."""
    policy: str
    """Who plays: "embedded", a checkpoint folder or a hub name (ORG/NAME or hf:ORG/NAME)."""
    transitions: int
    """Most transitions, >= 1; collecting ends where not one group of episodes more is sure to fit."""
    tasks: int
    """Tasks in each round, >= 1."""
    group_size: int
    """Episodes of each task, >= 1: DPO compares those of one task."""
    temperature: float
    max_tokens: int
    context_tokens: int
    history: int | None
    device: str
    seed: int = 0


def collect_offline(config: OfflineConfig) -> Path:
    """Collects what is not there yet; the file of trajectories."""
    folder, found = Path(config.output), Path(config.output) / "trajectories.jsonl"
    if found.exists():
        return found
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"split": "train", **read_settings(config.settings)}
    pool = open_pool(config.env_id, config.tasks * config.group_size, **settings)
    play = rounds_of(config, pool)
    with ProgressBar(transient=True) as bar:
        line = bar.add_task("real episodes", total=config.transitions)
        used, files = 0, list[Path]()
        while True:
            file = folder / f"round-{len(files):06d}.jsonl"
            played = list(read_trajectories(file)) if file.exists() else play(len(files), config.transitions - used)
            if not played:
                break
            if not file.exists():
                with writing(file, "the rounds before it are whole"):
                    write_trajectories(file, played)
            files.append(file)
            used += sum(len(one.transitions) for one in played)
            bar.update(line, completed=used)
    pool.close()
    with writing(found, "all rounds are whole"):
        write_trajectories(found, (one for file in files for one in read_trajectories(file)))
    for file in files:
        file.unlink()
    return found


def rounds_of(config: OfflineConfig, pool: EnvPool) -> PlayRound:
    """Plays rounds of the tasks that RL with the same seed would play."""
    from dreamgym_env.language_model import TransformersModel

    path = starting_policy(pool.domain) if config.policy == "embedded" else config.policy
    model = TransformersModel.load(path, dtype="float32", device=config.device)
    curriculum = Curriculum([task for task in pool.tasks if task.split == "train"], 0.0, config.seed)
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens)
    context = min(config.context_tokens, int(model.max_context))
    drawn = list[list[Task]]()

    def play(number: int, left: int) -> list[Trajectory]:
        while len(drawn) <= number:  # what earlier runs have played is drawn again, to draw what comes next
            drawn.append(curriculum.sample(config.tasks))
        groups = min(config.tasks, left // (config.group_size * pool.horizon))
        seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
        model.seed(seed)
        model.forget()
        pool.seed(seed)
        name = f"start-{config.seed}-{number}"
        collector = Collector(model, BudgetedPool(pool, left), sampling, context, name, config.history)
        played = collect(collector, drawn[number][:groups], config.group_size) if groups else []
        return [rollout.trajectory for group in played for rollout in group]

    return play
