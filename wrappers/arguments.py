"""What the real environments check alike: arguments with a few allowed values, and the options of `reset`."""

from __future__ import annotations

from typing import Any

from dreamgym_env.types import Task


def asked_task(options: dict[str, Any]) -> str | None:
    """The id of the task that `reset(options=...)` names, None where it names none.

    Raises:
        ValueError: an option is unknown or no task.
    """
    if unknown := set(options) - {"task", "task_id"}:
        raise ValueError(f"`options` takes 'task' or 'task_id', got {sorted(unknown)}")
    task = options.get("task")
    if task is not None and not isinstance(task, Task):
        raise ValueError(f"options['task'] must be a dreamgym_env.Task, got {type(task).__name__}")
    return task.task_id if task is not None else options.get("task_id")


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Checks an argument.

    Raises:
        ValueError: the value is none of those allowed.
    """
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {list(allowed)}, got {value!r}")
