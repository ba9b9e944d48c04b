"""The JSONL file format of trajectories: one episode a line, written whole, appended safely, read with line numbers.

    {"format": "dreamgym-trajectory-1", "trajectory_id": "oracle-17", "policy": "oracle", "source": "real",
     "end_reason": "success", "task": {"task_id": ..., "domain": ..., "instruction": ..., "initial_state": ...,
     "origin": "seed", "parent_id": null, "split": "train"},
     "transitions": [{"action": ..., "next_state": ..., "reward": 0.0, "terminated": false, "possible": true}, ...]}

A transition's `state` is left out where it equals the previous `next_state` (for the first one: the task's
`initial_state`), its `reasoning_trace` and `thought` where they are empty. `Transition.prompt` is not stored.
Everything else comes back exactly. Unknown keys are ignored. The text is ASCII (JSON escapes), so that a line is one
line in every tool.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

from dreamgym_env.types import DataError, EndReason, Source, Task, Trajectory, Transition
from dreamgym_env.types import Origin as OriginName
from dreamgym_env.types import Split as SplitName

FORMAT = "dreamgym-trajectory-1"
OnBroken = Callable[[int, str], None]


def write_trajectories(path: str | Path, trajectories: Iterable[Trajectory]) -> int:
    """Writes the file anew (gzip where the name ends in `.gz`) and gives the number of lines.

    The old file stays until the new one is complete.

    Raises:
        ValueError: see `trajectory_record`.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    count = 0
    try:
        with _open_new(partial, compressed=path.suffix == ".gz") as file:
            for trajectory in trajectories:
                file.write(_line(trajectory))
                count += 1
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def append_trajectory(path: str | Path, trajectory: Trajectory) -> None:
    """Adds one line, in one write, and flushes it; makes the file where it is absent.

    A line that an earlier run left unfinished is closed first, so that it spoils itself alone.

    Raises:
        ValueError: `path` ends in `.gz` (one cut-off gzip member would hide all that follows), or see
            `trajectory_record`.
    """
    path = Path(path)
    if path.suffix == ".gz":
        raise ValueError(f"`path` must be an uncompressed .jsonl file to append to, got {path}; compress it afterwards")
    data = _line(trajectory)
    with path.open("ab+") as file:
        if file.tell() and _last_byte(file) != b"\n":
            data = b"\n" + data
        file.write(data)
        file.flush()


def read_trajectories(
    path: str | Path, on_error: Literal["raise", "skip"] = "raise", on_broken: OnBroken | None = None
) -> Iterator[Trajectory]:
    """The file's trajectories, one at a time (gzip where the name ends in `.gz`). Blank lines count but say nothing.

    With `on_error="skip"` each broken line is left out and `on_broken(line_number, reason)` is called with it, lines
    counted from 1; without `on_broken` it is a Python warning. A gzip file that ends early is broken in its last line.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: a line is broken and `on_error` is "raise"; the message names file and line.
        ValueError: `on_error` is neither.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be 'raise' or 'skip', got {on_error!r}")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file of trajectories: {path}; `dreamgym collect` makes one")

    def report(number: int, reason: str) -> None:
        message = f"{path}, line {number}: {reason}"
        if on_error == "raise":
            raise DataError(f"{message}; repair or delete the line (in Python, on_error='skip' leaves it out)")
        if on_broken is None:
            warnings.warn(f"{message}; line skipped", stacklevel=3)
        else:
            on_broken(number, reason)

    return _read(path, report)


def trajectory_record(trajectory: Trajectory) -> dict[str, Any]:
    """The JSON object of one line.

    Raises:
        ValueError: transitions of another task, of two sources or not numbered 0, 1, 2, ..., or a reward that is not
            finite.
    """
    where = f"trajectory {trajectory.trajectory_id!r}"
    sources = {transition.source for transition in trajectory.transitions}
    if len(sources) > 1:
        raise ValueError(f"{where} must be real or a dream, got transitions of both")
    transitions, state = [], trajectory.task.initial_state
    for position, transition in enumerate(trajectory.transitions):
        if transition.task != trajectory.task or transition.step_index != position:
            got = f"task {transition.task.task_id!r}, step_index {transition.step_index}"
            raise ValueError(f"{where}: transition {position} must be step {position} of its own task, got {got}")
        transitions.append(_transition_record(transition, state))
        state = transition.next_state
    return {
        "format": FORMAT,
        "trajectory_id": trajectory.trajectory_id,
        "policy": trajectory.policy,
        "source": sources.pop() if sources else "real",
        "end_reason": trajectory.end_reason,
        "task": task_record(trajectory.task),
        "transitions": transitions,
    }


def trajectory_from_record(record: Any) -> Trajectory:
    """The trajectory of one line's JSON object.

    Raises:
        ValueError: the object is not of this format; the message names the field, what it must be and what came.
    """
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"`format` must be {FORMAT!r}, got {found!r}")
    task = task_from_record(_field(record, "task", dict))
    source = cast(Source, _choice(record, "source", get_args(Source)))
    transitions: list[Transition] = []
    for row in _field(record, "transitions", list):
        if not isinstance(row, dict):
            raise ValueError(f"`transitions` must hold objects, got {type(row).__name__}")
        state = transitions[-1].next_state if transitions else task.initial_state
        transitions.append(_transition(row, task, source, len(transitions), state))
    end_reason = cast(EndReason, _choice(record, "end_reason", get_args(EndReason)))
    policy, trajectory_id = _field(record, "policy", str, ""), _field(record, "trajectory_id", str, "")
    return Trajectory(task, tuple(transitions), end_reason, policy, trajectory_id)


def task_record(task: Task) -> dict[str, Any]:
    """The JSON object of a task."""
    return {
        "task_id": task.task_id,
        "domain": task.domain,
        "instruction": task.instruction,
        "initial_state": task.initial_state,
        "origin": task.origin,
        "parent_id": task.parent_id,
        "split": task.split,
    }


def task_from_record(record: dict[str, Any]) -> Task:
    """The task of its JSON object.

    Raises:
        ValueError: a field is missing or wrong.
    """
    parent_id = record.get("parent_id")
    if parent_id is not None and not isinstance(parent_id, str):
        raise ValueError(f"`parent_id` must be text or null, got {parent_id!r}")
    return Task(
        task_id=_field(record, "task_id", str),
        domain=_field(record, "domain", str),
        instruction=_field(record, "instruction", str),
        initial_state=_field(record, "initial_state", str),
        origin=cast(OriginName, _choice(record, "origin", get_args(OriginName), "seed")),
        parent_id=parent_id,
        split=cast(SplitName, _choice(record, "split", get_args(SplitName))),  # no default: a lost split is a leak
    )


def transition_record(transition: Transition) -> dict[str, Any]:
    """The JSON object of one transition alone, with its task, for stores that keep transitions one by one.

    Raises:
        ValueError: the reward is not finite.
    """
    record = {"step_index": transition.step_index, "source": transition.source, "task": task_record(transition.task)}
    return record | {"state": transition.state} | _transition_record(transition, transition.state)


def transition_from_record(record: Any) -> Transition:
    """The transition of `transition_record`.

    Raises:
        ValueError: a field is missing or wrong.
    """
    if not isinstance(record, dict):
        raise ValueError(f"a transition must be an object, got {type(record).__name__}")
    task = task_from_record(_field(record, "task", dict))
    source = cast(Source, _choice(record, "source", get_args(Source)))
    return _transition(record, task, source, _field(record, "step_index", int), _field(record, "state", str))


def _transition_record(transition: Transition, previous: str) -> dict[str, Any]:
    if not math.isfinite(transition.reward):
        raise ValueError(f"`reward` must be finite, got {transition.reward} at step {transition.step_index}")
    record: dict[str, Any] = {} if transition.state == previous else {"state": transition.state}
    if transition.thought:
        record["thought"] = transition.thought
    record["action"] = transition.action
    if transition.reasoning_trace:
        record["reasoning_trace"] = transition.reasoning_trace
    record["next_state"] = transition.next_state
    return record | {
        "reward": transition.reward,
        "terminated": transition.terminated,
        "possible": transition.possible,
    }


def _transition(row: dict[str, Any], task: Task, source: Source, index: int, state: str) -> Transition:
    reward = _field(row, "reward", (int, float))
    if isinstance(reward, bool) or not math.isfinite(reward):
        raise ValueError(f"`reward` must be a finite number, got {reward!r}")
    return Transition(
        task=task,
        step_index=index,
        state=_field(row, "state", str, state),
        action=_field(row, "action", str),
        next_state=_field(row, "next_state", str),
        reward=float(reward),
        terminated=_field(row, "terminated", bool),
        reasoning_trace=_field(row, "reasoning_trace", str, ""),
        source=source,
        possible=_field(row, "possible", bool, True),
        thought=_field(row, "thought", str, ""),
    )


def _field(record: dict[str, Any], key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    value = record.get(key, default)
    if not isinstance(value, kind):
        names = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise ValueError(f"`{key}` must be {names}, got {type(value).__name__ if key in record else 'nothing'}")
    return value


def _choice(record: dict[str, Any], key: str, choices: tuple[str, ...], default: str | None = None) -> str:
    value = record.get(key, default)
    if value not in choices:
        raise ValueError(f"`{key}` must be one of {list(choices)}, got {value!r}")
    return cast(str, value)


def _line(trajectory: Trajectory) -> bytes:
    return json.dumps(trajectory_record(trajectory), separators=(",", ":")).encode("ascii") + b"\n"


@contextmanager
def _open_new(path: Path, compressed: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        if not compressed:
            yield file
            return
        # No name and no time inside, so that the same trajectories always give the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            yield cast(IO[bytes], packed)


def _last_byte(file: IO[bytes]) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def _read(path: Path, report: OnBroken) -> Iterator[Trajectory]:
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        while True:
            number += 1
            try:
                line = file.readline()
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                report(number, f"the gzip stream is broken here ({error})")
                return
            if not line:
                return
            if not line.strip():
                continue
            try:
                trajectory = trajectory_from_record(json.loads(line))
            except (ValueError, OverflowError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
                report(number, f"no trajectory: {error}")
                continue
            yield trajectory
