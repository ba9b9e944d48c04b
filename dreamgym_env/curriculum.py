"""Which tasks to roll out: reward entropy (Eq. 7), a lambda-bounded share of generated tasks, and their lineage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dreamgym_env.trajectories import task_from_record, task_record
from dreamgym_env.types import DataError, Task


def reward_entropy(rewards: Sequence[float]) -> float:
    """The value of a task, V = (1/n) sum_i (r_i - mean)^2 over the n rewards of its group (Eq. 7, arXiv:2511.03773).

    The population variance: at most 0.25 for rewards in {0, 1}, reached when half of the group succeeds, and 0 when
    all end alike.

    Raises:
        ValueError: no rewards.
    """
    if not rewards:
        raise ValueError("`rewards` must hold at least one reward, got none")
    mean = math.fsum(rewards) / len(rewards)
    return math.fsum((reward - mean) ** 2 for reward in rewards) / len(rewards)


class Curriculum:
    """Seed tasks, generated tasks and what is known of their value.

    A batch of n tasks holds at most floor(lam * n) generated ones; the rest are seed tasks. Seed tasks come in shuffled
    passes over the whole list, so that each one comes up once before any comes up twice, and no batch has one twice
    unless there are too few. Generated tasks are drawn without replacement, with weights: the task's own last reward
    entropy (its parent's as long as it has none, else 0.25, the highest that there is for rewards in {0, 1}) plus
    `exploration`.

    Args:
        seed_tasks: at least one, of the training split and origin "seed", with different ids.
        lam: lambda, the synthetic task ratio, in [0, 1].
        seed: of all draws.
        exploration: weight that even a generated task of value 0 keeps, above 0.
        max_generated: generated tasks kept, at least 1; beyond it those of the lowest weight go, the oldest first.

    Raises:
        ValueError: an argument is not so.
    """

    def __init__(
        self,
        seed_tasks: Sequence[Task],
        lam: float = 0.3,
        seed: int = 0,
        *,
        exploration: float = 0.01,
        max_generated: int = 1000,
    ) -> None:
        if not 0 <= lam <= 1:
            raise ValueError(f"`lam` must be in [0, 1], got {lam}")
        if exploration <= 0:
            raise ValueError(f"`exploration` must be > 0, got {exploration}")
        if max_generated < 1:
            raise ValueError(f"`max_generated` must be >= 1, got {max_generated}")
        self.lam, self.exploration, self.max_generated = lam, exploration, max_generated
        self._seeds = _by_id(seed_tasks, "seed")
        if not self._seeds:
            raise ValueError("`seed_tasks` must hold at least one task, got none")
        self._generated: dict[str, Task] = {}
        self._parents: dict[str, str | None] = {}  # also of generated tasks that were dropped
        self._values: dict[str, float] = {}
        self._means: dict[str, float] = {}
        self._queue: list[str] = []
        self._rng = np.random.default_rng(seed)

    @property
    def tasks(self) -> dict[str, Task]:
        """All tasks by id, seed tasks first."""
        return self._seeds | self._generated

    @property
    def values(self) -> Mapping[str, float]:
        """The last reward entropy of each task that has been rolled out."""
        return dict(self._values)

    def sample(self, n: int) -> list[Task]:
        """n tasks in shuffled order, at most floor(lam * n) of them generated.

        Raises:
            ValueError: n < 0.
        """
        if n < 0:
            raise ValueError(f"`n` must be >= 0, got {n}")
        generated = self._draw_generated(min(math.floor(self.lam * n), len(self._generated)))
        batch = generated + self._next_seeds(n - len(generated))
        return [batch[position] for position in self._rng.permutation(len(batch))]

    def update(self, task: Task, rewards: Sequence[float]) -> float:
        """Records the group's reward entropy as the task's value and gives it.

        Raises:
            ValueError: no rewards, or a task that the curriculum does not know.
        """
        if task.task_id not in self._seeds and task.task_id not in self._parents:
            raise ValueError(f"`task` must be one of the curriculum's, got {task.task_id!r}; add it with add_generated")
        value = reward_entropy(rewards)
        self._values[task.task_id] = value
        self._means[task.task_id] = math.fsum(rewards) / len(rewards)
        return value

    def select_for_variation(self, m: int) -> list[Task]:
        """Up to m tasks to vary, highest reward entropy first: those whose last group had 0 < mean reward < 1, that
        is, feasible and challenging. Ties by id."""
        tasks = self.tasks
        open_ = [one for one, mean in self._means.items() if one in tasks and 0 < mean < 1 and self._values[one] > 0]
        return [tasks[one] for one in sorted(open_, key=lambda one: (-self._values[one], one))[: max(m, 0)]]

    def add_generated(self, tasks: Iterable[Task]) -> None:
        """Takes in generated tasks.

        Raises:
            ValueError: a task of another origin, of the held-out split, without a known parent, or with an id that is
                taken. Then none is added.
        """
        tasks = list(tasks)
        new = _by_id(tasks, "generated")
        known = self._parents.keys() | self._seeds.keys()
        for task in tasks:
            if task.task_id in known:
                raise ValueError(f"`task_id` must be new, got {task.task_id!r}")
            if task.parent_id not in known | new.keys() or task.parent_id == task.task_id:
                raise ValueError(f"`parent_id` of {task.task_id!r} must be a known task, got {task.parent_id!r}")
        self._generated |= new
        self._parents |= {task.task_id: task.parent_id for task in tasks}
        self._drop_surplus()

    def lineage(self, task_id: str) -> list[str]:
        """The task's id, its parent's, and so on up to a seed task.

        Raises:
            ValueError: an unknown task.
        """
        if task_id not in self._seeds and task_id not in self._parents:
            raise ValueError(f"`task_id` must be one of the curriculum's, got {task_id!r}")
        line = [task_id]
        while (parent := self._parents.get(line[-1])) is not None and parent not in line:
            line.append(parent)
        return line

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as JSON values: with the same constructor arguments it gives the same draws again."""
        return {
            "generated": [task_record(task) for task in self._generated.values()],
            "parents": dict(self._parents),
            "values": dict(self._values),
            "means": dict(self._means),
            "queue": list(self._queue),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over `state_dict()` of a curriculum with the same seed tasks.

        Raises:
            DataError: it is not one, or belongs to other seed tasks. Then nothing has changed.
        """
        try:
            generated = [task_from_record(record) for record in state["generated"]]
            queue = [str(one) for one in state["queue"]]
            parents, values, means = (dict(state[key]) for key in ("parents", "values", "means"))
            rng = np.random.default_rng()
            rng.bit_generator.state = state["rng"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not the state of a curriculum ({type(error).__name__}: {error})") from error
        unknown = sorted({*queue, *values} - self._seeds.keys() - parents.keys())
        if unknown:
            raise DataError(f"the state belongs to other seed tasks; this curriculum does not know {unknown[:3]}")
        self._generated = {task.task_id: task for task in generated}
        self._parents, self._values, self._means = parents, values, means
        self._queue, self._rng = queue, rng

    def _next_seeds(self, n: int) -> list[Task]:
        drawn: list[str] = []
        while len(drawn) < n:
            if not self._queue:
                names = list(self._seeds)
                shuffled = [names[position] for position in self._rng.permutation(len(names))]
                # The queue is taken from its end; what this batch has already comes last in the new pass.
                self._queue = sorted(shuffled, key=lambda one: one not in drawn)
            drawn.append(self._queue.pop())
        return [self._seeds[one] for one in drawn]

    def _draw_generated(self, n: int) -> list[Task]:
        names = list(self._generated)
        if n == 0:
            return []
        weights = np.array([self._weight(one) for one in names])
        drawn = self._rng.choice(len(names), size=n, replace=False, p=weights / weights.sum())
        return [self._generated[names[position]] for position in drawn]

    def _weight(self, task_id: str) -> float:
        parent = self._parents.get(task_id) or ""
        return self._values.get(task_id, self._values.get(parent, 0.25)) + self.exploration

    def _drop_surplus(self) -> None:
        surplus = len(self._generated) - self.max_generated
        if surplus > 0:
            for name in sorted(self._generated, key=self._weight)[:surplus]:  # stable: the oldest first
                del self._generated[name]


def _by_id(tasks: Sequence[Task], origin: str) -> dict[str, Task]:
    for task in tasks:
        if task.origin != origin:
            raise ValueError(f"task {task.task_id!r} must have origin {origin!r}, got {task.origin!r}")
        if task.split == "held_out":
            raise ValueError(f"task {task.task_id!r} is held out and must not be trained on")
    by_id = {task.task_id: task for task in tasks}
    if len(by_id) < len(tasks):
        raise ValueError(f"tasks must have different ids, got {len(tasks)} tasks with {len(by_id)} ids")
    return by_id
