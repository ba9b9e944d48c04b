"""What happens where nothing more can be written: one clear error, and nothing lost that was whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
