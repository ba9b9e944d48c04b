"""Where figures go: one JSON object a line (`metrics.jsonl`) and TensorBoard."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from .disk import writing


class MetricsLog:
    """Appends figures to `folder/metrics.jsonl` and, where it is installed, to TensorBoard event files.

    A resumed run passes `resume_from`: later lines of the interrupted run are dropped, so that no update is told twice.
    """

    def __init__(
        self, folder: Path, resume_from: int | None = None, tensorboard: bool = True, *, enabled: bool = True
    ) -> None:
        self.enabled, self.path = enabled, folder / "metrics.jsonl"
        self._board: Any = None
        if not enabled:
            return
        folder.mkdir(parents=True, exist_ok=True)
        keep_lines(self.path, lambda row: resume_from is not None and row["update"] <= resume_from)
        self._board = _summary_writer(folder, None if resume_from is None else resume_from + 1) if tensorboard else None

    def write(self, update: int, values: Mapping[str, float]) -> None:
        """One line, where the log is `enabled`. What is not finite is null: JSON has no word for it."""
        if not self.enabled:
            return
        row = {"update": update, **{k: v if math.isfinite(v) else None for k, v in values.items()}}
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, value, update)
            self._board.flush()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Leaves those lines that are wanted, none where there is no file; a kill leaves the file as it was."""
    rows = read_metrics(path) if path.exists() else []
    partial = path.with_suffix(".partial")
    with writing(path, cleared=partial):
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows if wanted(row)), encoding="utf-8")
    os.replace(partial, path)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; one that a kill cut off at the end is left out."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _summary_writer(folder: Path, purge_step: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step)  # type: ignore[no-untyped-call]
