"""`DreamGymVectorEnv`: N dreams stepped by one batched prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.dream import Dream, StepResult, begin, describe, step_all
from dreamgym_env.env import check_horizon, pick_task, seed_model
from dreamgym_env.experience_model import ExperienceModel, Retriever
from dreamgym_env.loading import choose_tasks, load_experience_model
from dreamgym_env.spaces import Unicode
from dreamgym_env.types import LanguageModel, Split, Task


@batch_space.register(Unicode)
def _batch_unicode(space: Unicode, n: int = 1) -> Any:
    from gymnasium.spaces import Tuple

    return Tuple(tuple(Unicode(space.max_sample_length) for _ in range(n)))


class DreamGymVectorEnv(VectorEnv[tuple[str, ...], tuple[str, ...], np.ndarray]):
    """N dreams at once; arguments as in `DreamGymEnv`, plus `num_envs` and `autoreset_mode`.

    With `AutoresetMode.DISABLED` (the default: groups of episodes end at different times) a dream that has ended
    ignores its action, and repeats its last state with reward 0 until `reset(options={"reset_mask": mask})`.
    With `AutoresetMode.NEXT_STEP` the step after an end ignores the action and resets.

    `reset_at` and `step_at` serve trainers: they touch the given dreams only.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        domain: Domain | str = "webshop",
        experience_model: ExperienceModel | LanguageModel | str = "embedded",
        replay_buffer: Retriever | str | None = "embedded",
        tasks: Sequence[Task] | Path | str | None = None,
        split: Split | None = "train",
        horizon: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.DISABLED,
        trust_hooks: bool = False,
        **settings: Any,
    ) -> None:
        mode = AutoresetMode(autoreset_mode)
        if mode not in (AutoresetMode.DISABLED, AutoresetMode.NEXT_STEP):
            raise ValueError(f"`autoreset_mode` must be DISABLED or NEXT_STEP, got {mode}")
        if num_envs < 1:
            raise ValueError(f"`num_envs` must be >= 1, got {num_envs}")
        self.num_envs = num_envs
        self.metadata = {**self.metadata, "autoreset_mode": mode}
        self.domain = load_domain(domain, trust_hooks) if isinstance(domain, str) else domain
        self.horizon = check_horizon(horizon, self.domain)
        self.tasks = choose_tasks(tasks, self.domain, split)
        self.experience_model = load_experience_model(self.domain, experience_model, replay_buffer, **settings)
        self.single_observation_space = Unicode()
        self.single_action_space = Unicode()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.dreams: list[Dream | None] = [None] * num_envs

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        first_seed = next((s for s in seed if s is not None), None) if isinstance(seed, list) else seed
        super().reset(seed=first_seed)
        if first_seed is not None:
            seed_model(self.experience_model.language_model, first_seed)
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, dtype=bool)), dtype=bool)
        task_ids, tasks = options.pop("task_ids", None), options.pop("tasks", None)
        indices = np.flatnonzero(mask).tolist()
        named = tasks or ([self._by_id(task_id) for task_id in task_ids] if task_ids else None)
        chosen = named or [pick_task(self.tasks, options, self._draw) for _ in indices]
        if len(chosen) != len(indices):
            raise ValueError(
                f"`options` must name one task for each dream that is reset, {len(indices)}, got {len(chosen)}"
            )
        self.reset_at(indices, chosen)
        return self._states(), self._infos(
            {index: describe(self.domain, self._dream(index), None) for index in indices}
        )

    def step(
        self, actions: Sequence[str]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if len(actions) != self.num_envs:
            raise ValueError(f"`actions` must have one text for each of {self.num_envs} dreams, got {len(actions)}")
        running = [i for i in range(self.num_envs) if self._dream(i).end_reason is None]
        results = dict(zip(running, self.step_at(running, [actions[i] for i in running]), strict=True))
        if self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP:
            over = [i for i in range(self.num_envs) if i not in results]
            for index, (state, info) in zip(
                over, self.reset_at(over, [self.tasks[self._draw()] for _ in over]), strict=True
            ):
                results[index] = (state, 0.0, False, False, info)
        rewards, terminated, truncated = np.zeros(self.num_envs), *np.zeros((2, self.num_envs), dtype=bool)
        for index, (_, reward, end, cut, _) in results.items():
            rewards[index], terminated[index], truncated[index] = reward, end, cut
        infos = {index: result[4] for index, result in results.items()}
        return self._states(), rewards, terminated, truncated, self._infos(infos)

    def reset_at(self, indices: Sequence[int], tasks: Sequence[Task]) -> list[tuple[str, dict[str, Any]]]:
        """Begins the given tasks in the given dreams; `(state, info)` of each."""
        for index, task in zip(indices, tasks, strict=True):
            self.dreams[index] = begin(task)
        return [(self._dream(i).state, describe(self.domain, self._dream(i), None)) for i in indices]

    def step_at(self, indices: Sequence[int], actions: Sequence[str]) -> list[StepResult]:
        """One step of the given dreams, none of which may have ended, by one batch of predictions."""
        return step_all(self.experience_model, [self._dream(i) for i in indices], actions, self.horizon)

    def _dream(self, index: int) -> Dream:
        dream = self.dreams[index]
        if dream is None:
            raise ValueError(f"dream {index} was never reset; call reset() first")
        return dream

    def _draw(self) -> int:
        return int(self.np_random.integers(len(self.tasks)))

    def _by_id(self, task_id: str) -> Task:
        return pick_task(self.tasks, {"task_id": task_id}, self._draw)

    def _states(self) -> tuple[str, ...]:
        return tuple(self._dream(index).state for index in range(self.num_envs))

    def _infos(self, infos: dict[int, dict[str, Any]]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for index, info in infos.items():
            merged = self._add_info(merged, info, index)
        return merged
