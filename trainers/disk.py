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
    except (OSError, *_errors_of_safetensors()) as error:
        if cleared is not None:
            shutil.rmtree(cleared, ignore_errors=True)
        raise DataError(f"{target} cannot be written ({error}); {kept}: make room, then go on with `resume`") from error


def _errors_of_safetensors() -> tuple[type[Exception], ...]:
    """What safetensors raises in place of an OSError, where it is installed."""
    try:
        from safetensors import SafetensorError
    except ImportError:
        return ()
    return (SafetensorError,)
