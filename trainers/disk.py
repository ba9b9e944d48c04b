"""What happens where nothing more can be written: one clear error, and nothing lost that was whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dreamgym_env.types import DataError

CHECKPOINTS = "the checkpoints are whole"


@contextmanager
def writing(target: Path, kept: str | None = CHECKPOINTS, cleared: Path | None = None) -> Iterator[None]:
    """Tells a failure to write `target`, a full disk above all, as one error that says what is left and what to do.

    `kept` is what a resumed job goes on from, None for a job that can only be begun anew. `cleared` is what was written
    so far, a folder or a file: deleted, so that it takes no room.

    Raises:
        DataError: nothing more can be written.
    """
    try:
        yield
    except Exception as error:
        reason = failure(error)
        if reason is None:
            raise
        if cleared is not None and cleared.is_dir():
            shutil.rmtree(cleared, ignore_errors=True)
        elif cleared is not None:
            cleared.unlink(missing_ok=True)
        remedy = f"{kept}: make room, then go on with `resume`" if kept else "make room, then give the command again"
        raise DataError(f"{target} cannot be written ({reason}); {remedy}") from error


def check_writable(*files: Path | str | None) -> None:
    """Makes the folders of the files asked for, so that what cannot be written is told before the work and not after.

    Raises:
        DataError: one of them cannot be a file there.
    """
    for file in (Path(file) for file in files if file is not None):
        with writing(file, kept=None):
            file.parent.mkdir(parents=True, exist_ok=True)
            no_file = file.is_dir()
        if no_file or not os.access(file if file.exists() else file.parent, os.W_OK):
            raise DataError(f"{file} cannot be written: it must be a file in a folder that may be written to")


def write_json(file: Path | str, record: Any) -> None:
    """Writes a report.

    Raises:
        DataError: it cannot be written.
    """
    with writing(Path(file), kept=None):
        Path(file).write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


def failure(error: Exception) -> str | None:
    """Why nothing more could be written, None for an error of another kind.

    Libraries that do not write through Python have no OSError for it: safetensors has an error of its own, tokenizers a
    bare `Exception`, `torch.save` a RuntimeError that does not say why.
    """
    text = str(error)
    if isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or "(os error " in text:
        return text
    torch_failed = isinstance(error, RuntimeError) and ("inline_container" in text or "iostream" in text)
    return "torch could not write all of a file" if torch_failed else None
