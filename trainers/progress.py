"""How far a training has come: the bar, and JSON lines for plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from dreamgym_env.progress import ProgressBar

from .disk import writing
from .logs import keep_lines


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
