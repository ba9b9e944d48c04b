"""`RecordTransitions` writes down whole episodes, and only those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from webshop_data import RUG, write_shop

from dreamgym_env.domains.webshop_pages import DONE_STATE, SEARCH_STATE
from dreamgym_env.spaces import Unicode
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import Trajectory
from dreamgym_env.wrappers.recording import RecordTransitions
from dreamgym_env.wrappers.webshop.env import WebShopEnv


def recorder(tmp_path: Path, horizon: int = 15, **settings: Any) -> RecordTransitions:
    env = WebShopEnv(data_dir=write_shop(tmp_path / "shop"), split="all", horizon=horizon, reward="graded")
    return RecordTransitions(env, policy="script", **settings)


def play(env: RecordTransitions, *actions: str) -> None:
    env.reset(options={"task_id": "webshop-synthetic-0"})
    for action in actions:
        env.step(action)


def test_an_episode_becomes_a_trajectory(tmp_path: Path) -> None:
    env = recorder(tmp_path)
    play(env, "search[rug washable]", " CLICK[b000000rug] ", "nonsense", "click[Buy Now]")
    (trajectory,) = env.trajectories
    assert trajectory.trajectory_id == "script-webshop-synthetic-0-0"
    assert (trajectory.policy, trajectory.end_reason) == ("script", "failure")
    assert [step.action for step in trajectory.transitions] == [
        "search[rug washable]",
        f"click[{RUG}]",
        "nonsense",
        "click[Buy Now]",
    ]
    assert [step.possible for step in trajectory.transitions] == [True, True, False, True]
    assert [step.step_index for step in trajectory.transitions] == [0, 1, 2, 3]
    assert trajectory.transitions[0].state == SEARCH_STATE
    assert trajectory.transitions[-1].next_state == DONE_STATE
    assert [step.terminated for step in trajectory.transitions] == [False, False, False, True]
    assert {step.reward for step in trajectory.transitions} == {0.0}  # graded pay is no outcome reward
    for before, after in zip(trajectory.transitions, trajectory.transitions[1:], strict=False):
        assert before.next_state == after.state


def test_success_and_time_limit(tmp_path: Path) -> None:
    env = recorder(tmp_path, horizon=5)
    task = env.unwrapped.task_of("webshop-synthetic-0")  # type: ignore[attr-defined]
    assert "color: navy | white, and size: x = y; z" in task.instruction
    play(env, "search[rug washable]", f"click[{RUG}]", "click[navy | white]", "click[x=y, z]", "click[buy now]")
    play(env, *["click[nothing]"] * 5)
    won, lost = env.trajectories
    assert (won.success, won.transitions[-1].reward) == (True, 1.0)
    assert (lost.end_reason, lost.transitions[-1].terminated) == ("time_limit", False)


def test_unfinished_episodes_are_dropped_and_counted(tmp_path: Path) -> None:
    env = recorder(tmp_path)
    play(env)
    play(env, "search[rug]")
    play(env, "search[rug]", f"click[{RUG}]", "click[Buy Now]")
    env.reset()
    assert env.dropped == 1
    assert [len(one.transitions) for one in env.trajectories] == [3]


def test_file_and_callback(tmp_path: Path) -> None:
    path, seen = tmp_path / "episodes.jsonl", list[Trajectory]()
    env = recorder(tmp_path, path=path, on_episode=seen.append, keep=False, first_id=7)
    for _ in range(2):
        play(env, "search[rug]", f"click[{RUG}]", "click[Buy Now]")
    assert env.trajectories == []
    assert [one.trajectory_id for one in seen] == ["script-webshop-synthetic-0-7", "script-webshop-synthetic-0-8"]
    assert list(read_trajectories(path)) == seen


class _Plain(gym.Env[str, str]):
    observation_space = action_space = Unicode()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        return "", {"task": None}


def test_environments_without_the_needed_info_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\['success', 'end_reason'\] missing after reset"):
        RecordTransitions(_Plain()).reset()
