"""Checks a world of one's own: its file, tasks and trajectories, line by line, and what its rules say of them."""

from __future__ import annotations

import gzip
import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from dreamgym_env.domain import Assets, Domain, load_domain
from dreamgym_env.dream import is_possible
from dreamgym_env.parsing import parse_prediction
from dreamgym_env.prompts import answer
from dreamgym_env.trajectories import task_from_record, trajectory_from_record
from dreamgym_env.types import Prediction, Split, StepContext, Task, Trajectory, Transition

from .corpus import contexts_of

ENOUGH = 100
"""Trajectories that are a good start."""
LET_THROUGH = "impossible steps that `available` lets through"
_SHOWN = 5
"""Findings of one kind that are shown; the rest is counted."""


@dataclass
class Report:
    """What was found: `problems` by kind, each with its place; `notes` are advice; `counts` what there is."""

    path: Path
    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def wrong(self) -> int:
        """Problems in all."""
        return sum(map(len, self.problems.values()))


def check_world(path: Path) -> Report:
    """Reads all that belongs to the world file.

    Raises:
        DataError: the world file itself cannot be used.
    """
    domain, report = load_domain(str(path) if path.suffix else f"{path}.yaml"), Report(path)
    assets: Assets = domain.assets  # type: ignore[attr-defined]
    tasks = check_tasks(report, domain, assets.tasks) if assets.tasks else {}
    if assets.trajectories is None:
        report.problems["missing"].append(f"trajectories.jsonl: none beside {path.name}, and no key `trajectories`")
    else:
        check_trajectories(report, domain, assets.trajectories, tasks)
    if not assets.tasks:
        report.notes.append("no tasks.jsonl: the seed tasks are those of the trajectories")
    advise(report, assets)
    return report


def rows_of(report: Report, path: Path) -> Iterator[tuple[str, Any]]:
    """Each line's place and JSON; what is none is a problem. Blank lines count but say nothing."""
    if not path.exists():
        report.problems["missing"].append(f"{path.name}: there is no such file at {path}")
        return
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{path.name}, line {number}"
            try:
                if line.strip():
                    yield where, json.loads(line)
            except ValueError as error:
                report.problems["no JSON"].append(f"{where}: {error}")


def check_tasks(report: Report, domain: Domain, path: Path) -> dict[str, Task]:
    """The tasks by id; what is wrong with them goes into the report."""
    tasks: dict[str, Task] = {}
    same: dict[tuple[str, str], Task] = {}
    for where, row in rows_of(report, path):
        if not isinstance(row, dict) or row.get("split") not in get_args(Split):
            got = row.get("split") if isinstance(row, dict) else row
            report.problems["task without a split"].append(
                f"{where}: `split` must be one of {list(get_args(Split))}, got {got!r}"
            )
            row = {**row, "split": "train"} if isinstance(row, dict) else {}
        try:
            task = task_from_record({"domain": domain.name, **row})
        except ValueError as error:
            report.problems["no task"].append(f"{where}: {error}")
            continue
        check_task(report, domain, where, task)
        if task.task_id in tasks:
            report.problems["duplicate task id"].append(f"{where}: {task.task_id!r} stands above already")
        first = same.setdefault((task.instruction, task.initial_state), task)
        if first is not task and first.task_id != task.task_id:
            across = ", one held out and one for training" if first.split != task.split else ""
            report.counts[f"tasks that begin as another does{across}"] += 1
        tasks.setdefault(task.task_id, task)
        report.counts[f"tasks, {task.split}"] += 1
    return tasks


def check_task(report: Report, domain: Domain, where: str, task: Task) -> None:
    """One task by itself."""
    if task.domain != domain.name:
        report.problems["another world"].append(f"{where}: `domain` must be {domain.name!r}, got {task.domain!r}")
    if not task.initial_state.strip():
        report.problems["empty state"].append(f"{where}: `initial_state` must show something")
    if reason := domain.task_problem(task):
        report.problems["instruction"].append(f"{where}: the instruction {reason}, got {task.instruction[:80]!r}")


def check_trajectories(report: Report, domain: Domain, path: Path, tasks: dict[str, Task]) -> None:
    """Every line of the trajectories, and how the world's rules read each step."""
    ids: dict[str, str] = {}
    episodes: dict[tuple[str, ...], str] = {}
    starts: dict[str, Task] = dict(tasks)
    for where, row in rows_of(report, path):
        try:
            trajectory = trajectory_from_record(row)
        except ValueError as error:
            report.problems["no trajectory"].append(f"{where}: {error}")
            continue
        task = trajectory.task
        report.counts[f"trajectories, {task.split}"] += 1
        report.counts[f"end: {trajectory.end_reason}"] += 1
        name = trajectory.trajectory_id
        if not name or ids.setdefault(name, where) != where:
            said = f"{name!r} is that of {ids[name]}" if name else "there is none"
            report.problems["trajectory id"].append(f"{where}: `trajectory_id` must be its own, {said}")
        key = (task.task_id, *(step.action for step in trajectory.transitions))
        if episodes.setdefault(key, where) != where:
            report.counts["episodes that repeat another (same task, same actions)"] += 1
        if task.domain != domain.name:
            report.problems["another world"].append(f"{where}: `domain` must be {domain.name!r}, got {task.domain!r}")
            continue
        first = starts.setdefault(task.task_id, task)
        if (first.initial_state, first.instruction, first.split) != (task.initial_state, task.instruction, task.split):
            report.problems["two tasks of one id"].append(
                f"{where}: task {task.task_id!r} has another instruction, initial state or split elsewhere"
            )
        check_steps(report, domain, where, trajectory)


def check_steps(report: Report, domain: Domain, where: str, trajectory: Trajectory) -> None:
    """Every step against the grammar and the rules; the trajectory is taken as the truth."""
    last = len(trajectory.transitions) - 1
    for context, step in zip(contexts_of(trajectory), trajectory.transitions, strict=True):
        place = f"{where}, step {step.step_index} {step.action!r}"
        report.counts["steps"] += 1
        report.counts["steps, impossible"] += not step.possible
        if step.terminated != (step.step_index == last and trajectory.end_reason in ("success", "failure")):
            report.problems["end"].append(
                f"{place}: `terminated` must be true at the last step of a success or failure and nowhere else"
            )
        for kind, reason in step_problems(domain, context, step):
            report.problems[kind].append(f"{place}: {reason}")
        known = domain.known(context) if step.possible else None
        report.counts["steps that need no model (`known`)"] += known is not None
        if not step.possible and is_possible(domain, context):
            report.counts[LET_THROUGH] += 1


def step_problems(domain: Domain, context: StepContext, step: Transition) -> Iterator[tuple[str, str]]:
    """What the world's rules get wrong of one true step, as kind and reason."""
    try:
        parse_prediction(answer(step.reasoning_trace, step.next_state, step.reward, step.terminated))
    except ValueError as error:
        yield "text that no model may say", str(error)
    can = is_possible(domain, context)
    if step.possible and domain.parse_action(step.state, step.action) is None:
        yield "action that the grammar does not read", "no pattern of `actions` fits"
    elif step.possible and not can:
        offered = domain.available_actions(context.state, context.history)
        yield "possible action that `available` refuses", f"it offers {offered[:8]}, got the state {context.state!r}"
    if not step.possible:
        said = domain.impossible_response(context.state, step.action)
        if step.next_state != said:
            yield "answer to an impossible action", f"`impossible` gives {said!r}, got {step.next_state!r}"
        return
    if not can:
        return
    known = domain.known(context)
    if known is not None and (known.next_state != step.next_state or step.terminated):
        yield "`known` is not so", f"gives {known.next_state!r}, got {step.next_state!r}"
        return
    truth = Prediction("", step.next_state, step.reward, step.terminated)
    if reason := domain.contradiction(context, truth):
        yield "true state that the rules call a contradiction", f"{reason}; got {step.next_state!r}"


def advise(report: Report, assets: Assets) -> None:
    """What would make the world better, though nothing is wrong."""
    counts, train, held = report.counts, "trajectories, train", "trajectories, held_out"
    if counts[train] < ENOUGH:
        report.notes.append(f"{counts[train]} training trajectories; about {ENOUGH} are a good start")
    if not counts[held]:
        report.notes.append("no trajectory of a held-out task: `dreamgym measure` needs some, in a file of their own")
    if assets.tasks and not counts["tasks, held_out"]:
        report.notes.append("no held-out task: nothing to evaluate a policy on")
    if counts[train] and not counts["end: failure"] + counts["end: time_limit"]:
        report.notes.append("every episode succeeds: a dream learns what fails from episodes that do, random ones too")
    if alike := sum(count for name, count in counts.items() if name.startswith("tasks that begin")):
        report.notes.append(
            f"{alike} tasks have the instruction and the initial state of another: fine where what lies behind "
            "differs, else leave them out, and never have one held out beside one for training"
        )
    if counts[LET_THROUGH]:
        report.notes.append(
            f"`available` lets {counts[LET_THROUGH]} of {counts['steps, impossible']} impossible steps through: the "
            "model has to know better each time; rules that read the state are surer"
        )
    if not counts["end: success"]:
        report.notes.append("no episode succeeds: the dream cannot learn what success is")


def show(report: Report) -> None:
    """Prints counts, problems and notes, and the commands that come next."""
    print(f"{report.path}")
    for name, count in report.counts.items():
        print(f"  {count:6}  {name}")
    for kind, found in report.problems.items():
        print(f"\nWRONG, {len(found)} x {kind}:")
        for line in found[:_SHOWN]:
            print(f"  {_short(line)}")
        if len(found) > _SHOWN:
            print(f"  ... and {len(found) - _SHOWN} more")
    for note in report.notes:
        print(f"\nnote: {note}")
    if not report.wrong:
        print(f"\nNothing is wrong. Next:\n{next_commands(report)}")


def next_commands(report: Report) -> str:
    """The commands that make a dream of the world."""
    world, folder = shlex.quote(str(report.path)), shlex.quote(str(report.path.parent))
    held = f"{folder}/trajectories.jsonl" if report.counts["trajectories, held_out"] else "FILE_WITH_HELD_OUT_TASKS"
    return "\n".join(
        (
            f"  dreamgym fit-vocabulary --domain {world} --data {folder}/trajectories.jsonl --out {folder}/words",
            f"  dreamgym train-experience --domain {world} --data {folder}/trajectories.jsonl --base {folder}/words \\",
            f"      --vocabulary keep --permute-share 0 --out {folder}/experience --max-minutes 10",
            f"  dreamgym measure --domain {world} --model {folder}/experience --data {held}",
            f'  gym.make("DreamGym-v0", domain="{report.path}", experience_model="{report.path.parent}/experience")',
        )
    )


def _short(line: str, length: int = 400) -> str:
    return line if len(line) <= length else f"{line[:length]} ..."
