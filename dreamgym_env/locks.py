"""A file that one process at a time may hold; the system frees it when that process ends, however it ends."""

from __future__ import annotations

from typing import IO


def lock_exclusively(file: IO[str]) -> None:
    """Locks an open file, until it is closed.

    Raises:
        OSError: another open file, here or in another process, holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
