"""Held-out measures of an experience model: single predictions on real histories of held-out tasks, by generation.

Run: `python -m dreamgym_env.trainers.measure --model runs/experience --data runs/held_out.jsonl`. These figures say how
well single steps are predicted; only `dreamgym audit` says whether episodes hold (`docs/experience-model.md`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.dream import is_possible, rules_answer
from dreamgym_env.experience_model import ExperienceModel
from dreamgym_env.loading import choose_tasks, load_experience_model
from dreamgym_env.task_generator import TaskGenerator
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import Prediction, StepContext, Task, Trajectory, Transition

from .corpus import contexts_of
from .disk import check_writable, write_json
from .intervals import Share


@dataclass(frozen=True)
class MeasureConfig:
    """Settings of `dreamgym measure`."""

    data: tuple[Path, ...]
    """Trajectory files; the steps of held-out tasks in them are measured."""
    model: str = "embedded"
    """As `experience_model` of `gym.make`."""
    domain: str = "webshop"
    """The world of `data`: a bundled domain, a world file or `package.module:ATTRIBUTE`."""
    steps: int = 1500
    """Most steps measured, whole trajectories from the first on."""
    top_k: int | None = None
    """Demonstrations; None takes the checkpoint's own setting."""
    use_recall: bool = True
    """Whether earlier lines of the episode that an action refers to are shown with it."""
    as_dreamed: bool = False
    """Whether the dream is measured instead of the model by itself: rules answer impossible actions, what is known is
    repeated, temperatures are the checkpoint's own, and what contradicts the episode is drawn again."""
    variations: int = 0
    """Task variations asked of the model as M_task (Eq. 6), one try each."""
    output: Path | None = None
    """JSON file for the result."""


@dataclass(frozen=True)
class Measures:
    """Shares over single predictions, one greedy attempt each unless as dreamed; `by_action` are exact next states."""

    parsed: Share
    exact_state: Share
    by_action: dict[str, Share]
    success_precision: Share
    """Of the steps predicted to end in success, those that did."""
    success_recall: Share
    """Of the steps that ended in success, those predicted to."""
    details: dict[str, Share]
    """The domain's own measures (`item title and price`, `chosen options`, ...)."""


def measure(
    model: ExperienceModel, trajectories: Sequence[Trajectory], as_dreamed: bool = False, batch: int = 64
) -> Measures:
    """Predicts every step of the trajectories from its true history."""
    pairs = [
        (context, step)
        for trajectory in trajectories
        for context, step in zip(contexts_of(trajectory), trajectory.transitions, strict=True)
    ]
    found: list[tuple[StepContext, Transition, Any]] = []
    for start in range(0, len(pairs), batch):
        chunk = pairs[start : start + batch]
        asked = [context for context, _ in chunk if not as_dreamed or is_possible(model.domain, context)]
        results = dict(zip(map(id, asked), model.predict(asked), strict=True))
        found += [
            (context, step, results.get(id(context)) or rules_answer(model.domain, context)) for context, step in chunk
        ]
    return summarise(model.domain, found)


def summarise(domain: Domain, found: Sequence[tuple[StepContext, Transition, Any]]) -> Measures:
    """The figures of some (context, true transition, prediction or error)."""
    hits: Counter[str] = Counter()
    totals: Counter[str] = Counter()

    def count(name: str, hit: bool) -> None:
        hits[name] += hit
        totals[name] += 1

    for context, step, result in found:
        parsed = isinstance(result, Prediction)
        count("parsed", parsed)
        exact = parsed and result.next_state == step.next_state
        count("exact", exact)
        count("action " + kind_of(domain, context, step), exact)
        said = parsed and result.terminated and result.reward > 0
        if step.terminated or said:
            if said:
                count("precision", step.reward > 0)
            if step.reward > 0:
                count("recall", said)
        for name, hit in details_of(domain, context, step, result.next_state if parsed else ""):
            count("detail " + name, hit)

    def share(name: str) -> Share:
        return Share(hits[name], totals[name])

    def group(prefix: str) -> dict[str, Share]:
        return {name.removeprefix(prefix): share(name) for name in sorted(totals) if name.startswith(prefix)}

    return Measures(
        share("parsed"), share("exact"), group("action "), share("precision"), share("recall"), group("detail ")
    )


def kind_of(domain: Domain, context: StepContext, step: Transition) -> str:
    """The kind of a step, as the domain names it, or the action's verb."""
    namer = getattr(domain, "kind", None)
    if not step.possible:
        return "impossible"
    action = domain.parse_action(context.state, context.action)
    return str(namer(context)) if namer else action.name if action else "unread"


def details_of(domain: Domain, context: StepContext, step: Transition, predicted: str) -> list[tuple[str, bool]]:
    """The domain's own comparisons of a predicted with the true next state, if it has any."""
    compare = getattr(domain, "compare", None)
    return list(compare(context, step, predicted)) if compare else []


def main(config: MeasureConfig) -> dict[str, Any]:
    """Measures, prints a table and returns the result as data."""
    check_writable(config.output)
    settings: dict[str, Any] = {"use_recall": config.use_recall}
    if not config.as_dreamed:
        settings |= {"temperature": 0.0, "open_temperature": None, "attempts": 1}
        settings |= {"use_contradictions": False, "use_known": False, "use_witnesses": False}
    if config.top_k is not None:
        settings["top_k"] = config.top_k
    domain = load_domain(config.domain)
    model = load_experience_model(domain, config.model, **settings)
    measures = measure(model, held_out(config), config.as_dreamed)
    show(measures)
    report = {"config": json.loads(json.dumps(asdict(config), default=str)), **asdict(measures)}
    if config.variations:
        report["variations"] = measure_variations(model, choose_tasks(None, domain, None), config.variations)
    if config.output:
        write_json(config.output, report)
    return report


def measure_variations(model: ExperienceModel, tasks: Sequence[Task], count: int) -> dict[str, Any]:
    """How many of `count` variations of training tasks are new tasks of the domain, and why the others are not.

    Known are all tasks given, the held-out ones too. Whether a variation can be solved is not judged here.
    """
    generator = TaskGenerator(model.language_model, model.domain, max_attempts=1, known=tasks)
    seeds = [task for task in tasks if task.split == "train"][:count]
    made = [task.instruction for task in generator.propose(seeds)]
    usable = Share(len(made), len(seeds))
    Console().print(f"task variations that are new and of the domain's form: {usable}")
    return {"usable": asdict(usable), "rejections": dict(generator.rejections), "examples": made[:5]}


def held_out(config: MeasureConfig) -> list[Trajectory]:
    """Whole trajectories of held-out tasks, up to `config.steps` steps.

    Raises:
        ValueError: there is none.
    """
    chosen: list[Trajectory] = []
    steps = 0
    for path in config.data:
        for trajectory in read_trajectories(path):
            if trajectory.task.split == "held_out" and steps < config.steps:
                chosen.append(trajectory)
                steps += len(trajectory.transitions)
    if not chosen:
        raise ValueError(f"`data` must hold trajectories of held-out tasks, got none in {config.data}")
    return chosen


def show(measures: Measures) -> None:
    """Prints the shares."""
    table = Table("measure", "share [95% interval]", title="held-out single steps")
    for name in ("parsed", "exact_state", "success_precision", "success_recall"):
        table.add_row(name.replace("_", " "), str(getattr(measures, name)))
    for name, value in {**measures.details, **measures.by_action}.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(MeasureConfig, description=__doc__))
