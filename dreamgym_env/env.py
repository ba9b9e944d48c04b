"""`DreamGymEnv`: one dream as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from dreamgym_env import rendering
from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.dream import Dream, begin, describe, step_all
from dreamgym_env.experience_model import ExperienceModel, Retriever
from dreamgym_env.loading import choose_tasks, load_experience_model
from dreamgym_env.spaces import Unicode
from dreamgym_env.types import LanguageModel, Split, Task


class DreamGymEnv(gym.Env[str, str]):
    """A world whose dynamics are a language model (arXiv:2511.03773).

    ## Action space
    `Unicode()`: any text. The domain's grammar reads it; what it cannot read or the state does not offer is impossible
    and answered as the real environment answers it, without asking the model.

    ## Observation space
    `Unicode()`: the abstract state text, the same that the real environment's wrapper speaks.

    ## Starting state
    A task drawn uniformly from `tasks` with the environment's generator, or `options={"task_id": ...}` or
    `options={"task": Task(...)}`.

    ## Rewards
    The outcome reward: 1.0 at a successful end, else 0.0.

    ## Episode end
    Terminated when the experience model says so. Truncated after `horizon` steps (`end_reason` "time_limit") or when no
    usable prediction came after several attempts ("model_error": mask such an episode, it says nothing of the agent).

    ## Information
    `task`, `instruction`, `available_actions`, `reasoning_trace`, `demonstrations` (ids), `attempts`, `possible`,
    `success`, `end_reason`, `error`; see `docs/environment.md`.

    ## Arguments
    `domain`, `experience_model`, `replay_buffer` and settings as in `loading.load_experience_model`; `tasks`, `split`
    as in `loading.choose_tasks`; `horizon` (default: the domain's); `render_mode` None, "ansi" or "human";
    `trust_hooks` as in `domain.load_domain`.

    ## Version history
    v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "human"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        domain: Domain | str = "webshop",
        experience_model: ExperienceModel | LanguageModel | str = "embedded",
        replay_buffer: Retriever | str | None = "embedded",
        tasks: Sequence[Task] | Path | str | None = None,
        split: Split | None = "train",
        horizon: int | None = None,
        render_mode: str | None = None,
        trust_hooks: bool = False,
        **settings: Any,
    ) -> None:
        if render_mode not in (None, "ansi", "human"):
            raise ValueError(f"`render_mode` must be None, 'ansi' or 'human', got {render_mode!r}")
        self.domain = load_domain(domain, trust_hooks) if isinstance(domain, str) else domain
        self.horizon = check_horizon(horizon, self.domain)
        self.tasks = choose_tasks(tasks, self.domain, split)
        self.experience_model = load_experience_model(self.domain, experience_model, replay_buffer, **settings)
        self.render_mode = render_mode
        self.observation_space = Unicode()
        self.action_space = Unicode()
        self.dream: Dream | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            seed_model(self.experience_model.language_model, seed)
        task = pick_task(self.tasks, options or {}, lambda: int(self.np_random.integers(len(self.tasks))))
        self.dream = begin(task)
        if self.render_mode == "human":
            rendering.show(self.dream)
        return self.dream.state, describe(self.domain, self.dream, None)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self.dream is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        if not isinstance(action, str):
            raise TypeError(f"`action` must be a str such as 'click[Buy Now]', got {type(action).__name__}")
        result = step_all(self.experience_model, [self.dream], [action], self.horizon)[0]
        if self.render_mode == "human":
            rendering.show(self.dream)
        return result

    def render(self) -> str | None:  # type: ignore[override]
        """The latest step as text ("ansi"); "human" prints at each step and returns None."""
        if self.dream is None or self.render_mode != "ansi":
            return None
        return rendering.text(self.dream)


def check_horizon(horizon: int | None, domain: Domain) -> int:
    """The horizon asked for, or the domain's; in steps, >= 1."""
    value = domain.horizon if horizon is None else horizon
    if value < 1:
        raise ValueError(f"`horizon` must be >= 1 step, got {value}")
    return value


def seed_model(language_model: LanguageModel, seed: int) -> None:
    """Seeds a model that draws its tokens here; an endpoint has its own randomness."""
    seeder = getattr(language_model, "seed", None)
    if callable(seeder):
        seeder(seed)


def pick_task(tasks: Sequence[Task], options: dict[str, Any], draw: Callable[[], int]) -> Task:
    """The task that the options name, or the one at index `draw()`.

    Raises:
        ValueError: an unknown option or task id.
    """
    unknown = set(options) - {"task", "task_id"}
    if unknown:
        raise ValueError(f"`options` takes 'task' or 'task_id', got {sorted(unknown)}")
    if "task" in options:
        task = options["task"]
        if not isinstance(task, Task):
            raise ValueError(f"options['task'] must be a dreamgym_env.Task, got {type(task).__name__}")
        return task
    if "task_id" not in options:
        return tasks[draw()]
    for task in tasks:
        if task.task_id == options["task_id"]:
            return task
    raise ValueError(f"no task {options['task_id']!r} among {len(tasks)}, such as {tasks[0].task_id!r}")
