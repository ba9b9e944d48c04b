"""A dream, or a real environment, behind OpenEnv's server; all clients' actions of a moment are one batch.

    dreamgym serve --env DreamGym-WebShop-v0 --port 8000

Any OpenEnv client plays it, such as `GenericEnvClient(base_url="http://localhost:8000")`, each in a session of its own:
`reset(task_id=..., seed=...)`, then `step({"action": "search[shoes]"})`. `docs/other-trainers.md` lists the fields.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from openenv.core.env_server import Environment, create_app
from openenv.core.env_server.types import Action, Observation, State

from dreamgym_env.types import Task

from .pools import EnvPool, StepResult, open_pool, opened, read_settings

T = TypeVar("T")


@dataclass(frozen=True)
class ServeConfig:
    """What to serve, and where."""

    env: str = "DreamGym-WebShop-v0"
    """Gymnasium id, dream or real."""
    settings: tuple[str, ...] = ()
    """Further keywords of `gym.make`, as `name=value`."""
    host: str = "127.0.0.1"
    """Address to listen at. There is no password: whoever reaches it plays."""
    port: int = 8000
    """Port to listen at, 1 to 65535."""
    clients: int = 32
    """Sessions at once; further ones are refused until one ends."""
    gather_ms: float = 5.0
    """How long a batch waits for further actions after its first, in milliseconds, >= 0."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"`port` must be in [1, 65535], got {self.port}")
        if self.clients < 1:
            raise ValueError(f"`clients` must be >= 1, got {self.clients}")
        if self.gather_ms < 0:
            raise ValueError(f"`gather_ms` must be >= 0, got {self.gather_ms}")


class TextAction(Action):  # type: ignore[misc]
    """One action as text, in the domain's grammar."""

    action: str


class TextObservation(Observation):  # type: ignore[misc]
    """What an agent may know after a reset or step; `reward` and `done` are beside it."""

    state: str
    instruction: str
    available_actions: list[str]
    task_id: str
    possible: bool = True
    truncated: bool = False
    success: bool = False
    end_reason: str | None = None


class Table:
    """The pool that all sessions share. One thread does all its work; actions that come while it is busy, or within
    `gather_ms` of a batch's first, are stepped together."""

    def __init__(self, pool: EnvPool, gather_ms: float) -> None:
        self.pool, self.gather = pool, gather_ms / 1000
        self.tasks = {task.task_id: task for task in pool.tasks}
        self._free, self._lock = list(range(pool.size)), threading.Lock()
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._waiting: list[tuple[int, str, asyncio.Future[StepResult]]] = []
        self._ticks: asyncio.Task[None] | None = None

    def take(self) -> int:
        """A free environment's index."""
        with self._lock:
            return self._free.pop()

    def give_back(self, index: int) -> None:
        """Makes an environment free for the next session."""
        with self._lock:
            self._free.append(index)

    async def reset(self, index: int, task: Task) -> tuple[str, dict[str, Any]]:
        """Begins a task in one environment."""
        begun: list[tuple[str, dict[str, Any]]] = await self._work(lambda: self.pool.reset([index], [task]))
        return begun[0]

    async def step(self, index: int, action: str) -> StepResult:
        """One step of one environment, in a batch with all that are waiting."""
        future: asyncio.Future[StepResult] = asyncio.get_running_loop().create_future()
        self._waiting.append((index, action, future))
        if self._ticks is None or self._ticks.done():
            self._ticks = asyncio.create_task(self._tick())  # no client's own, so that none's leaving stops it
        return await future

    async def _tick(self) -> None:
        """Steps all that are waiting, until none is."""
        while self._waiting:
            await asyncio.sleep(self.gather)
            batch, self._waiting = self._waiting, []
            await self._step(batch)

    async def _step(self, batch: list[tuple[int, str, asyncio.Future[StepResult]]]) -> None:
        indices, actions, futures = zip(*batch, strict=True)
        try:
            results = await self._work(lambda: self.pool.step(indices, actions))
        except Exception as error:  # told to every client of the batch by OpenEnv's server
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in zip(futures, results, strict=True):
            if not future.done():  # a client that left has cancelled its own
                future.set_result(result)

    async def _work(self, job: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker, job)


def run_to_end(task: Coroutine[Any, Any, T]) -> T:
    """What it returns. It runs in a thread of its own: the caller's may have a running event loop (a notebook's, that
    of a browser)."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, task).result()


class TextEnvironment(Environment[TextAction, TextObservation, State]):  # type: ignore[misc]
    """One client's session. Raises ValueError, which the client is told, for an unknown task, a step before a reset
    and a step after the end."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table, self.index = table, table.take()
        self._rng = np.random.default_rng()
        self._task: Task | None = None
        self._state = State(step_count=0)
        self._over = False

    async def reset_async(
        self, seed: int | None = None, episode_id: str | None = None, task_id: str | None = None, **kwargs: Any
    ) -> TextObservation:
        """Begins the task named, or one drawn uniformly (`seed` makes the draws repeatable, not the dream)."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        tasks = self.table.pool.tasks
        if task_id is not None and task_id not in self.table.tasks:
            raise ValueError(f"`task_id` must be one of {len(tasks)}, such as {tasks[0].task_id!r}, got {task_id!r}")
        self._task = self.table.tasks[task_id] if task_id else tasks[int(self._rng.integers(len(tasks)))]
        self._state, self._over = State(episode_id=episode_id, step_count=0), False
        state, info = await self.table.reset(self.index, self._task)
        self._task = opened(self._task, info)
        return self._observation(state, info)

    async def step_async(self, action: TextAction, timeout_s: float | None = None, **kwargs: Any) -> TextObservation:
        """One step; `timeout_s` is not used."""
        if self._task is None or self._over:
            raise ValueError("the episode has ended or none has begun; reset first")
        state, reward, terminated, truncated, info = await self.table.step(self.index, action.action)
        self._state.step_count += 1
        self._over = terminated or truncated
        return self._observation(state, info, reward=reward, done=self._over, truncated=truncated)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> TextObservation:
        return run_to_end(self.reset_async(seed, episode_id, **kwargs))

    def step(self, action: TextAction, timeout_s: float | None = None, **kwargs: Any) -> TextObservation:
        return run_to_end(self.step_async(action))

    @property
    def state(self) -> State:
        """Episode id and steps taken."""
        return self._state

    def close(self) -> None:
        self.table.give_back(self.index)

    def _observation(self, state: str, info: dict[str, Any], **values: Any) -> TextObservation:
        assert self._task is not None
        told = {key: info[key] for key in ("possible", "success", "end_reason") if key in info}
        return TextObservation(
            state=state,
            instruction=self._task.instruction,
            available_actions=list(info.get("available_actions", ())),
            task_id=self._task.task_id,
            **told,
            **values,
        )


def make_app(pool: EnvPool, gather_ms: float = 5.0) -> Any:
    """The FastAPI application for a pool; as many sessions at once as it has environments."""
    factory = functools.partial(TextEnvironment, Table(pool, gather_ms))
    return create_app(factory, TextAction, TextObservation, env_name="dreamgym", max_concurrent_envs=pool.size)


def main(config: ServeConfig) -> None:
    """Serves until it is interrupted."""
    import uvicorn

    pool = open_pool(config.env, config.clients, **read_settings(config.settings))
    uvicorn.run(make_app(pool, config.gather_ms), host=config.host, port=config.port, log_level="info")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(ServeConfig, description=__doc__))
