"""`dreamgym new-world`: writes the files of a world of your own, commented, and checks them line by line.

Run: `dreamgym new-world --out kitchen` for a small example to change, or `--from-trajectories FILE ...` for a first
draft read off your own episodes; then `dreamgym new-world --check kitchen`. See `docs/own-world.md`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dreamgym_env.domain import DOMAINS
from dreamgym_env.trajectories import read_trajectories, task_record, write_trajectories
from dreamgym_env.types import DataError, Task, Trajectory

from .new_world_check import check_world, show
from .new_world_draft import Draft, draft_of, example_draft, example_trajectories
from .new_world_text import world_text

WORLD, TASKS, TRAJECTORIES = "world.yaml", "tasks.jsonl", "trajectories.jsonl"


@dataclass(frozen=True)
class NewWorldConfig:
    """Settings of `dreamgym new-world`: either `out` or `check`."""

    out: Path | None = None
    """Folder to write world.yaml, tasks.jsonl and trajectories.jsonl to; files that are there are never overwritten."""
    check: Path | None = None
    """Folder (or world file) to check instead; nothing is written."""
    from_trajectories: tuple[Path, ...] = ()
    """Trajectory files (`dreamgym collect`, docs/data-format.md) that a first draft is read off."""
    name: str | None = None
    """The world's name; None takes that of the trajectories' tasks, or the folder's."""

    def __post_init__(self) -> None:
        if (self.out is None) == (self.check is None):
            raise ValueError("give either `out`, a folder to write to, or `check`, a folder to check")
        if self.check and self.from_trajectories:
            raise ValueError("`from_trajectories` goes with `out`")


def main(config: NewWorldConfig) -> dict[str, Any] | None:
    """Writes or checks; returns counts. What a check finds is printed.

    Raises:
        DataError: the check found something wrong, or a file that would be written is there already.
    """
    if config.check is not None:
        report = check_world(config.check / WORLD if config.check.is_dir() else config.check)
        show(report)
        if report.wrong:
            raise DataError(f"{report.wrong} things are wrong in {config.check}, see above")
        return None
    assert config.out is not None
    found = [trajectory for path in config.from_trajectories for trajectory in read_trajectories(path)]
    if config.from_trajectories and not found:
        raise DataError(f"`from_trajectories` must hold trajectories, got none in {config.from_trajectories}")
    return write_world(config.out, world_name(config, found), found)


def world_name(config: NewWorldConfig, trajectories: Sequence[Trajectory]) -> str:
    """The name asked for, or the one that the tasks or the folder suggest."""
    said = {trajectory.task.domain for trajectory in trajectories}
    name = config.name or (said.pop() if len(said) == 1 else "")
    if name and re.fullmatch(r"[A-Za-z][\w-]*", name) and name not in DOMAINS:
        return name
    assert config.out is not None
    word = re.sub(r"\W+", "-", config.out.resolve().name).strip("-") or "world"
    return word if word[0].isalpha() and word not in DOMAINS else f"my-{word}"


def write_world(folder: Path, name: str, trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """Writes the three files; an example where there are no trajectories.

    Raises:
        DataError: one of the files is there already.
    """
    if there := [file for file in (WORLD, TASKS, TRAJECTORIES) if (folder / file).exists()]:
        raise DataError(f"{folder} holds {', '.join(there)} already; choose another folder, or move them away")
    draft: Draft = draft_of(trajectories) if trajectories else example_draft()
    episodes = list(renamed(trajectories, name)) or example_trajectories(name)
    tasks: dict[str, Task] = {one.task.task_id: one.task for one in episodes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WORLD).write_text(world_text(name, draft), encoding="utf-8")
    lines = "".join(json.dumps(task_record(task)) + "\n" for task in tasks.values())
    (folder / TASKS).write_text(lines, encoding="utf-8")
    write_trajectories(folder / TRAJECTORIES, episodes)
    return {
        "out": str(folder / WORLD),
        "tasks": len(tasks),
        "trajectories": len(episodes),
        "next": f"edit {folder / WORLD}, then: dreamgym new-world --check {folder}",
    }


def renamed(trajectories: Sequence[Trajectory], name: str) -> Iterator[Trajectory]:
    """The trajectories with the world's name in their tasks, each with an id of its own: files may share ids."""
    taken: Counter[str] = Counter()
    for one in trajectories:
        task = replace(one.task, domain=name)
        steps = tuple(replace(step, task=task) for step in one.transitions)
        said = one.trajectory_id or one.policy or "episode"
        taken[said] += 1
        own = said if taken[said] == 1 else f"{said}.{taken[said]}"
        yield replace(one, task=task, transitions=steps, trajectory_id=own)


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(NewWorldConfig, description=__doc__)), indent=2))
