"""How far something long has come: a bar in a terminal, lines in a log."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID


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
