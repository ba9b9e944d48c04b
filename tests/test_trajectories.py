"""The trajectory file format: exact round trips, safe appends, broken lines with their numbers."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from dreamgym_env.trajectories import append_trajectory, read_trajectories, trajectory_record, write_trajectories
from dreamgym_env.types import DataError, Task, Trajectory, Transition

TASK = Task("t1", "webshop", "find a café “lamp” \u2028 under $20", "WebShop\n[Search]", "generated", "t0", "held_out")


def trajectory(name: str = "a", steps: int = 3) -> Trajectory:
    transitions, state = [], TASK.initial_state
    for index in range(steps):
        after = f"page {index}\n\ud800 é"
        transitions.append(Transition(TASK, index, state, f"click[{index}]", after, 0.1 * index, index == steps - 1))
        state = after
    return Trajectory(TASK, tuple(transitions), "success", "oracle", name)


def test_round_trip_is_exact_but_for_the_prompt(tmp_path: Path) -> None:
    one = trajectory("one")
    odd = replace(one.transitions[1], state="another state", reasoning_trace="because", possible=False, prompt="kept?")
    odd = replace(odd, thought="perhaps")
    two = Trajectory(TASK, (one.transitions[0], odd, one.transitions[2]), "time_limit", "random", "two")
    dream = Trajectory(TASK, tuple(replace(t, source="dream") for t in one.transitions), "model_error", "x", "three")
    empty = Trajectory(TASK, (), "failure")
    assert write_trajectories(tmp_path / "a.jsonl", [one, two, dream, empty]) == 4
    without_prompt = (one.transitions[0], replace(odd, prompt=""), one.transitions[2])
    assert list(read_trajectories(tmp_path / "a.jsonl")) == [
        one,
        replace(two, transitions=without_prompt),
        dream,
        empty,
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_states_are_not_repeated() -> None:
    rows = trajectory_record(trajectory())["transitions"]
    assert all("state" not in row and "reasoning_trace" not in row for row in rows)


def test_gzip_by_extension_is_reproducible(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_trajectories(tmp_path / name, [trajectory()])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert list(read_trajectories(tmp_path / "a.jsonl.gz")) == [trajectory()]
    with pytest.raises(ValueError, match="compress it afterwards"):
        append_trajectory(tmp_path / "a.jsonl.gz", trajectory())


def test_truncated_gzip_gives_what_was_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    data = gzip.compress(b"".join(json.dumps(trajectory_record(trajectory(str(i)))).encode() + b"\n" for i in range(9)))
    path.write_bytes(data[: len(data) // 2])
    broken: list[int] = []
    read = list(read_trajectories(path, "skip", lambda number, reason: broken.append(number)))
    assert len(broken) == 1
    assert broken[0] == len(read) + 1
    with pytest.raises(DataError, match="gzip stream is broken"):
        list(read_trajectories(path))


def test_interrupted_append_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_trajectory(path, trajectory("one"))
    append_trajectory(path, trajectory("two"))
    path.write_bytes(path.read_bytes()[:-40])
    append_trajectory(path, trajectory("three"))
    append_trajectory(path, trajectory("four"))
    broken: list[tuple[int, str]] = []
    names = [t.trajectory_id for t in read_trajectories(path, "skip", lambda *what: broken.append(what))]
    assert names == ["one", "three", "four"]
    assert [number for number, _ in broken] == [2]


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_trajectories(path, [trajectory("old")])
    wrong = Trajectory(TASK, (replace(trajectory().transitions[0], step_index=4),), "failure", "", "bad")
    with pytest.raises(ValueError, match="transition 0 must be step 0 of its own task, got task 't1', step_index 4"):
        write_trajectories(path, [trajectory("new"), wrong])
    assert [t.trajectory_id for t in read_trajectories(path)] == ["old"]
    assert len(list(tmp_path.iterdir())) == 1


BREAKS = {
    "not json": (lambda record: "{", "no trajectory"),
    "not an object": (lambda record: "[1]", "`format` must be 'dreamgym-trajectory-1', got 'list'"),
    "other format": (lambda record: json.dumps(record | {"format": "x"}), "got 'x'"),
    "no split": (lambda record: json.dumps(record | {"task": record["task"] | {"split": None}}), "`split` must be one"),
    "end reason": (lambda record: json.dumps(record | {"end_reason": ["won"]}), "`end_reason` must be one of"),
    "reward": (lambda record: json.dumps(record).replace('"reward": 0.0', '"reward": NaN'), "a finite number, got nan"),
    "huge reward": (lambda record: json.dumps(record).replace('"reward": 0.0', '"reward": 1' + "0" * 400), "too large"),
    "no action": (lambda record: json.dumps(record).replace('"action"', '"act"'), "`action` must be str, got nothing"),
    "a list": (lambda record: json.dumps(record | {"transitions": [3]}), "`transitions` must hold objects, got int"),
    "nested": (lambda record: "[" * 100_000, "recursion"),
    "not utf-8": (lambda record: b'{"format": "\xff\xfe"}', "decode"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_broken_line_is_named_or_skipped(tmp_path: Path, kind: str) -> None:
    make, reason = BREAKS[kind]
    path = tmp_path / "a.jsonl"
    append_trajectory(path, trajectory("one"))
    line = make(trajectory_record(trajectory()))
    with path.open("ab") as file:
        file.write((line if isinstance(line, bytes) else line.encode()) + b"\n\n")
    append_trajectory(path, trajectory("two"))
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: no trajectory") as error:
        list(read_trajectories(path))
    assert reason in str(error.value)
    with pytest.warns(UserWarning, match="line 2"):
        assert [t.trajectory_id for t in read_trajectories(path, "skip")] == ["one", "two"]


def test_arguments_are_checked_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`on_error` must be 'raise' or 'skip', got 'ignore'"):
        read_trajectories(tmp_path / "a.jsonl", "ignore")  # type: ignore[arg-type]
