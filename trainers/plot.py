"""`dreamgym plot`: learning curves of several runs, dreamed and real success on held-out tasks side by side.

Runs that differ in their seed alone are one panel; each seed is a thin line with 95% intervals, their mean a thick one.
Run: `python -m dreamgym_env.trainers.plot --runs runs/dream-0 runs/dream-1 --out runs/curves.png`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from dreamgym_env.types import DataError

from .logs import read_metrics

SAME_RUN = ("seed", "output", "resume", "fall_back", "save_every", "keep_last", "tensorboard", "updates")
"""Settings in which the runs of one panel may differ."""
COLOURS = ("#3b6fb6", "#d9822b", "#4c9f70", "#9a5fb5")


@dataclass(frozen=True)
class PlotConfig:
    """Settings of `dreamgym plot`."""

    runs: tuple[Path, ...]
    """Folders of GRPO runs, with `config.json` and `metrics.jsonl`."""
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


@dataclass(frozen=True)
class Run:
    """One run: its settings and its evaluations by environment id, in the order of updates."""

    folder: Path
    config: Mapping[str, Any]
    curves: Mapping[str, Sequence[Mark]]
    real_steps: int
    """Real interactions that the training used."""

    @property
    def seed(self) -> int:
        return int(self.config["seed"])


def read_run(folder: Path) -> Run:
    """The evaluations of a run.

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
    for row in rows:
        for key in row:
            if key.startswith("eval/") and key.endswith("/success_rate"):
                of = key.removesuffix("success_rate")
                rate, low, high, n = (row[of + name] for name in ("success_rate", "low", "high", "n"))
                curves[key.split("/")[1]].append(Mark(row["update"], rate, low, high, int(n)))
    if not curves:
        raise DataError(f"{folder} holds no evaluation: the run needs `eval_every` above 0")
    steps = max((int(row.get("real/train_steps", 0)) for row in rows), default=0)
    return Run(folder, config, curves, steps)


def panels(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in nothing but `SAME_RUN`, together, by seed; in the order of their first."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[json.dumps({k: v for k, v in run.config.items() if k not in SAME_RUN}, sort_keys=True)].append(run)
    return [sorted(group, key=lambda run: run.seed) for group in groups.values()]


def means(runs: Sequence[Run], env_id: str) -> list[tuple[int, float]]:
    """Update and mean success rate over the runs, for the updates that all of them have reached."""
    rates: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        for mark in run.curves.get(env_id, ()):
            rates[mark.update].append(mark.rate)
    return [(update, sum(found) / len(found)) for update, found in sorted(rates.items()) if len(found) == len(runs)]


def draw(groups: Sequence[Sequence[Run]], out: Path) -> None:
    """One panel a group, all on one scale, written to `out`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 + 4.4 * len(groups), 4.2), layout="constrained")
    axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    ids = sorted({env_id for group in groups for run in group for env_id in run.curves})
    for axis, group in zip(axes, groups, strict=True):
        for env_id, colour in zip(ids, _colours(), strict=False):
            _draw_curves(axis, group, env_id, colour)
        steps = sorted(run.real_steps for run in group)
        used = f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}"
        axis.set_title(f"trained in {group[0].config['env_id']}\nreal interactions used: {used}", fontsize=10)
        axis.set_xlabel("updates")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=9, loc="lower right", title="evaluated in", title_fontsize=9)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("success on held-out tasks, %")
    axes[0].set_ylim(bottom=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


def _draw_curves(axis: Any, group: Sequence[Run], env_id: str, colour: str) -> None:
    for number, run in enumerate(group):
        marks = run.curves.get(env_id, ())
        shift = 0.12 * (number - (len(group) - 1) / 2)  # or the intervals of the seeds would hide one another
        x, y = [mark.update + shift for mark in marks], [100 * mark.rate for mark in marks]
        below, above = (
            [100 * (mark.rate - mark.low) for mark in marks],
            [100 * (mark.high - mark.rate) for mark in marks],
        )
        axis.errorbar(x, y, [below, above], color=colour, alpha=0.45, linewidth=0.8, capsize=2)
    if mean := means(group, env_id):
        label = f"{env_id}, mean of {len(group)} seeds" if len(group) > 1 else env_id
        axis.plot(
            [update for update, _ in mean], [100 * rate for _, rate in mean], color=colour, linewidth=2.2, label=label
        )


def _colours() -> Iterator[str]:
    while True:
        yield from COLOURS


def table(group: Sequence[Run]) -> Table:
    """First and last evaluation of each of a panel's runs in every environment."""
    updates = sorted({marks[-1].update for run in group for marks in run.curves.values()})
    title = f"trained in {group[0].config['env_id']}, {' or '.join(map(str, updates))} updates"
    shown = Table("seed", "success in", title=title, title_justify="left", box=SIMPLE)
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
    groups = panels([read_run(folder) for folder in config.runs])
    draw(groups, config.out)
    for group in groups:
        Console().print(table(group))
    return config.out


if __name__ == "__main__":
    import tyro

    main(tyro.cli(PlotConfig, description=__doc__))
