"""Evaluations as tables for people: one row for each way of decoding, and success by task type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE
from rich.table import Table

from .evaluate import Evaluation


def decoding(temperature: float | None) -> str:
    """How actions were chosen, in words."""
    return "" if temperature is None else "greedy" if temperature == 0 else f"at {temperature:g}"


def tables(policy: str, results: Sequence[Evaluation]) -> list[Table]:
    """The figures of all evaluations of a policy, how their episodes ended and, where its domain names task types,
    success by type."""
    first = results[0]
    shown = Table(
        title=f"{policy} in {first.env_id} ({first.source})", title_justify="left", box=SIMPLE, collapse_padding=True
    )
    shown.add_column("", no_wrap=True)
    shown.add_column("success", no_wrap=True)
    for name in ("reward", "steps", "tokens", "invalid", "impossible"):
        shown.add_column(name, justify="right")
    for one in results:
        shown.add_row(
            decoding(one.temperature),
            rate(one.successes, one.n, one.low, one.high),
            f"{one.mean_reward:.3f}",
            f"{one.mean_steps:.1f}",
            "unknown" if one.mean_response_tokens is None else f"{one.mean_response_tokens:.0f}",
            f"{one.invalid_rate:.1%}",
            f"{one.impossible_rate:.1%}",
        )
    reasons = sorted({reason for one in results for reason in one.end_reasons})
    ends = {reason: [str(one.end_reasons.get(reason, 0)) for one in results] for reason in reasons}
    types = sorted({name for one in results for name in one.by_type})
    none = {"n": 0.0, "successes": 0.0, "low": 0.0, "high": 1.0}
    by_type = {name: [rate(**one.by_type.get(name, none)) for one in results] for name in types}
    found = [shown, _by_column("ended with", results, ends)]
    return [*found, _by_column("task type", results, by_type)] if by_type else found


def _by_column(title: str, results: Sequence[Evaluation], rows: Mapping[str, Sequence[str]]) -> Table:
    """One column for each evaluation."""
    shown = Table(title, box=SIMPLE)
    for one in results:
        shown.add_column(decoding(one.temperature), justify="right", no_wrap=True)
    for name, cells in rows.items():
        shown.add_row(name, *cells)
    return shown


def rate(successes: float, n: float, low: float, high: float) -> str:
    """A rate with its 95% interval, in %, and of how many."""
    return f"{successes / n if n else 0:.1%} [{100 * low:.1f}, {100 * high:.1f}] of {n:g}"
