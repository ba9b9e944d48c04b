"""`dreamgym new-world`: the example and drafts that it writes, and that its check finds what is wrong, line by line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dreamed_shop import play, tasks_of
from own_worlds import lamp_folder

from dreamgym_env.domain import load_domain
from dreamgym_env.domains.declared_file import KEYS
from dreamgym_env.trainers import cli
from dreamgym_env.trainers.new_world import NewWorldConfig, main
from dreamgym_env.trainers.new_world_check import check_world
from dreamgym_env.trainers.new_world_draft import draft_of, patterns_of
from dreamgym_env.trainers.new_world_text import _TEXT
from dreamgym_env.trajectories import read_trajectories, write_trajectories
from dreamgym_env.types import DataError, Task, Transition

TASK = Task("t-1", "kitchen", "Cook", "You see an apple, a red pan and a box.")


def steps(*actions: str, state: str = TASK.initial_state) -> list[Transition]:
    return [Transition(TASK, index, state, action, state) for index, action in enumerate(actions)]


@pytest.mark.parametrize(
    ("actions", "patterns", "placeholders"),
    [
        (("take apple", "take red pan"), ("take {thing}",), {}),
        (("take apple", "look around", "take box", "look around"), ("take {thing}", "look around"), {}),
        (("take coin",), ("take coin",), {}),
        (("put apple in box", "put red pan in box"), ("put {thing} in box",), {}),
        (("put apple in box", "put box in red pan"), ("put {thing} in {place}",), {}),
        (("look in box", "look in red pan"), ("look in {thing}",), {}),
        (("click[apple]", "click[box]"), ("click[{thing}]",), {}),
        (("search[how to]", "search[and why]"), ("search[{text}]",), {"text": "free"}),
        (("take apple", "take box") * 3, ("take {thing}",), {"thing": ("apple", "box")}),
        (("pick('1')", "pick('2')"), ("pick({text})",), {"text": "free"}),
    ],
)
def test_patterns_read_off_actions(
    actions: tuple[str, ...], patterns: tuple[str, ...], placeholders: dict[str, Any]
) -> None:
    assert patterns_of(steps(*actions)) == (patterns, placeholders)


def test_every_key_is_in_the_text() -> None:
    assert [key for key in KEYS if not re.search(rf"(?m)^(# )?{key}:", _TEXT)] == ["placeholders", "ends"]
    assert "{placeholders}" in _TEXT
    assert "{ends}" in _TEXT


def test_the_example_is_written_and_nothing_is_wrong_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my.flat"
    report = main(NewWorldConfig(out=folder))
    assert report is not None
    assert (report["tasks"], report["trajectories"]) == (4, 4)
    world = load_domain(str(folder / "world.yaml"))
    assert world.name == "my-flat"
    assert world.available_actions("", ()) == ["go to kitchen", "go to hall", "switch on <thing>"]
    assert main(NewWorldConfig(check=folder)) is None
    shown = capsys.readouterr().out
    assert "Nothing is wrong. Next:" in shown
    assert f"dreamgym fit-vocabulary --domain {folder}/world.yaml" in shown
    assert "note: 2 training trajectories; about 100 are a good start" in shown
    with pytest.raises(DataError, match=r"holds world.yaml, tasks.jsonl, trajectories.jsonl already"):
        main(NewWorldConfig(out=folder))


def test_a_draft_of_a_shop(tmp_path: Path) -> None:
    """Episodes of the real WebShop become a world whose grammar reads all of their actions."""
    episodes = [play(task, policy, 3) for task in tasks_of("train", 4) for policy in ("oracle", "random")]
    write_trajectories(tmp_path / "shop.jsonl", episodes)
    main(NewWorldConfig(out=tmp_path / "shop", from_trajectories=(tmp_path / "shop.jsonl",)))
    draft = draft_of(episodes)
    assert set(draft.actions) == {"click[{thing}]", "search[{text}]"}
    assert dict(draft.placeholders) == {"text": "free"}
    assert (draft.impossible, draft.outcomes[0]) == ("same state", "success")
    assert dict(draft.ends)["success"] == ("click[{thing}]",)
    report = check_world(tmp_path / "shop" / "world.yaml")
    assert dict(report.problems) == {}
    assert report.counts["trajectories, train"] == 8
    assert report.counts["tasks, train"] == 4
    assert load_domain(str(tmp_path / "shop" / "world.yaml")).name == "shop"


def test_a_fixed_answer_is_seen() -> None:
    refused = [replace(step, next_state="No.", possible=False) for step in steps("fly", "swim")]
    episode = next(iter(read_trajectories(lamp_folder() / "trajectories.jsonl")))
    task = episode.task
    moved = tuple(replace(step, task=task, step_index=index) for index, step in enumerate(refused))
    draft = draft_of([replace(episode, transitions=(*moved, replace(episode.transitions[-1], step_index=2)))])
    assert draft.impossible == "No."
    assert draft.actions == ("switch on lamp",)


def change(name: str, line: int, edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Edits the JSON of one line, counted from 1."""

    def apply(folder: Path) -> None:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        row = json.loads(lines[line - 1])
        edited = edit(row)
        lines[line - 1] = edited if isinstance(edited, str) else json.dumps(row)
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    return apply


def task(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda row: row["task"].update(fields)


def step(index: int, **fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda row: row["transitions"][index].update(fields)


TASKS, EPISODES = "tasks.jsonl", "trajectories.jsonl"
FAULTS = [
    (change(TASKS, 2, lambda row: row.pop("split") and None), "task without a split", "tasks.jsonl, line 2: `split`"),
    (change(TASKS, 3, lambda _: "{"), "no JSON", "tasks.jsonl, line 3: "),
    (change(TASKS, 3, lambda row: row.pop("instruction") and None), "no task", "tasks.jsonl, line 3: `instruction`"),
    (change(TASKS, 4, lambda row: row.update(task_id="lamp-0")), "duplicate task id", "tasks.jsonl, line 4: 'lamp-0'"),
    (change(TASKS, 1, lambda row: row.update(domain="x")), "another world", "line 1: `domain` must be 'lamp', got 'x'"),
    (change(TASKS, 1, lambda row: row.update(initial_state=" ")), "empty state", "tasks.jsonl, line 1"),
    (change(TASKS, 1, lambda row: row.update(instruction="a\nb")), "instruction", "must be one line"),
    (change(EPISODES, 1, lambda row: row.update(format="?")), "no trajectory", "line 1: `format` must be"),
    (change(EPISODES, 1, lambda row: row.update(trajectory_id="")), "trajectory id", "line 1: .*there is none"),
    (change(EPISODES, 3, lambda row: row.update(trajectory_id="example-0")), "trajectory id", "line 3: .*is that of"),
    (change(EPISODES, 1, task(domain="x")), "another world", "trajectories.jsonl, line 1"),
    (change(EPISODES, 1, task(split="held_out")), "two tasks of one id", "task 'lamp-0' has another"),
    (change(EPISODES, 1, task(initial_state="Elsewhere.")), "two tasks of one id", "task 'lamp-0' has another"),
    (
        change(EPISODES, 2, step(1, action="fly to hall")),
        "action that the grammar does not read",
        "line 2, step 1 'fly to hall': no pattern",
    ),
    (change(EPISODES, 2, step(0, next_state="No.")), "answer to an impossible action", "step 0 'open window'.*'No.'"),
    (change(EPISODES, 2, step(1, next_state="")), "true state that the rules call", "must not be empty; got ''"),
    (change(EPISODES, 2, step(1, next_state="<state>")), "text that no model may say", "line 2, step 1 'go to hall'"),
    (change(EPISODES, 2, step(1, terminated=True)), "end", "line 2, step 1 .*at the last step of a success"),
    (change(EPISODES, 1, lambda row: row.update(end_reason="time_limit")), "end", "line 1, step 1"),
    (change(EPISODES, 1, step(1, reward=0.0)), "true state that the rules call", "ends with success or goes on"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "kind", "where"), FAULTS, ids=[str(index) for index in range(len(FAULTS))])
def test_the_check_finds_what_is_wrong(
    tmp_path: Path, fault: Callable[[Path], None], kind: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("world.yaml", TASKS, EPISODES):
        (tmp_path / name).write_bytes((lamp_folder() / name).read_bytes())
    assert not check_world(tmp_path / "world.yaml").wrong
    fault(tmp_path)
    report = check_world(tmp_path / "world.yaml")
    (found,) = [name for name in report.problems if name.startswith(kind)]
    (line,) = report.problems[found]
    assert re.search(where, line), line
    assert cli.main(["new-world", "--check", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert f"WRONG, 1 x {found}:" in shown.out
    assert "wrong in" in shown.err


def test_rules_that_refuse_what_truly_happened_are_found(tmp_path: Path) -> None:
    for name in (TASKS, EPISODES):
        (tmp_path / name).write_bytes((lamp_folder() / name).read_bytes())
    text = (lamp_folder() / "world.yaml").read_text(encoding="utf-8")
    # From the kitchen nothing but the kitchen can be reached, and nothing be switched on, which all four episodes do.
    rules = "[{find: 'in the (?P<room>kitchen)', action: 'go to {room}'}]"
    (tmp_path / "world.yaml").write_text(text.replace("available: grammar", f"available: {rules}"), encoding="utf-8")
    found = check_world(tmp_path / "world.yaml").problems
    assert {name: len(lines) for name, lines in found.items()} == {"possible action that `available` refuses": 6}
    # Whoever goes to a room is back where it was empty: so say the lookups, and both walks that there are deny it.
    text += "known: {changing: [], lookups: [{when: 'go to {room}', show: empty}]}\n"
    (tmp_path / "world.yaml").write_text(text, encoding="utf-8")
    os.utime(tmp_path / "world.yaml", (2e9, 2e9))  # a file is read again when its time differs
    found = check_world(tmp_path / "world.yaml").problems
    assert {name: len(lines) for name, lines in found.items()} == {"`known` is not so": 2}


def test_wrong_settings(tmp_path: Path) -> None:
    for settings in ({}, {"out": tmp_path, "check": tmp_path}):
        with pytest.raises(ValueError, match="give either `out`, a folder to write to, or `check`"):
            NewWorldConfig(**settings)
    with pytest.raises(DataError, match=r"no world file at .*; `dreamgym new-world --out FOLDER` writes one"):
        main(NewWorldConfig(check=tmp_path))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="`from_trajectories` must hold trajectories, got none"):
        main(NewWorldConfig(out=tmp_path / "new", from_trajectories=(tmp_path / "empty.jsonl",)))
