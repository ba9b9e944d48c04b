"""What happens where nothing more can be written: one clear error, and nothing lost that was whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamgym_env.types import DataError


@contextmanager
def writing(target: Path, kept: str, cleared: Path | None = None) -> Iterator[None]:
    """Tells a failure to write `target`, a full disk above all, as one error that says what is left and what to do.

    `cleared` is what was written so far: deleted, so that it takes no room.

    Raises:
        DataError: nothing more can be written.
    """
    try:
        yield
    except failures() as error:
        if cleared is not None:
            shutil.rmtree(cleared, ignore_errors=True)
        raise DataError(f"{target} cannot be written ({error}); {kept}: make room, then go on with `resume`") from error


def failures() -> tuple[type[Exception], ...]:
    """What is raised where nothing more can be written: safetensors, where it is installed, has an error of its own."""
    try:
        from safetensors import SafetensorError
    except ImportError:
        return (OSError,)
    return (OSError, SafetensorError)
