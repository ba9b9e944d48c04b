"""A table told: Markdown, JSON, a figure and a table on the screen, from the cells that are finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from .intervals import difference_interval, wilson_interval
from .table_cells import Cell, Cost
from .table_rows import TITLES

COLOURS = {"start": "#8a93a0", "sft": "#d9822b", "dpo": "#d9822b", "sim-to-real": "#3b6fb6", "real": "#0b7a5c"}
"""Of a row's bar, by what its name ends in; `DREAMED` for all others."""
DREAMED = "#6d4bc3"
HEAD = ("", "real transitions", "dreamed steps", "CPU hours", "real success, all seeds", "by seed")


@dataclass(frozen=True)
class Pooled:
    """A row over all of its finished seeds: their episodes together, and the mean cost of one seed.

    `low` and `high` are the 95% Wilson interval of `successes` in `n`, which takes all episodes as independent.
    """

    row: str
    successes: int
    n: int
    cost: Cost
    cells: tuple[Cell, ...]

    @property
    def success_rate(self) -> float:
        return self.successes / self.n if self.n else 0.0

    @property
    def low(self) -> float:
        return wilson_interval(self.successes, self.n)[0]

    @property
    def high(self) -> float:
        return wilson_interval(self.successes, self.n)[1]


def pooled(cells: Sequence[Cell]) -> Pooled:
    """The finished cells of one row as one."""
    total, count = sum((cell.cost for cell in cells), Cost()), len(cells)
    mean = Cost(round(total.real_steps / count), round(total.dream_steps / count), total.cpu_seconds / count)
    ordered = tuple(sorted(cells, key=lambda cell: cell.seed))
    return Pooled(cells[0].row, sum(c.successes for c in cells), sum(c.n for c in cells), mean, ordered)


def cells_of(row: Pooled) -> list[str]:
    """The row's text, one entry for each of `HEAD`."""
    hours = row.cost.cpu_seconds / 3600
    seeds = [f"{told(cell.successes, cell.n)} (seed {cell.seed}, n = {cell.n})" for cell in row.cells]
    return [
        TITLES[row.row],
        f"{row.cost.real_steps:,}",
        f"{row.cost.dream_steps:,}",
        f"{hours:.2f}" if hours >= 0.1 else f"{hours:.2g}",
        f"{told(row.successes, row.n)}, n = {row.n}",
        "; ".join(seeds),
    ]


def told(successes: int, n: int) -> str:
    """`45.0% [38.2, 52.0]`."""
    low, high = (100 * bound for bound in wilson_interval(successes, n))
    return f"{100 * successes / n if n else 0.0:.1f}% [{low:.1f}, {high:.1f}]"


def differences(rows: Sequence[Pooled], against: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(row, the row that it is held against, `+3.0 points [-1.2, 7.1]`) where both are there, by Newcombe's method."""
    by_name = {row.row: row for row in rows}
    found = []
    for name, other in against.items():
        if name in by_name and other in by_name:
            change, low, high = (100 * value for value in difference_interval(by_name[other], by_name[name]))
            found.append((TITLES[name], TITLES[other], f"{change:+.1f} points [{low:.1f}, {high:.1f}]"))
    return found


def as_markdown(title: str, facts: Sequence[str], rows: Sequence[Pooled], against: Mapping[str, str]) -> str:
    """The table as a Markdown page."""
    lines = [f"# {title}", "", *(f"- {fact}" for fact in facts), "", *_markdown_table(HEAD, map(cells_of, rows))]
    if compared := differences(rows, against):
        lines += ["", *_markdown_table(("", "against", "difference in real success"), compared)]
    return "\n".join(lines) + "\n"


def _markdown_table(head: Sequence[str], rows: Any) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def as_data(title: str, settings: Mapping[str, Any], rows: Sequence[Pooled], against: Mapping[str, str]) -> Any:
    """The table as JSON values."""
    return {
        "title": title,
        "settings": settings,
        "rows": [
            {
                "row": row.row,
                "title": TITLES[row.row],
                "success_rate": row.success_rate,
                "low": row.low,
                "high": row.high,
                "successes": row.successes,
                "n": row.n,
                "mean_cost_of_a_seed": asdict(row.cost),
                "cells": [asdict(cell) for cell in row.cells],
            }
            for row in rows
        ],
        "differences": [
            dict(zip(("row", "against", "difference"), one, strict=True)) for one in differences(rows, against)
        ],
    }


def on_screen(title: str, rows: Sequence[Pooled]) -> Table:
    """The table for the terminal."""
    shown = Table(*HEAD[:-1], title=title, title_justify="left", box=SIMPLE)
    for row in rows:
        shown.add_row(*cells_of(row)[:-1])
    return shown


def draw(title: str, rows: Sequence[Pooled], out: Path) -> None:
    """A bar for each row with the interval of all its episodes, a dot for each seed, and what it cost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 1.3 + 0.5 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(rows):
        rate, low, high = (100 * value for value in (row.success_rate, row.low, row.high))
        colour = next((shade for end, shade in COLOURS.items() if row.row.endswith(end)), DREAMED)
        axis.barh(place, rate, color=colour, alpha=0.75, height=0.62)
        axis.errorbar(rate, place, xerr=[[rate - low], [high - rate]], color="#222", capsize=3, linewidth=1.2)
        rates = [100 * cell.successes / cell.n for cell in row.cells if cell.n]
        axis.plot(rates, [place] * len(rates), "o", color="white", markeredgecolor="#222", markersize=4)
        end = max([high, *rates])
        axis.annotate(f"{rate:.1f}%", (end, place), (6, 0), textcoords="offset points", va="center", fontsize=9)
    costs = [f"{row.cost.real_steps:,} real, {row.cost.dream_steps:,} dreamed" for row in rows]
    names = [f"{TITLES[row.row]}\n{cost}" for row, cost in zip(rows, costs, strict=True)]
    axis.set_yticks(range(len(rows)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, min(108.0, 100 * max([row.high for row in rows], default=1.0) + 8))
    axis.set_xlabel(
        "success on held-out tasks in the real environment, %: bar and 95% interval over all seeds, dots by seed"
    )
    axis.xaxis.label.set_fontsize(8)
    axis.set_title(title, fontsize=10, loc="left")
    axis.grid(axis="x", alpha=0.25)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
