"""`RecordTransitions`: keeps every finished episode of an environment as a `Trajectory`, in memory or in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym

from dreamgym_env.domain import load_domain
from dreamgym_env.types import Source, Task, Trajectory, Transition

OnEpisode = Callable[[Trajectory], None]
_NEEDED = ("task", "success", "end_reason")


class RecordTransitions(gym.Wrapper[str, str, str, str]):
    """Records what passes between agent and environment, real or dream, without changing it.

    The environment's observations must be its state texts (for WebShop: `observation_mode="state"`) and its `info` must
    have `task`, `success` and `end_reason`. A transition's reward is the outcome reward whatever the environment pays;
    its action is in the domain's spelling where the domain can read it. An episode that is reset before its end is
    dropped and counted in `dropped`.

    Args:
        env: the environment, wrapped or not.
        policy: who acts (`oracle`, `random`, ...); written into the trajectories and their ids.
        path: a JSONL file to which each episode is appended, or None.
        on_episode: called with each finished trajectory, or None.
        keep: whether finished trajectories stay in `trajectories`.
        source: "real" or "dream".
        first_id: number in the first trajectory's id, `{policy}-{task_id}-{number}`.
    """

    def __init__(
        self,
        env: gym.Env[str, str],
        policy: str = "unknown",
        path: str | Path | None = None,
        on_episode: OnEpisode | None = None,
        keep: bool = True,
        source: Source = "real",
        first_id: int = 0,
    ) -> None:
        super().__init__(env)
        self.policy, self.path, self.on_episode, self.keep, self.source = policy, path, on_episode, keep, source
        self.trajectories: list[Trajectory] = []
        self.dropped = 0
        self._number = first_id
        self._task: Task | None = None
        self._state = ""
        self._transitions: list[Transition] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.dropped += bool(self._transitions)
        observation, info = self.env.reset(seed=seed, options=options)
        missing = [key for key in _NEEDED if key not in info]
        if missing:
            raise ValueError(f"`info` must have {list(_NEEDED)} to be recorded, {missing} missing after reset")
        self._task, self._state, self._transitions = info["task"], observation, []
        return observation, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._transitions.append(self._transition(action, observation, terminated, info))
        self._state = observation
        if terminated or truncated:
            self._finish(info)
        return observation, float(reward), terminated, truncated, info

    def _transition(self, action: str, observation: str, terminated: bool, info: dict[str, Any]) -> Transition:
        task = self._task
        assert task is not None, "Gymnasium's order enforcement allows no step before reset"
        parsed = load_domain(task.domain).parse_action(self._state, action)
        return Transition(
            task=task,
            step_index=len(self._transitions),
            state=self._state,
            action=parsed.text if parsed else action,
            next_state=observation,
            reward=float(terminated and info["success"]),
            terminated=terminated,
            reasoning_trace=info.get("reasoning_trace", ""),
            source=self.source,
            possible=info.get("possible", True),
        )

    def _finish(self, info: dict[str, Any]) -> None:
        assert self._task is not None
        name = f"{self.policy}-{self._task.task_id}-{self._number}"
        trajectory = Trajectory(self._task, tuple(self._transitions), info["end_reason"], self.policy, name)
        self._number += 1
        self._transitions = []
        if self.keep:
            self.trajectories.append(trajectory)
        if self.path is not None:
            from dreamgym_env.trajectories import append_trajectory

            append_trajectory(self.path, trajectory)
        if self.on_episode is not None:
            self.on_episode(trajectory)
