"""The learning curve of a report as inline SVG: dreamed and real success side by side, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .evaluate import Evaluation

WIDTH, HEIGHT = 860, 340
LEFT, RIGHT, TOP, BOTTOM = 54, 150, 16, 44


@dataclass(frozen=True)
class Point:
    """Success on held-out tasks after `update` updates, dreamed and real."""

    update: int
    dream: Evaluation
    real: Evaluation


@dataclass(frozen=True)
class _Axes:
    """Maps updates and rates (in [0, `top`]) to pixels."""

    last: int
    top: float

    def x(self, update: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * update / max(1, self.last)

    def y(self, rate: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / self.top


def learning_curve(points: Sequence[Point]) -> str:
    """An `<svg>` element. Rates start at 0 on the axis; bands are 95% intervals; each mark has its figures as a title.

    Raises:
        ValueError: there is no point.
    """
    if not points:
        raise ValueError("`points` must hold at least one evaluation, got none")
    highest = max(max(point.dream.high, point.real.high) for point in points)
    axes = _Axes(max(point.update for point in points), min(1.0, math.ceil(highest * 10) / 10) or 0.1)
    series = {
        "dream": [(point.update, point.dream) for point in points],
        "real": [(point.update, point.real) for point in points],
    }
    body = [_grid(axes), *(_series(axes, name, values) for name, values in series.items()), _labels(axes, points[-1])]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Success on held-out tasks by update, dreamed and '
        f'real" xmlns="http://www.w3.org/2000/svg">{"".join(body)}</svg>'
    )


def _grid(axes: _Axes) -> str:
    parts = []
    lines = round(axes.top * 10)
    for tenth in range(0, lines + 1, 2 if lines > 6 else 1):
        y = axes.y(tenth / 10)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tenth * 10}%</text>')
    step = max(1, math.ceil(axes.last / 10))
    for update in range(0, axes.last + 1, step):
        y = HEIGHT - BOTTOM + 18
        parts.append(f'<text class="tick" x="{axes.x(update):.1f}" y="{y}" text-anchor="middle">{update}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">updates</text>')
    return "".join(parts)


def _series(axes: _Axes, name: str, values: Sequence[tuple[int, Evaluation]]) -> str:
    line = " ".join(f"{axes.x(update):.1f},{axes.y(found.success_rate):.1f}" for update, found in values)
    upper = [f"{axes.x(update):.1f},{axes.y(found.high):.1f}" for update, found in values]
    lower = [f"{axes.x(update):.1f},{axes.y(found.low):.1f}" for update, found in reversed(values)]
    marks = "".join(
        f'<circle class="mark" cx="{axes.x(update):.1f}" cy="{axes.y(found.success_rate):.1f}" r="4">'
        f"<title>{escape(f'{name}, update {update}: {interval(found)}, n = {found.n}')}</title></circle>"
        for update, found in values
    )
    band = f'<polygon class="band" points="{" ".join([*upper, *lower])}"/>'
    return f'<g class="{name}">{band}<polyline class="line" points="{line}"/>{marks}</g>'


def _labels(axes: _Axes, last: Point) -> str:
    """The two lines' names at their ends, pushed apart where they would overlap."""
    heights = {"dream": axes.y(last.dream.success_rate), "real": axes.y(last.real.success_rate)}
    above, below = sorted(heights, key=lambda name: heights[name])
    push = max(0.0, 18 - (heights[below] - heights[above])) / 2
    heights[above] -= push
    heights[below] += push
    return "".join(
        f'<text class="name {name}" x="{axes.x(last.update) + 12:.1f}" y="{heights[name] + 5:.1f}">'
        f"{name} {100 * found.success_rate:.1f}%</text>"
        for name, found in (("dream", last.dream), ("real", last.real))
    )


def interval(found: Evaluation) -> str:
    """`45.0% [38.2, 52.0]`."""
    rate, low, high = (100 * value for value in (found.success_rate, found.low, found.high))
    return f"{rate:.1f}% [{low:.1f}, {high:.1f}]"
