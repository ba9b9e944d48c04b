"""Shares, their 95% intervals, and those of differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


def wilson_interval(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of k successes in n trials, 95% by default; (0, 1) where n is 0.

    Raises:
        ValueError: not 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"`k` must be in [0, n], got k={k}, n={n}")
    if n == 0:
        return 0.0, 1.0
    rate, weight = k / n, z * z / n
    centre = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(rate * (1 - rate) / n + weight / (4 * n))
    # At the ends the bound is exact in theory; rounding must not leave the rate outside its interval.
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


@dataclass(frozen=True)
class Share:
    """`count` of `n`, with the 95% Wilson interval of the share."""

    count: int
    n: int

    @property
    def rate(self) -> float | None:
        return self.count / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.count, self.n)

    def __str__(self) -> str:
        if not self.n:
            return "-"
        low, high = self.interval
        return f"{self.count}/{self.n} = {self.count / self.n:.3f} [{low:.3f}, {high:.3f}]"


class Rated(Protocol):
    """A success rate with its interval."""

    @property
    def success_rate(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def difference_interval(before: Rated, after: Rated) -> tuple[float, float, float]:
    """Change of the success rate and its 95% interval, each in [-1, 1] (Newcombe's hybrid score, from Wilson's bounds).

    It takes the two as independent, which is cautious where they played the same tasks.
    """
    change = after.success_rate - before.success_rate
    down = math.hypot(after.success_rate - after.low, before.high - before.success_rate)
    up = math.hypot(after.high - after.success_rate, before.success_rate - before.low)
    return change, change - down, change + up
