"""How far something long has come: a bar in a terminal, lines in a log, JSON lines for plots."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from .disk import writing
from .logs import keep_lines


class ProgressBar(Progress):
    """Rich's progress bar; where there is no terminal to draw it in (a log, a batch job), a line of text at most every
    `seconds` in its place. On stderr, since stdout has a command's results, unless another `console` is given."""

    def __init__(
        self,
        *columns: Any,
        seconds: float = 30.0,
        console: Console | None = None,
        transient: bool = False,
        **settings: Any,
    ) -> None:
        console = console or Console(stderr=True)
        super().__init__(*columns, console=console, transient=transient or not console.is_terminal, **settings)
        self.seconds, self._told = seconds, time.monotonic()

    def update(self, task_id: TaskID, **fields: Any) -> None:
        super().update(task_id, **fields)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def stop(self) -> None:
        if self.console.is_terminal:
            super().stop()
        else:
            self.live.stop()  # rich's own adds an empty line

    def _tell(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if self.disable or self.console.is_terminal or now - self._told < self.seconds:
            return
        self._told = now
        (task,) = [one for one in self.tasks if one.id == task_id]
        told = [f"{task.percentage:.0f}%"] if task.total else []
        told.append(f"{task.elapsed or 0:.0f} s so far")
        if task.time_remaining is not None:
            told.append(f"{task.time_remaining:.0f} s left")
        if task.fields.get("detail"):
            told.append(task.fields["detail"])
        print(f"{task.description}: {', '.join(told)}", file=self.console.file, flush=True)


@contextmanager
def show_progress(
    title: str, log_file: Path | None = None, steps: int = 0, shown: bool = True
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A rich progress bar over `progress` in [0, 1]; every report also goes to a JSON-lines file.
    Neither where `shown` is False.

    Of an earlier run's file those lines stay that tell of the first `steps` steps, which a resumed run goes on from.
    """
    if not shown:
        yield lambda report: None
        return
    if log_file:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        keep_lines(log_file, lambda row: row["step"] <= steps)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with ProgressBar(*columns) as bar:
        task = bar.add_task(title, total=1.0, detail="")

        def on_log(report: dict[str, Any]) -> None:
            detail = f"loss {report['loss']:.4f}, {report['tokens'] / 1e6:.2f}M tokens, {report['tokens_per_second']}/s"
            bar.update(task, completed=report["progress"], detail=detail)
            if log_file:
                with writing(log_file), log_file.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(report) + "\n")

        yield on_log
        bar.update(task, completed=1.0)
