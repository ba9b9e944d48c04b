"""`dreamgym plot`: learning curves of several runs, dreamed and real success on held-out tasks side by side.

Runs that differ in their seed alone, or that are given one name (`NAME=FOLDER`), belong together: each seed is a thin
line with 95% intervals, their mean a thick one. Over updates there is one panel for each such group, over real
interactions one for all. Run: `python -m dreamgym_env.trainers.plot --runs runs/dream-0 runs/dream-1`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from dreamgym_env.types import DataError

from .logs import read_metrics

SAME_RUN = ("seed", "output", "resume", "fall_back", "save_every", "keep_last", "tensorboard", "updates")
"""Settings in which the runs of one group may differ."""
COLOURS = ("#3b6fb6", "#d9822b", "#4c9f70", "#9a5fb5")


@dataclass(frozen=True)
class PlotConfig:
    """Settings of `dreamgym plot`."""

    runs: tuple[str, ...]
    """Folders of GRPO runs, with `config.json` and `metrics.jsonl`; NAME=FOLDER gives a run's group a name."""
    x: Literal["updates", "real-steps"] = "updates"
    """What success is drawn over: updates, or real interactions that the training has used."""
    envs: tuple[str, ...] = ()
    """Ids of the evaluation environments to draw; () for all."""
    out: Path = Path("runs/curves.png")
    """The picture; its ending says the format (png, svg, pdf)."""


@dataclass(frozen=True)
class Mark:
    """One evaluation: success rate and its 95% interval, in [0, 1], of `n` episodes that did not break."""

    update: int
    rate: float
    low: float
    high: float
    n: int
    real_steps: int = 0
    """Real interactions that the training had used by then."""


@dataclass(frozen=True)
class Run:
    """One run: its settings and its evaluations by environment id, in the order of updates."""

    name: str
    config: Mapping[str, Any]
    curves: Mapping[str, Sequence[Mark]]
    real_steps: int
    """Real interactions that the training used."""

    @property
    def seed(self) -> int:
        return int(self.config["seed"])


def read_run(folder: Path, name: str = "") -> Run:
    """The evaluations of a run, under the name of its group, "" where its settings decide.

    Raises:
        DataError: the folder holds no run, or one that was never evaluated.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        rows = read_metrics(folder / "metrics.jsonl")
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(
            f"{folder} must be the folder of a GRPO run, with config.json and metrics.jsonl: {error}"
        ) from error
    curves: dict[str, list[Mark]] = defaultdict(list)
    steps = 0
    for row in rows:
        steps = int(row.get("real/train_steps", steps))
        for key in row:
            if key.startswith("eval/") and key.endswith("/success_rate"):
                of = key.removesuffix("success_rate")
                rate, low, high, n = (row[of + name] for name in ("success_rate", "low", "high", "n"))
                curves[key.split("/")[1]].append(Mark(row["update"], rate, low, high, int(n), steps))
    if not curves:
        raise DataError(f"{folder} holds no evaluation: the run needs `eval_every` above 0")
    return Run(name, config, curves, steps)


def read_runs(config: PlotConfig) -> list[Run]:
    """The runs that the config names.

    Raises:
        DataError: one is no run, or none of it is left by `envs`.
    """
    found = []
    for text in config.runs:
        name, _, folder = text.rpartition("=")
        run = read_run(Path(folder), name)
        curves = {key: marks for key, marks in run.curves.items() if not config.envs or key in config.envs}
        if not curves:
            raise DataError(f"{folder} was evaluated in {sorted(run.curves)}, in none of `envs` {list(config.envs)}")
        found.append(replace(run, curves=curves))
    return found


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of one name, and runs that differ in nothing but `SAME_RUN`, by seed; in the order of their first."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        settings = {key: value for key, value in run.config.items() if key not in SAME_RUN and value is not None}
        groups[run.name or json.dumps(settings, sort_keys=True)].append(run)
    return [sorted(group, key=lambda run: run.seed) for group in groups.values()]


def means(runs: Sequence[Run], env_id: str) -> list[Mark]:
    """The runs' means, for the updates that all of them have reached; `low` and `high` are the means of theirs."""
    marks: dict[int, list[Mark]] = defaultdict(list)
    for run in runs:
        for mark in run.curves.get(env_id, ()):
            marks[mark.update].append(mark)
    return [_mean(found) for _, found in sorted(marks.items()) if len(found) == len(runs)]


def _mean(marks: Sequence[Mark]) -> Mark:
    rate, low, high, steps = (
        sum(values) / len(marks) for values in zip(*((m.rate, m.low, m.high, m.real_steps) for m in marks), strict=True)
    )
    return Mark(marks[0].update, rate, low, high, sum(mark.n for mark in marks), round(steps))


def draw(groups: Sequence[Sequence[Run]], x: str, out: Path) -> None:
    """The picture: one panel a group over updates, one panel for all over real interactions."""
    from matplotlib.figure import Figure

    count = len(groups) if x == "updates" else 1
    figure = Figure(figsize=(1.6 + 4.4 * count, 4.2) if count > 1 else (7.5, 4.6), layout="constrained")
    axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    if x == "updates":
        ids = sorted({env_id for group in groups for run in group for env_id in run.curves})
        for axis, group in zip(axes, groups, strict=True):
            for env_id, colour in zip(ids, cycle(COLOURS), strict=False):
                _draw_curves(axis, group, env_id, colour, env_id)
            axis.set_title(_title(group), fontsize=10)
    else:
        for group, colour in zip(groups, cycle(COLOURS), strict=False):
            for env_id in sorted({env_id for run in group for env_id in run.curves}):
                _draw_curves(axes[0], group, env_id, colour, f"{_name(group)}, in {env_id}", over_steps=True)
    for axis in axes:
        axis.set_xlabel("updates" if x == "updates" else "real interactions used by the training")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=9, loc="lower right", title="success", title_fontsize=9)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("success on held-out tasks, %")
    axes[0].set_ylim(bottom=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


def _name(group: Sequence[Run]) -> str:
    return group[0].name or f"trained in {group[0].config['env_id']}"


def _title(group: Sequence[Run]) -> str:
    steps = sorted(run.real_steps for run in group)
    used = f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}"
    return f"{_name(group)}\nreal interactions used: {used}"


def _draw_curves(
    axis: Any, group: Sequence[Run], env_id: str, colour: str, label: str, over_steps: bool = False
) -> None:
    """The seeds of a group as thin lines with their intervals, their mean as a thick one."""
    curves = [marks for run in group if (marks := run.curves.get(env_id, ()))]
    for number, marks in enumerate(curves):
        shift = 0.0 if over_steps else 0.12 * (number - (len(curves) - 1) / 2)  # or they would hide one another
        x = [mark.real_steps if over_steps else mark.update + shift for mark in marks]
        below, above = (
            [100 * (mark.rate - mark.low) for mark in marks],
            [100 * (mark.high - mark.rate) for mark in marks],
        )
        rates = [100 * mark.rate for mark in marks]
        axis.errorbar(x, rates, [below, above], color=colour, alpha=0.45, linewidth=0.8, capsize=2)
    if curves and (mean := means(group, env_id)):
        x = [mark.real_steps if over_steps else mark.update for mark in mean]
        told = f"{label}, mean of {len(group)} seeds" if len(group) > 1 else label
        axis.plot(x, [100 * mark.rate for mark in mean], color=colour, linewidth=2.2, label=told)


def table(group: Sequence[Run]) -> Table:
    """First and last evaluation of each of a group's runs in every environment."""
    updates = sorted({marks[-1].update for run in group for marks in run.curves.values()})
    title = f"{_name(group)}, {' or '.join(map(str, updates))} updates"
    shown = Table("seed", title=title, title_justify="left", box=SIMPLE)
    shown.add_column("success in", overflow="fold")
    for name in ("before", "after", "real steps"):
        shown.add_column(name, no_wrap=True)
    for run in group:
        for env_id, marks in run.curves.items():
            shown.add_row(str(run.seed), env_id, _told(marks[0]), _told(marks[-1]), f"{run.real_steps:,}")
    return shown


def _told(mark: Mark) -> str:
    return f"{100 * mark.rate:.1f}% [{100 * mark.low:.1f}, {100 * mark.high:.1f}]"


def main(config: PlotConfig) -> Path:
    """Draws the picture, prints the table; the picture's path."""
    groups = grouped(read_runs(config))
    draw(groups, config.x, config.out)
    for group in groups:
        Console().print(table(group))
    return config.out


if __name__ == "__main__":
    import tyro

    main(tyro.cli(PlotConfig, description=__doc__))
