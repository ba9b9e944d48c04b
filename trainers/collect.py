"""`dreamgym collect`: runs a mixture of policies in a real environment and writes offline trajectories.

Run: `python -m dreamgym_env.trainers.collect --out runs/train.jsonl --episodes 2000 --policies oracle:0.3 random:0.7`.
The environment offers its demonstrators by name (`env.unwrapped.demonstrator(name, seed)`); any object with
`act(env) -> str` serves.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

import gymnasium as gym

import dreamgym_env
from dreamgym_env.trajectories import write_trajectories
from dreamgym_env.types import Split, Task, Trajectory, Transition

from .pools import read_settings


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
    """Episodes in all, >= 1."""
    policies: tuple[str, ...] = ("oracle:0.3", "slips-0.2:0.3", "careless-0.5:0.3", "random:0.1")
    """`name:share`; shares are scaled to add up to 1."""
    split: Split = "train"
    """Which tasks."""
    settings: tuple[str, ...] = ()
    """Further keywords of `gym.make`, as name=value (`data_dir=games`)."""
    distinct_tasks: int | None = None
    """Draws from the first so many tasks of the split only (the size of the task set is then known)."""
    tasks_out: Path | None = None
    """File for every task of the environment, training and held-out, as the seed tasks of its dream."""
    annotate: bool = True
    """Whether to add the rule-based reasoning trace where the environment has one (`env.unwrapped.annotator()`)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"`episodes` must be >= 1, got {self.episodes}")


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
    """One episode of `policy` as a trajectory of real transitions."""
    state, info = env.reset(**reset)
    transitions: list[Transition] = []
    while True:
        action = policy.act(env)
        next_state, reward, terminated, truncated, info = env.step(action)
        transitions.append(
            Transition(
                task=info["task"],
                step_index=len(transitions),
                state=state,
                action=action,
                next_state=next_state,
                reward=float(reward),
                terminated=terminated,
                possible=info["possible"],
                thought=getattr(policy, "thought", ""),
            )
        )
        state = next_state
        if terminated or truncated:
            return Trajectory(info["task"], tuple(transitions), info["end_reason"], name, trajectory_id)


def episodes(config: CollectConfig) -> Iterator[Trajectory]:
    """The trajectories, one at a time, each of a policy drawn from the mixture on a task drawn uniformly."""
    env = gym.make(config.env, disable_env_checker=True, **{"split": config.split, **read_settings(config.settings)})
    unwrapped: Any = env.unwrapped
    annotator = unwrapped.annotator() if config.annotate and hasattr(unwrapped, "annotator") else None
    mixture = parse_mixture(config.policies)
    rng = random.Random(config.seed)
    policies = {name: unwrapped.demonstrator(name, rng.getrandbits(32)) for name in mixture}
    task_ids = unwrapped.task_ids[: config.distinct_tasks]
    for number in range(config.episodes):
        name = rng.choices(list(mixture), list(mixture.values()))[0]
        options = {"task_id": rng.choice(task_ids)}
        trajectory = run_episode(
            env, policies[name], name, f"{name}-{config.seed}-{number}", seed=rng.getrandbits(31), options=options
        )
        yield annotator.annotate(trajectory) if annotator else trajectory


def main(config: CollectConfig) -> dict[str, Any]:
    """Writes the file and returns counts by policy and end reason."""
    from rich.progress import track

    counts: Counter[str] = Counter()
    config.out.parent.mkdir(parents=True, exist_ok=True)

    def counted() -> Iterator[Trajectory]:
        for trajectory in track(episodes(config), "collecting", total=config.episodes):
            counts[f"{trajectory.policy}/{trajectory.end_reason}"] += 1
            counts["steps"] += len(trajectory.transitions)
            yield trajectory

    write_trajectories(config.out, counted())
    if config.tasks_out:
        counts["tasks"] = write_tasks(config.env, config.tasks_out, read_settings(config.settings))
    return {"out": str(config.out), "version": dreamgym_env.__version__, **dict(sorted(counts.items()))}


def write_tasks(env_id: str, path: Path, settings: Mapping[str, Any]) -> int:
    """Writes every task of a real environment, training and held-out, as the seed tasks of its dream; how many."""
    environments: list[Any] = [
        gym.make(env_id, disable_env_checker=True, **{**settings, "split": split}).unwrapped
        for split in ("all", *get_args(Split))
    ]
    whole, *splits = environments
    ours = {task_id for split in splits for task_id in split.task_ids}  # a world may have further splits
    tasks = [opened_task(whole, task_id) for task_id in whole.task_ids if task_id in ours]
    text = "".join(json.dumps(asdict(task)) + "\n" for task in tasks)
    data = gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return len(tasks)


def opened_task(env: Any, task_id: str) -> Task:
    """The task with its first state; opened where it is only seen then, as a web page is."""
    task: Task = env.task_of(task_id)
    if not task.initial_state:
        task = env.reset(seed=0, options={"task_id": task_id})[1]["task"]
    return task


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(CollectConfig, description=__doc__)), indent=2))
