"""`dreamgym collect`: runs a mixture of policies in a real environment and writes offline trajectories.

Run: `python -m dreamgym_env.trainers.collect --out runs/train.jsonl --episodes 2000 --policies oracle:0.3 random:0.7`.
The environment offers its demonstrators by name (`env.unwrapped.demonstrator(name, seed)`); any object with
`act(env) -> str` serves. One without demonstrators is played at random. What `info` must hold: `docs/own-world.md`.
What an episode draws depends on the seed and its number alone, so that a stopped collection that goes on (`--resume`)
writes what it would have written (but for demonstrators that remember earlier episodes, as the local sites' surveyor).
"""

from __future__ import annotations

import gzip
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

import gymnasium as gym

import dreamgym_env
from dreamgym_env.locks import lock_exclusively
from dreamgym_env.progress import ProgressBar
from dreamgym_env.trajectories import append_trajectory, read_trajectories, write_trajectories
from dreamgym_env.types import DataError, Split, Task, Trajectory, Transition

from .disk import writing
from .pools import find_spec, opened, read_settings, tasks_of
from .rollout import end_reason_of
from .unrefereed import RandomActor


class Policy(Protocol):
    """Who acts; sees the whole environment, so that an oracle can look behind the observations."""

    def act(self, env: Any) -> str:
        """The next action, as text."""
        ...


@dataclass(frozen=True)
class CollectConfig:
    """Settings of `dreamgym collect`."""

    env: str = "Real-WebShop-v0"
    """Gymnasium id of a real environment."""
    out: Path = Path("runs/trajectories.jsonl")
    """File to write; `.gz` compresses it."""
    episodes: int = 1000
    """Most episodes, >= 1."""
    policies: tuple[str, ...] = ("oracle:0.3", "slips-0.2:0.3", "careless-0.5:0.3", "random:0.1")
    """`name:share`; shares are scaled to add up to 1."""
    split: Split = "train"
    """Which tasks."""
    settings: tuple[str, ...] = ()
    """Further keywords of `gym.make`, as name=value (`data_dir=games`)."""
    distinct_tasks: int | None = None
    """Draws from the first so many tasks of the split only (the size of the task set is then known)."""
    transitions: int | None = None
    """Most transitions in all, >= 1: collecting ends before an episode that might take more. None for no bound."""
    tasks_out: Path | None = None
    """File for every task of the environment, training and held-out, as the seed tasks of its dream."""
    annotate: bool = True
    """Whether to add the rule-based reasoning trace where the environment has one (`env.unwrapped.annotator()`)."""
    resume: bool = False
    """Goes on after the episodes that a stopped run has left beside `out`, if there are any."""
    seed: int = 0
    """Seed of which task each episode plays and of what its policy does there."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"`episodes` must be >= 1, got {self.episodes}")
        if self.transitions is not None and self.transitions < 1:
            raise ValueError(f"`transitions` must be >= 1 or None, got {self.transitions}")

    @property
    def partial(self) -> Path:
        """Where the episodes are until the last one is there."""
        return self.out.with_name(f".{self.out.name}.partial")

    @property
    def lock(self) -> Path:
        """Held while they are collected."""
        return self.out.with_name(f".{self.out.name}.lock")


def parse_mixture(policies: Sequence[str]) -> dict[str, float]:
    """`("oracle:0.3", "random:0.7")` as shares that add up to 1.

    Raises:
        ValueError: an entry is not `name:share` with share > 0, or there is none.
    """
    shares: dict[str, float] = {}
    for entry in policies:
        name, _, share = entry.rpartition(":")
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = 0.0
        if not name or shares[name] <= 0:
            raise ValueError(f"`policies` must be entries like 'oracle:0.3' with a share > 0, got {entry!r}")
    if not shares:
        raise ValueError("`policies` must name at least one policy")
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def run_episode(env: Any, policy: Policy, name: str, trajectory_id: str, **reset: Any) -> Trajectory:
    """One episode of `policy` as a trajectory of real transitions.

    `info` must hold the `task`; where it has no `possible` every action was, and where it has no `end_reason` the
    reward tells. A policy with a method `see(state, info)` is shown what came before it acts.

    Raises:
        ValueError: `info` has no task.
    """
    state, info = env.reset(**reset)
    task = info.get("task")
    if not isinstance(task, Task):
        raise ValueError(f"`info` must hold the `task`, a dreamgym_env.Task, after reset, got the keys {sorted(info)}")
    transitions: list[Transition] = []
    while True:
        if hasattr(policy, "see"):
            policy.see(state, info)
        action = policy.act(env)
        next_state, reward, terminated, truncated, info = env.step(action)
        transitions.append(
            Transition(
                task=task,
                step_index=len(transitions),
                state=state,
                action=action,
                next_state=next_state,
                reward=float(reward) if "end_reason" in info else float(terminated and reward > 0),
                terminated=terminated,
                possible=info.get("possible", True),
                thought=getattr(policy, "thought", ""),
            )
        )
        state = next_state
        if terminated or truncated:
            reason = end_reason_of((next_state, float(reward), terminated, truncated, info))
            return Trajectory(task, tuple(transitions), reason, name, trajectory_id)


def demonstrator_of(env: Any, name: str, seed: int) -> Policy:
    """The environment's own demonstrator, or one at random where it has none.

    Raises:
        ValueError: it has none, and another than "random" is asked for.
    """
    if hasattr(env, "demonstrator"):
        found: Policy = env.demonstrator(name, seed)
        return found
    if name != "random":
        raise ValueError(
            f"`policies` must be random:1 where the environment has no `demonstrator(name, seed)`, got {name!r}"
        )
    return RandomActor(seed)


def episodes(config: CollectConfig, done: Sequence[Trajectory] = ()) -> Iterator[Trajectory]:
    """The trajectories after the first ones, which are `done`, one at a time, each of a policy drawn from the mixture
    on a task drawn uniformly.

    Raises:
        DataError: `done` are not the first trajectories of this config.
    """
    find_spec(config.env)
    env = gym.make(config.env, disable_env_checker=True, **{"split": config.split, **read_settings(config.settings)})
    unwrapped: Any = env.unwrapped
    annotator = unwrapped.annotator() if config.annotate and hasattr(unwrapped, "annotator") else None
    mixture = parse_mixture(config.policies)
    offered = getattr(unwrapped, "task_ids", None) or [task.task_id for task in tasks_of(unwrapped)]
    task_ids = offered[: config.distinct_tasks]
    longest = getattr(unwrapped, "horizon", None) or unwrapped.domain.horizon
    used = 0
    for number in range(config.episodes):
        if config.transitions is not None and used + longest > config.transitions:
            return
        rng = random.Random(f"{config.seed}-{number}")
        name = rng.choices(list(mixture), list(mixture.values()))[0]
        task_id, name_of_it = rng.choice(task_ids), f"{name}-{config.seed}-{number}"
        if number < len(done):
            if (done[number].trajectory_id, done[number].task.task_id) != (name_of_it, task_id):
                raise DataError(
                    f"{config.partial} must hold what this collection began with, {name_of_it} on {task_id}, got "
                    f"{done[number].trajectory_id} on {done[number].task.task_id}; delete it, or leave out `resume`"
                )
            used += len(done[number].transitions)
            continue
        policy = demonstrator_of(unwrapped, name, rng.getrandbits(32))
        options = {"task_id": task_id}
        trajectory = run_episode(env, policy, name, name_of_it, seed=rng.getrandbits(31), options=options)
        used += len(trajectory.transitions)
        yield annotator.annotate(trajectory) if annotator else trajectory


def main(config: CollectConfig) -> dict[str, Any]:
    """Writes the file and returns counts by policy and end reason."""
    counts: Counter[str] = Counter()

    def count(trajectory: Trajectory) -> None:
        counts[f"{trajectory.policy}/{trajectory.end_reason}"] += 1
        counts["steps"] += len(trajectory.transitions)

    config.out.parent.mkdir(parents=True, exist_ok=True)
    if config.resume and config.out.exists() and not config.partial.exists():
        for trajectory in read_trajectories(config.out):  # nothing is left to do
            count(trajectory)
    else:
        collect(config, count)
    if config.tasks_out:
        counts["tasks"] = write_tasks(config.env, config.tasks_out, read_settings(config.settings))
    return {"out": str(config.out), "version": dreamgym_env.__version__, **dict(sorted(counts.items()))}


def collect(config: CollectConfig, on_trajectory: Callable[[Trajectory], None]) -> None:
    """All episodes, each on the disk as soon as it has ended; `out` appears when the last one is there."""
    with ProgressBar() as bar, config.lock.open("a", encoding="utf-8") as lock:
        try:
            lock_exclusively(lock)
        except OSError as error:
            raise DataError(
                f"{config.out} is being collected by another process; wait for it, or give another `out`"
            ) from error
        done = left_behind(config.partial) if config.resume else []
        if not done:
            config.partial.write_bytes(b"")
        line = bar.add_task("collecting", total=config.transitions or config.episodes)

        def note(trajectory: Trajectory) -> None:
            on_trajectory(trajectory)
            bar.advance(line, len(trajectory.transitions) if config.transitions else 1)

        for trajectory in done:
            note(trajectory)
        for trajectory in episodes(config, done):
            with writing(config.partial, "the episodes before this one are whole"):
                append_trajectory(config.partial, trajectory)
            note(trajectory)
        if config.out.suffix == ".gz":
            write_trajectories(config.out, read_trajectories(config.partial))
            config.partial.unlink()
        else:
            os.replace(config.partial, config.out)
        with suppress(PermissionError):  # Windows keeps a file that is open
            config.lock.unlink()


def left_behind(partial: Path) -> list[Trajectory]:
    """The whole episodes of a stopped run; a line that it was writing is taken off."""
    if not partial.exists():
        return []
    with partial.open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
    return list(read_trajectories(partial))


def write_tasks(env_id: str, path: Path, settings: Mapping[str, Any]) -> int:
    """Writes every task of a real environment, training and held-out, as the seed tasks of its dream; how many."""
    environments: list[Any] = [
        gym.make(env_id, disable_env_checker=True, **{**settings, "split": split}).unwrapped
        for split in ("all", *get_args(Split))
    ]
    whole, *splits = environments
    ours = {task_id for split in splits for task_id in split.task_ids}  # a world may have further splits
    chosen = [task_id for task_id in whole.task_ids if task_id in ours]
    with ProgressBar() as bar:
        tasks = [opened_task(whole, task_id) for task_id in bar.track(chosen, description="opening tasks")]
    text = "".join(json.dumps(asdict(task)) + "\n" for task in tasks)
    data = gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return len(tasks)


def opened_task(env: Any, task_id: str) -> Task:
    """The task with its first state; opened where it is only seen then, as a web page is."""
    task: Task = env.task_of(task_id)
    if not task.initial_state:
        task = opened(task, env.reset(seed=0, options={"task_id": task_id})[1])
    return task


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(CollectConfig, description=__doc__)), indent=2))
