"""What `dreamgym demo` shows in the terminal, and which episodes its report tells."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, TextColumn
from rich.table import Table
from rich.text import Text

from dreamgym_env.progress import ProgressBar
from dreamgym_env.types import Trajectory, Transition

from .agent import Rollout
from .pools import read_settings
from .report import Report, Told, comparison
from .report_curve import Point, interval
from .worlds import World

AuditRow = tuple[str, str, str, bool | None]
PACKAGES = ("dreamgym-env", "torch", "transformers", "gymnasium", "chromadb", "numpy", "bm25s", "thefuzz")

MEANINGS = {
    "dreamed_success": "episodes that succeed in the dream",
    "real_success": "episodes of the same policy and tasks that succeed for real",
    "confirmed": "dreamed successes that the rules confirm",
    "denied": "true successes that the dream denies",
    "replay_success": "dreamed successes whose actions succeed for real",
    "replay_same_state": "dreamed states that are the real ones",
    "impossible_accepted": "impossible actions that the dream accepts",
    "contradictions": "dreamed steps that deny what was said before",
    "broken": "dreams given up (masked, never scored)",
    "dreamed_finds": "dreamed first views that show what is sought",
    "real_finds": "real first views that show it",
}
"""The shares of an audit, in words."""


class Views:
    """The demo's terminal output."""

    def __init__(self, minutes: float, console: Console | None = None) -> None:
        self.minutes = minutes
        self.console = console or Console()

    def stage(self, title: str) -> None:
        """A heading."""
        self.console.rule(f"[bold]{title}", align="left")

    def episode(self, trajectory: Trajectory) -> None:
        """Task; thought, action, reasoning trace and next state of each step. Brackets in them are text, not markup."""
        self.console.print(Text(f"Task: {trajectory.task.instruction}"))
        for step in trajectory.transitions:
            if step.thought:
                self.console.print(Text(f"the agent thinks: {step.thought}", "italic cyan"))
            self.console.print(Panel(_step_text(step), title=Text(step.action, "bold"), title_align="left"))
        broke = " (the dream gave up; masked, never scored)" if trajectory.end_reason == "model_error" else ""
        self.console.print(f"End: {trajectory.end_reason}{broke}")

    def audit(self, source: str, record: Mapping[str, Any]) -> None:
        """The shares with their targets."""
        table = Table("share", "found [95% interval]", "target", "", title=Text(source, "dim"), title_justify="left")
        for name, value, target, met in audit_rows(record):
            verdict = "" if met is None else "[green]met" if met else "[red]missed"
            table.add_row(name, Text(value), target, verdict)
        self.console.print(table)
        if any(met is False for *_, met in audit_rows(record)):
            self.console.print("[red]This dream misses a target: a policy may learn to exploit it.")

    def evaluation(self, point: Point) -> None:
        """Dreamed and real success."""
        self.console.print(Text(f"real {interval(point.real)}, dream {interval(point.dream)}"))

    @contextmanager
    def training(self) -> Iterator[Callable[[int, Mapping[str, float], Point | None, float], None]]:
        """A progress bar over the time; call it with (update, metrics, latest evaluation, seconds elapsed)."""
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}", markup=False))
        with ProgressBar(*columns, console=self.console) as bar:
            task = bar.add_task("GRPO", total=self.minutes, detail="first update")

            def tell(update: int, metrics: Mapping[str, float], point: Point | None, seconds: float) -> None:
                detail = f"update {update}, training success {100 * metrics['collect/success']:.0f}%"
                if point:
                    dream, real = 100 * point.dream.success_rate, 100 * point.real.success_rate
                    detail += f", held out: dream {dream:.0f}%, real {real:.0f}%"
                bar.update(task, completed=seconds / 60, detail=f"{detail}, {seconds / 60:.1f} of {self.minutes:g} min")

            yield tell

    def result(self, report: Report, page: Path) -> None:
        """The table, and where the report is."""
        table = Table("", "starting policy", "trained policy", "change", title="held-out tasks", title_justify="left")
        for row in comparison(report.before, report.after):
            table.add_row(*map(Text, row))
        self.console.print(table)
        for name, value in report.facts.items():
            self.console.print(f"{name}: [bold]{value}")
        self.console.print(f"report: {page}", soft_wrap=True)


def _step_text(step: Transition) -> Text:
    text = Text()
    if step.reasoning_trace:
        text.append(f"{step.reasoning_trace}\n", "italic magenta")
    if not step.possible:
        text.append("impossible here: nothing happens\n", "red")
    text.append(step.next_state)
    if step.terminated:
        text.append("\nsuccess" if step.reward > 0 else "\nfailure", "bold green" if step.reward > 0 else "bold red")
    return text


def audit_rows(record: Mapping[str, Any]) -> list[AuditRow]:
    """Rows (share, found, target, met) of one policy's record in an audit's report.

    `met` is None where there is no target, or no case to judge by. What a world has no views of is left out.
    """
    from .intervals import Share
    from .trust import target_of

    rows: list[AuditRow] = []
    for name, value in record.items():
        if isinstance(value, Mapping) and set(value) == {"count", "n"} and (value["n"] or not name.endswith("_finds")):
            met = record.get("passes", {}).get(name) if value["n"] else None
            rows.append((MEANINGS.get(name, name), str(Share(**value)), target_of(name), met))
    return rows


def choose_episodes_to_tell(before: Sequence[Rollout], after: Sequence[Rollout], world: World) -> list[Told]:
    """Three dreamed episodes: a task that only the trained policy solves, before and after, and a failure after.

    Each is replayed in the real environment. Where there is no such task, others take their place.
    """
    settings = {**read_settings(world.real_settings), "split": "held_out"}
    env = gym.make(world.real, disable_env_checker=True, **settings)
    pairs = [(one.trajectory, two.trajectory) for one, two in zip(before, after, strict=True)]
    learned = next((pair for pair in pairs if pair[1].success and pair[0].end_reason == "failure"), None)
    learned = learned or next((pair for pair in pairs if pair[1].success and not pair[0].success), None) or pairs[0]
    chosen = [("Before training", learned[0]), ("After training, the same task", learned[1])]
    rest = [pair[1] for pair in pairs if pair is not learned]
    failed = next((one for one in rest if one.end_reason == "failure"), rest[0] if rest else None)
    chosen += [("After training, another task", failed)] if failed else []
    return [Told(f"{title}: {one.end_reason}", replay_remark(env, world.title, one), one) for title, one in chosen]


def replay_remark(env: Any, title: str, trajectory: Trajectory) -> str:
    """What the same actions do in the real environment."""
    from .audit import replay

    equal, succeeded = replay(env, trajectory)
    verdict = "success" if succeeded else "no success"
    return (
        f"The same actions replayed in the real {title}: {verdict}; {equal} of {len(trajectory.transitions)} states "
        "are the very same."
    )


def quieten() -> None:
    """Lets transformers show neither progress bars nor advice: the demo has its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def versions() -> dict[str, str]:
    """Package, Python and machine, for the report."""
    found = {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
