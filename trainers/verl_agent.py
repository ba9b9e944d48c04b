"""An environment manager for verl-agent: its rollout loop plays dreams, or real environments, batched.

verl-agent (github.com/langfengQ/verl-agent) asks an environment manager for `reset(kwargs)`, `step(text_actions)`,
`success_evaluator(...)` and `close()`; nothing of it is imported here. In its `make_envs(config)` return two of them:

    pool = open_pool("DreamGym-WebShop-v0", config.data.train_batch_size * config.env.rollout.n)
    EnvironmentManager(pool, group_size=config.env.rollout.n, history_length=config.env.history_length)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamgym_env.types import Task

from .agent import opening_message, read_action, state_message
from .pools import EnvPool, opened

Observations = dict[str, Any]
"""`text`: a prompt for each episode; `image`: None; `anchor`: the bare states, by which GiGPO finds equal ones."""
Projection = Callable[[Sequence[str]], tuple[list[str], list[bool]]]


def projection(text_actions: Sequence[str]) -> tuple[list[str], list[bool]]:
    """What each response does (`agent.read_action`; the response itself where it names no action), and whether it
    names an action at all."""
    read = [read_action(text) for text in text_actions]
    return [action or text for action, text in zip(read, text_actions, strict=True)], [bool(action) for action in read]


@dataclass
class _Episode:
    task: Task
    state: str
    available: Sequence[str]
    steps: list[tuple[str, str]] = field(default_factory=list)
    """State and action of each step taken."""
    done: bool = False
    info: dict[str, Any] = field(default_factory=dict)


class EnvironmentManager:
    """`EnvironmentManagerBase` of verl-agent, over one pool; all episodes that are under way share a prediction.

    An episode that has ended ignores its action: its last observation again, reward 0.0, done. `info` has, beside
    what the environment tells, `won` and `is_action_valid` (an action of the grammar could be read). A broken dream
    ends with `end_reason` "model_error", reward 0.0 and `won` False: verl-agent knows no mask for it, so count them.

    Args:
        pool: as many environments as verl-agent's batch has rows.
        projection_f: responses to actions, as verl-agent's.
        config: verl-agent's; kept, not read.
        group_size: neighbouring rows that play the same task, a divisor of the pool's size.
        history_length: last steps that a prompt shows, >= 0.
        win_reward: what the outcome reward 1.0 counts; 10.0 as in verl-agent's own environments.
        seed: draws the tasks.

    Raises:
        ValueError: `group_size` does not divide the pool, or `history_length` is below 0.
    """

    def __init__(
        self,
        pool: EnvPool,
        projection_f: Projection = projection,
        config: Any = None,
        group_size: int = 1,
        history_length: int = 2,
        win_reward: float = 10.0,
        seed: int = 0,
    ) -> None:
        if group_size < 1 or pool.size % group_size:
            raise ValueError(f"`group_size` must divide the pool's {pool.size} environments, got {group_size}")
        if history_length < 0:
            raise ValueError(f"`history_length` must be >= 0, got {history_length}")
        self.envs, self.projection_f, self.config = pool, projection_f, config
        self.group_size, self.history_length, self.win_reward = group_size, history_length, win_reward
        self._tasks = {task.task_id: task for task in pool.tasks}
        self._rng = np.random.default_rng(seed)
        self._episodes: list[_Episode] = []
        pool.seed(seed)

    def reset(self, kwargs: Sequence[Mapping[str, Any]] | None = None) -> tuple[Observations, list[dict[str, Any]]]:
        """Begins an episode in each row: of the task that its `kwargs` row names as `task_id`, else of one drawn for
        its group.

        Raises:
            ValueError: `kwargs` does not fit the pool, or names an unknown task.
        """
        rows = range(self.envs.size)
        drawn = self._rng.integers(len(self.envs.tasks), size=self.envs.size // self.group_size)
        tasks = [self.envs.tasks[int(drawn[row // self.group_size])] for row in rows]
        if kwargs is not None:
            if len(kwargs) != self.envs.size:
                raise ValueError(
                    f"`kwargs` must have a row for each of {self.envs.size} environments, got {len(kwargs)}"
                )
            tasks = [self._named(one, task) for one, task in zip(kwargs, tasks, strict=True)]
        self._episodes = []
        for task, (state, info) in zip(tasks, self.envs.reset(rows, tasks), strict=True):
            offered = info.get("available_actions", ())
            self._episodes.append(_Episode(opened(task, info), state, offered, info={**info, "won": False}))
        return self._observations(), [dict(episode.info) for episode in self._episodes]

    def step(
        self, text_actions: Sequence[str]
    ) -> tuple[Observations, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Observations, rewards float32 [N], dones bool [N], infos after one response for each row."""
        if len(text_actions) != len(self._episodes):
            raise ValueError(f"`text_actions` must have {len(self._episodes)} responses, got {len(text_actions)}")
        actions, named = self.projection_f(text_actions)
        running = [row for row, episode in enumerate(self._episodes) if not episode.done]
        parse = self.envs.domain.parse_action
        valid = [
            name and parse(episode.state, action) is not None
            for name, episode, action in zip(named, self._episodes, actions, strict=True)
        ]
        rewards = np.zeros(len(actions), dtype=np.float32)
        results = self.envs.step(running, [actions[row] for row in running]) if running else []
        for row, (state, reward, terminated, truncated, info) in zip(running, results, strict=True):
            episode = self._episodes[row]
            episode.steps.append((episode.state, actions[row]))
            episode.state, episode.available = state, info.get("available_actions", ())
            episode.done = terminated or truncated
            episode.info = {**info, "won": bool(info.get("success", terminated and reward > 0))}
            rewards[row] = self.win_reward * reward
        dones = np.array([episode.done for episode in self._episodes])
        infos = [
            {**episode.info, "is_action_valid": np.array(ok)} for episode, ok in zip(self._episodes, valid, strict=True)
        ]
        return self._observations(), rewards, dones, infos

    def build_text_obs(self) -> list[str]:
        """The prompt of each row: instruction, task, the last steps, the present state and what it offers."""
        return [self._prompt(episode) for episode in self._episodes]

    def success_evaluator(
        self, *, total_infos: Sequence[Sequence[Mapping[str, Any]]], total_batch_list: Any, **others: Any
    ) -> dict[str, NDArray[np.float64]]:
        """`success_rate` [N]: 1.0 where the last step that a row was active in has won, as verl-agent has it."""
        won = []
        for infos, batch in zip(total_infos, total_batch_list, strict=True):
            active = [info for info, step in zip(infos, batch, strict=True) if step["active_masks"]]
            won.append(float(active[-1]["won"]) if active else 0.0)
        return {"success_rate": np.array(won)}

    def close(self) -> None:
        """Closes the environments."""
        self.envs.close()

    def _named(self, row: Mapping[str, Any], drawn: Task) -> Task:
        if "task_id" not in row:
            return drawn
        if row["task_id"] not in self._tasks:
            raise ValueError(f"`task_id` must be one of the pool's {len(self._tasks)} tasks, got {row['task_id']!r}")
        return self._tasks[row["task_id"]]

    def _observations(self) -> Observations:
        return {"text": self.build_text_obs(), "image": None, "anchor": [episode.state for episode in self._episodes]}

    def _prompt(self, episode: _Episode) -> str:
        parts = [self.envs.domain.agent_instruction]
        shown = episode.steps[len(episode.steps) - self.history_length :] if self.history_length else []
        if not episode.steps:
            parts.append(opening_message(episode.task, episode.state))
        else:
            parts.append(f"Task: {episode.task.instruction}\nSteps so far: {len(episode.steps)}")
            parts += [f"{state_message(state)}\nYour action: {action}" for state, action in shown]
            parts.append(state_message(episode.state))
        if episode.available:
            parts.append("Available actions:\n" + "\n".join(episode.available))
        return "\n\n".join(parts)
