"""Pools: some environments of one id, stepped together, in one batch where the id has a vector form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.types import DreamGymError, Source, Task

StepResult = tuple[str, float, bool, bool, dict[str, Any]]


class BudgetError(DreamGymError):
    """More real interactions were asked for than the budget has left."""


class EnvPool(Protocol):
    """Some environments of one id, stepped together by their indices 0, ..., size - 1."""

    size: int
    source: Source
    """Whether a step here is an interaction with a real environment."""
    domain: Domain
    tasks: Sequence[Task]
    """The tasks that the environments offer."""
    horizon: int
    """Steps after which an episode is truncated."""

    def seed(self, seed: int) -> None:
        """Makes all that follows repeatable."""
        ...

    def reset(self, indices: Sequence[int], tasks: Sequence[Task]) -> list[tuple[str, dict[str, Any]]]:
        """Begins one task in each of the given environments; `(state, info)` of each."""
        ...

    def step(self, indices: Sequence[int], actions: Sequence[str]) -> list[StepResult]:
        """One step of the given environments, whose episodes are under way."""
        ...

    def close(self) -> None: ...


class SingleEnvPool:
    """A list of separate Gymnasium environments, whose `reset` takes `options={"task": Task, "task_id": str}`.

    Raises:
        ValueError: the environments offer no tasks.
    """

    def __init__(self, envs: Sequence[gym.Env[str, str]], domain: Domain | None = None) -> None:
        self.envs, self.size = list(envs), len(envs)
        first = envs[0].unwrapped
        self.tasks: Sequence[Task] = tasks_of(first)
        self.domain = domain or domain_of(first, self.tasks)
        self.horizon: int = getattr(first, "horizon", self.domain.horizon)
        self.source: Source = _source_of(first)
        self._seeds = np.random.default_rng(0)

    def seed(self, seed: int) -> None:
        self._seeds = np.random.default_rng(seed)

    def reset(self, indices: Sequence[int], tasks: Sequence[Task]) -> list[tuple[str, dict[str, Any]]]:
        results = []
        for index, task in zip(indices, tasks, strict=True):
            options = {"task": task, "task_id": task.task_id}
            results.append(self.envs[index].reset(seed=int(self._seeds.integers(2**31)), options=options))
        return results

    def step(self, indices: Sequence[int], actions: Sequence[str]) -> list[StepResult]:
        results = [self.envs[index].step(action) for index, action in zip(indices, actions, strict=True)]
        return [(state, float(reward), end, cut, info) for state, reward, end, cut, info in results]

    def close(self) -> None:
        for env in self.envs:
            env.close()


class VectorDreamPool:
    """A batched dream (`dreamgym_env.vector_env.DreamGymVectorEnv`): one prediction call per tick for all of them."""

    def __init__(self, vector_env: Any) -> None:
        self.vector_env = vector_env
        self.size: int = vector_env.num_envs
        self.tasks: Sequence[Task] = tasks_of(vector_env)
        self.domain = domain_of(vector_env, self.tasks)
        self.horizon: int = vector_env.horizon
        self.source: Source = _source_of(vector_env)
        self.experience_model = vector_env.experience_model

    def seed(self, seed: int) -> None:
        language_model = self.experience_model.language_model
        for name, arguments in (("seed", (seed,)), ("forget", ())):  # an endpoint has neither
            if hasattr(language_model, name):
                getattr(language_model, name)(*arguments)

    def reset(self, indices: Sequence[int], tasks: Sequence[Task]) -> list[tuple[str, dict[str, Any]]]:
        return list(self.vector_env.reset_at(indices, tasks))

    def step(self, indices: Sequence[int], actions: Sequence[str]) -> list[StepResult]:
        return list(self.vector_env.step_at(indices, actions))

    def close(self) -> None:
        self.vector_env.close()


class BudgetedPool:
    """A pool of real environments that refuses every step beyond a budget.

    Raises (in `step`):
        BudgetError: more steps than are left were asked for; none of them is taken.
    """

    def __init__(self, pool: EnvPool, budget: int) -> None:
        self.pool, self.left = pool, budget
        self.size, self.source, self.domain = pool.size, pool.source, pool.domain
        self.tasks, self.horizon = pool.tasks, pool.horizon

    def seed(self, seed: int) -> None:
        self.pool.seed(seed)

    def reset(self, indices: Sequence[int], tasks: Sequence[Task]) -> list[tuple[str, dict[str, Any]]]:
        return self.pool.reset(indices, tasks)

    def step(self, indices: Sequence[int], actions: Sequence[str]) -> list[StepResult]:
        if len(indices) > self.left:
            raise BudgetError(f"{len(indices)} real interactions were asked for, {self.left} of the budget are left")
        self.left -= len(indices)
        return self.pool.step(indices, actions)

    def close(self) -> None:
        self.pool.close()


def open_pool(env_id: str, size: int, **settings: Any) -> EnvPool:
    """`size` environments of one id: batched where the id has a vector form with `step_at`, else one by one.

    `env_id` may carry a module to import, as in Gymnasium: `"my_worlds:Kitchen-v0"`. `settings` go to `gym.make`.
    """
    if size < 1:
        raise ValueError(f"`size` must be >= 1 environment, got {size}")
    envs = (
        [gym.make(env_id, disable_env_checker=True, **settings)] if find_spec(env_id).vector_entry_point is None else []
    )
    if not envs:
        vector: Any = gym.make_vec(env_id, num_envs=size, vectorization_mode="vector_entry_point", **settings).unwrapped
        if not hasattr(vector, "step_at"):
            raise ValueError(f"the vector form of {env_id} must have reset_at and step_at, got {type(vector).__name__}")
        return VectorDreamPool(vector)
    envs += [gym.make(env_id, disable_env_checker=True, **settings) for _ in range(size - 1)]
    return SingleEnvPool(envs)


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`("top_k=3", "data_dir=shop")` as keywords; values are read as JSON where they are JSON, else as text.

    Raises:
        ValueError: one has no "=".
    """
    keywords: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"`settings` must be of the form name=value, got {setting!r}")
        try:
            keywords[name] = json.loads(value)
        except json.JSONDecodeError:
            keywords[name] = value
    return keywords


def find_spec(env_id: str) -> Any:
    """Gymnasium's `EnvSpec` of an id, once the module is imported that an id such as `my_worlds:Kitchen-v0` names.

    Raises:
        ValueError: there is no such module, or no such id.
    """
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there and lacks something itself
        raise ValueError(
            f"{env_id!r} names the module {module!r}, which cannot be imported; a command finds it with "
            "PYTHONPATH=FOLDER, the folder that it lies in"
        ) from error
    try:
        return gym.spec(name)
    except gym.error.Error as error:
        ours = sorted(one for one in gym.registry if one.startswith(("DreamGym-", "Real-")))
        raise ValueError(
            f"no environment {name!r}; there are {', '.join(ours)}, any other id of Gymnasium's registry, and "
            "'module:Id-v0' for an id that a module registers"
        ) from error


def tasks_of(env: Any) -> Sequence[Task]:
    """`env.tasks`, or `env.task_of` of each of `env.task_ids`."""
    if hasattr(env, "task_ids") and hasattr(env, "task_of"):
        return tuple(env.task_of(task_id) for task_id in env.task_ids)
    tasks = getattr(env, "tasks", None)
    if not tasks:
        raise ValueError(
            f"{type(env).__name__} must offer its tasks, as `tasks` or as `task_ids` with `task_of(id)`, got {tasks!r}"
        )
    return tuple(tasks)


def opened(task: Task, info: Mapping[str, Any]) -> Task:
    """The task as `info` has it after a reset: some worlds know instruction and first state only then, as a web page
    has to be opened first."""
    found = info.get("task")
    return found if isinstance(found, Task) else task


def domain_of(env: Any, tasks: Sequence[Task]) -> Domain:
    """`env.domain`, an object or what `load_domain` takes, else the domain that its tasks name."""
    domain = getattr(env, "domain", None)
    return domain if isinstance(domain, Domain) else load_domain(domain or tasks[0].domain)


def _source_of(env: Any) -> Source:
    return "dream" if hasattr(env, "experience_model") else "real"
