"""OpenEnv's real server and client over a loopback socket: several clients at once, batched, errors to their own."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("openenv")

import uvicorn
from dreamed_shop import ShopModel, actions_of, play, tasks_of
from openenv.core import GenericEnvClient

from dreamgym_env.trainers.pools import open_pool
from dreamgym_env.trainers.serve import ServeConfig, Table, TextAction, TextEnvironment, make_app, run_to_end


def dream_pool(size: int, model: ShopModel | None = None) -> Any:
    settings = {"experience_model": model or ShopModel(), "replay_buffer": None, "top_k": 0}
    return open_pool("DreamGym-WebShop-v0", size, tasks=tasks_of("train", 4), use_known=False, **settings)


@contextmanager
def served(pool: Any, gather_ms: float = 50.0) -> Iterator[str]:
    """The URL of a server in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(make_app(pool, gather_ms), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def together(url: str, jobs: Sequence[Callable[[Any], Awaitable[Any]]]) -> list[Any]:
    """Each job with a client of its own, all at the same time."""

    async def one(job: Callable[[Any], Awaitable[Any]]) -> Any:
        async with GenericEnvClient(base_url=url) as client:
            return await job(client)

    async def everyone() -> list[Any]:
        return list(await asyncio.gather(*(one(job) for job in jobs)))

    return run_to_end(everyone())


def test_clients_play_their_own_episodes_in_one_batch() -> None:
    tasks, model = tasks_of("train", 4), ShopModel()

    def episode(task: Any) -> Callable[[Any], Awaitable[Any]]:
        async def job(client: Any) -> Any:
            results = [await client.reset(task_id=task.task_id)]
            for action in actions_of(task):
                results.append(await client.step({"action": action}))
            return results, await client.state()

        return job

    with served(dream_pool(4, model)) as url:
        played = together(url, [episode(task) for task in tasks])
    for task, (results, state) in zip(tasks, played, strict=True):
        truth = play(task).transitions
        assert [result.observation["state"] for result in results[1:]] == [step.next_state for step in truth]
        first, last = results[0], results[-1]
        assert (first.observation["instruction"], first.observation["task_id"]) == (task.instruction, task.task_id)
        assert (first.observation["state"], first.done) == (task.initial_state, False)
        assert first.observation["available_actions"] == ["search[<keywords>]"]
        assert (last.reward, last.done, last.observation["end_reason"]) == (1.0, True, "success")
        assert state["step_count"] == len(truth)
    asked = sum(len(actions_of(task)) for task in tasks)
    assert sum(model.batches) == asked
    assert max(model.batches) >= 3
    assert len(model.batches) < asked / 2, "clients' actions of a moment are predicted together"


def test_errors_reach_the_client_that_made_them() -> None:
    task = tasks_of("train", 1)[0]

    async def wrong(client: Any) -> list[str]:
        told = []
        for call in (
            lambda: client.step({"action": "search[x]"}),
            lambda: client.reset(task_id="nobody"),
            lambda: client.step({"words": "x"}),
        ):
            with pytest.raises(RuntimeError) as error:
                await call()
            told.append(str(error.value))
        return told

    async def right(client: Any) -> list[str]:
        await client.reset(task_id=task.task_id)
        for action in actions_of(task):
            result = await client.step({"action": action})
        assert result.observation["success"]
        with pytest.raises(RuntimeError) as error:
            await client.step({"action": "search[x]"})
        again = await client.reset(seed=3)
        return [str(error.value), again.observation["state"]]

    with served(dream_pool(2)) as url:
        told, after = together(url, [wrong, right])
    assert "reset first" in told[0]
    assert "`task_id` must be one of 4" in told[1]
    assert "VALIDATION_ERROR" in told[2]
    assert "reset first" in after[0]
    assert after[1] == task.initial_state


def test_a_full_server_refuses_and_takes_again_who_comes_later() -> None:
    async def reset(client: Any) -> str:
        return str((await client.reset(seed=0)).observation["task_id"])

    async def scene() -> list[str]:
        async with GenericEnvClient(base_url=url) as first:
            found = [await reset(first)]
            with pytest.raises(Exception, match=r"CAPACITY_REACHED|received 1000|no close frame"):
                async with GenericEnvClient(base_url=url) as second:
                    await reset(second)
        for _ in range(100):  # the server learns of the first one's leaving a moment later
            try:
                async with GenericEnvClient(base_url=url) as third:
                    return [*found, await reset(third)]
            except Exception:
                await asyncio.sleep(0.05)
        raise AssertionError("no session was freed")

    with served(dream_pool(1)) as url:
        found = run_to_end(scene())
    assert found[0] == found[1], "the same seed draws the same task"


def test_an_environment_also_works_without_a_server() -> None:
    task = tasks_of("train", 1)[0]
    env = TextEnvironment(Table(dream_pool(1), 0.0))
    assert env.reset(task_id=task.task_id, episode_id="e").state == task.initial_state
    for action in actions_of(task):
        seen = env.step(TextAction(action=action))
    assert (seen.success, seen.reward, env.state.episode_id) == (True, 1.0, "e")


def test_a_failing_pool_is_told_to_all_of_the_batch() -> None:
    class Failing:
        size, tasks = 2, tasks_of("train", 1)

        def reset(self, indices: Any, tasks: Any) -> Any:
            return [("s", {"available_actions": []})]

        def step(self, indices: Any, actions: Any) -> Any:
            raise RuntimeError("the model is gone")

    async def job(client: Any) -> str:
        await client.reset()
        with pytest.raises(RuntimeError) as error:
            await client.step({"action": "x"})
        return str(error.value)

    with served(Failing()) as url:
        assert all("the model is gone" in told for told in together(url, [job, job]))


def test_who_leaves_in_the_middle_stops_nobody_else() -> None:
    async def scene() -> tuple[str, bool]:
        table = Table(dream_pool(2), 50.0)
        task, states = tasks_of("train", 1)[0], list[str]()
        for index in range(2):
            states.append((await table.reset(index, task))[0])
        first, second = (asyncio.ensure_future(table.step(index, actions_of(task)[0])) for index in range(2))
        await asyncio.sleep(0)
        first.cancel()
        state, *_ = await second
        return state, first.cancelled()

    assert run_to_end(scene()) == (play(tasks_of("train", 1)[0]).transitions[0].next_state, True)


def test_the_command_serves() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", "--env", "Real-WebShop-v0", "--port", str(port), "--clients", "3"]
    process = subprocess.Popen([sys.executable, "-m", "dreamgym_env.trainers.cli", *words])
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(1200):
            try:
                with urllib.request.urlopen(f"{url}/health") as answer:
                    assert json.load(answer)["status"] == "healthy"
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)

        async def job(client: Any) -> Any:
            await client.reset(seed=1)
            return await client.step({"action": "search[towels]"})

        results = together(url, [job] * 3)
        assert all(result.observation["state"].startswith("Page 1") for result in results)
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize(("name", "value"), [("port", 0), ("clients", 0), ("gather_ms", -1.0)])
def test_wrong_settings(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        ServeConfig(**{name: value})
