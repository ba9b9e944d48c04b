"""Evaluations as tables for people: one row for each way of decoding, and success by task type."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from .evaluate import Evaluation


def decoding(temperature: float | None) -> str:
    """How actions were chosen, in words."""
    return "" if temperature is None else "greedy" if temperature == 0 else f"at {temperature:g}"


def tables(policy: str, results: Sequence[Evaluation]) -> list[Table]:
    """The figures of all evaluations of a policy and, where its domain names task types, success by type."""
    first = results[0]
    shown = Table("", title=f"{policy} in {first.env_id} ({first.source})", title_justify="left", box=SIMPLE)
    for name in ("success", "n", "reward", "steps", "tokens", "invalid", "impossible", "broken", "ends"):
        shown.add_column(name, justify="right" if name != "ends" else "left", no_wrap=name == "success")
    for one in results:
        shown.add_row(
            decoding(one.temperature),
            interval(one.successes, one.n, one.low, one.high),
            str(one.n),
            f"{one.mean_reward:.3f}",
            f"{one.mean_steps:.1f}",
            f"{one.mean_response_tokens:.0f}",
            f"{one.invalid_rate:.1%}",
            f"{one.impossible_rate:.1%}",
            str(one.broken),
            ", ".join(f"{name} {count}" for name, count in one.end_reasons.items()),
        )
    return [shown, *([by_type(results)] if any(one.by_type for one in results) else [])]


def by_type(results: Sequence[Evaluation]) -> Table:
    """Success by task type, one column for each evaluation."""
    shown = Table("task type", box=SIMPLE)
    for one in results:
        shown.add_column(f"success {decoding(one.temperature)}".strip(), justify="right", no_wrap=True)
    for name in sorted({name for one in results for name in one.by_type}):
        found = [one.by_type.get(name, {"n": 0, "successes": 0, "low": 0.0, "high": 1.0}) for one in results]
        shown.add_row(name, *(f"{interval(**values)} of {values['n']:g}" for values in found))
    return shown


def interval(successes: float, n: float, low: float, high: float) -> str:
    """A rate with its 95% interval, in %."""
    return f"{successes / n if n else 0:.1%} [{100 * low:.1f}, {100 * high:.1f}]"
