"""The contract of batched dreams: the same results as single ones, by one prediction call a tick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from dreamed_shop import Scripted, ShopModel, actions_of, play, tasks_of
from gymnasium.vector import AutoresetMode

import dreamgym_env  # noqa: F401 (registers the environments)
from dreamgym_env.domains.webshop_pages import DONE_STATE, SEARCH_STATE
from dreamgym_env.types import Completion, Task
from dreamgym_env.vector_env import DreamGymVectorEnv


def make_shop(num_envs: int = 3, **settings: Any) -> Any:
    options = {"experience_model": ShopModel(), "replay_buffer": None, "top_k": 0, "tasks": tasks_of("train", 4)}
    return gym.make_vec(
        "DreamGym-WebShop-v0", num_envs, vectorization_mode="vector_entry_point", **(options | settings)
    )


WORLDS: list[tuple[str, Callable[..., Any], Callable[[], Sequence[Task]], str]] = [
    ("DreamGym-WebShop-v0", make_shop, lambda: tasks_of("train", 4), "click[Buy Now]"),
]
"""Id, how to make it, tasks that `actions_of` wins, an action that is impossible at first."""


@pytest.fixture(params=WORLDS, ids=lambda world: str(world[0]))
def world(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestContract:
    """What holds of any batched dream."""

    def test_spaces_and_modes(self, world: Any) -> None:
        env = world[1](2)
        assert env.num_envs == 2
        assert ("a", "b") in env.observation_space
        assert len(env.action_space.sample()) == 2
        assert env.metadata["autoreset_mode"] == AutoresetMode.DISABLED
        assert world[1](2, autoreset_mode="NextStep").metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
        assert DreamGymVectorEnv.metadata["autoreset_mode"] == AutoresetMode.DISABLED
        for wrong in (AutoresetMode.SAME_STEP, "SameStep"):
            with pytest.raises(ValueError, match="`autoreset_mode` must be DISABLED or NEXT_STEP"):
                world[1](2, autoreset_mode=wrong)
        with pytest.raises(ValueError, match="`num_envs` must be >= 1, got 0"):
            world[1](0)

    def test_one_call_a_tick_for_all_that_are_running(self, world: Any) -> None:
        _, make, tasks_, impossible = world
        tasks = tasks_()[:3]
        env = make(3)
        experience = env.unwrapped.experience_model
        experience.config, model = replace(experience.config, use_known=False), experience.language_model
        scripts = [actions_of(task) for task in tasks]
        lengths = [len(script) for script in scripts]
        states, info = env.reset(seed=0, options={"tasks": tasks})
        assert states == tuple(task.initial_state for task in tasks)
        assert list(info["task"]) == list(tasks)
        ended: dict[int, int] = {}
        for tick in range(max(lengths)):
            actions = tuple(script[tick] if tick < len(script) else impossible for script in scripts)
            states, rewards, terminated, truncated, info = env.step(actions)
            ended.update(dict.fromkeys(np.flatnonzero(terminated), tick + 1))
            assert rewards.tolist() == [float(end) for end in terminated]
            assert not truncated.any()
            assert info["_success"].tolist() == [tick < length for length in lengths]
        assert [ended[index] for index in range(3)] == lengths
        assert model.batches == [sum(tick < length for length in lengths) for tick in range(max(lengths))]
        assert states == (DONE_STATE,) * 3
        env.step((impossible,) * 3)
        assert len(model.batches) == max(lengths)  # ended dreams ask nothing

    def test_impossible_actions_ask_nothing(self, world: Any) -> None:
        env = world[1](3)
        before, _ = env.reset(seed=1)
        states, rewards, terminated, truncated, info = env.step((world[3], "", "nonsense"))
        assert states == before
        assert not np.any([rewards, terminated, truncated, info["possible"]])
        assert env.unwrapped.experience_model.language_model.batches == []

    def test_seeds_draw_the_same_tasks(self, world: Any) -> None:
        drawn = []
        for seed in (4, 4, [4, None, 9]):
            env = world[1](3)
            resets = [env.reset(seed=seed), env.reset(), env.reset()]
            drawn.append([task.task_id for _, info in resets for task in info["task"]])
            assert env.unwrapped.experience_model.language_model.seeds == [4]
        assert drawn[0] == drawn[1] == drawn[2]
        assert len(set(drawn[0])) > 1

    def test_single_and_batched_results_are_equal(self, world: Any) -> None:
        env_id, make, tasks_, _ = world
        tasks = tasks_()[:3]
        env = make(3, horizon=9)
        env.reset(seed=0, options={"task_ids": [task.task_id for task in tasks]})
        scripts = [[step.action for step in play(task, "random", 3).transitions][:9] for task in tasks]
        batched: list[list[Any]] = [[], [], []]
        for tick in range(9):
            running = [index for index in range(3) if env.unwrapped.dreams[index].end_reason is None]
            states, rewards, ends, cuts, infos = env.step(
                tuple(script[tick] if tick < len(script) else "" for script in scripts)
            )
            for index in running:
                info = {key: infos[key][index] for key in infos if not key.startswith("_")}
                batched[index].append((states[index], rewards[index], ends[index], cuts[index], info))
        for index, task in enumerate(tasks):
            single = gym.make(env_id, experience_model=ShopModel(), replay_buffer=None, top_k=0, tasks=tasks, horizon=9)
            single.reset(options={"task_id": task.task_id})
            assert len(batched[index]) > 1
            for action, expected in zip(scripts[index], batched[index], strict=True):
                assert single.step(action) == expected

    def test_disabled_autoreset_leaves_ended_dreams_until_the_mask(self, world: Any) -> None:
        _, make, tasks_, impossible = world
        env = make(2, horizon=2)
        task, other = tasks_()[:2]
        env.reset(options={"tasks": [task, task]})
        env.step((actions_of(task)[0], impossible))
        states, _, _, truncated, info = env.step((impossible, impossible))
        assert truncated.all()
        assert list(info["end_reason"]) == ["time_limit"] * 2
        again, rewards, terminated, truncated, info = env.step((impossible, impossible))
        assert again == states
        assert not np.any([rewards, terminated, truncated])
        assert info == {}
        states, info = env.reset(options={"reset_mask": np.array([False, True]), "tasks": [other]})
        assert states == (again[0], other.initial_state)
        assert info["task"][1] == other
        assert info["_task"].tolist() == [False, True]
        _, _, _, truncated, info = env.step((impossible, impossible))
        assert info["_possible"].tolist() == [False, True]

    def test_next_step_autoreset(self, world: Any) -> None:
        _, make, tasks_, impossible = world
        env = make(2, horizon=2, autoreset_mode=AutoresetMode.NEXT_STEP)
        task = tasks_()[0]
        env.reset(seed=0, options={"tasks": [task, task]})
        env.reset(options={"reset_mask": [False, True], "tasks": [task]})
        env.step((impossible, impossible))
        env.step((impossible, impossible))
        batches = list(env.unwrapped.experience_model.language_model.batches)
        states, rewards, terminated, truncated, info = env.step((actions_of(task)[0], "ignored"))
        assert states == (task.initial_state,) * 2
        assert not np.any([rewards, terminated, truncated])
        assert info["possible"].all()
        assert {one.task_id for one in info["task"]} <= {one.task_id for one in env.unwrapped.tasks}
        assert env.unwrapped.experience_model.language_model.batches == batches
        states, *_ = env.step((impossible, impossible))
        assert [len(dream.transitions) for dream in env.unwrapped.dreams] == [1, 1]

    def test_a_broken_dream_leaves_the_others_alone(self, world: Any) -> None:
        _, make, tasks_, _ = world
        task, honest = tasks_()[0], ShopModel()

        def script(call: int, row: int, conversation: Any) -> Completion | str:
            return Completion("", "error", error="gone") if row == 0 else honest.reply(conversation)

        env = make(2, experience_model=Scripted(script), attempts=1)
        env.reset(options={"tasks": [task, task]})
        states, rewards, _, truncated, info = env.step((actions_of(task)[0],) * 2)
        assert truncated.tolist() == [True, False]
        assert (states[0], info["end_reason"][0], info["error"][0]) == (task.initial_state, "model_error", "gone")
        assert states[1] == play(task).transitions[0].next_state
        assert not rewards.any()

    def test_trainers_may_touch_some_dreams_only(self, world: Any) -> None:
        _, make, tasks_, impossible = world
        env = make(3).unwrapped
        task = tasks_()[0]
        ((state, info),) = env.reset_at([2], [task])
        assert (state, info["task"]) == (task.initial_state, task)
        ((state, reward, terminated, truncated, info),) = env.step_at([2], [actions_of(task)[0]])
        assert (state, reward, terminated, truncated) == (play(task).transitions[0].next_state, 0.0, False, False)
        with pytest.raises(ValueError, match=r"dream 0 was never reset; call reset\(\) first"):
            env.step_at([0], [impossible])
        for action in actions_of(task)[1:]:
            env.step_at([2], [action])
        with pytest.raises(ValueError, match=r"has ended \(success\); call reset first"):
            env.step_at([2], [impossible])

    def test_wrong_calls(self, world: Any) -> None:
        _, make, tasks_, impossible = world
        env = make(2)
        with pytest.raises(ValueError, match="call reset"):
            env.unwrapped.step((impossible, impossible))
        with pytest.raises(ValueError, match="one task for each dream that is reset, 2, got 1"):
            env.reset(options={"task_ids": [tasks_()[0].task_id]})
        with pytest.raises(ValueError, match="no task 'x' among"):
            env.reset(options={"task_ids": ["x", "y"]})
        with pytest.raises(ValueError, match=r"got .'mask'"):
            env.reset(options={"mask": [True, True]})
        env.reset(seed=0)
        with pytest.raises(ValueError, match="one text for each of 2 dreams, got 1"):
            env.step((impossible,))
        with pytest.raises(ValueError, match="`horizon` must be >= 1"):
            make(2, horizon=0)


def test_every_dream_starts_at_the_search_page() -> None:
    env = make_shop(4)
    assert env.reset(seed=0, options={"task_id": tasks_of("train", 4)[2].task_id})[0] == (SEARCH_STATE,) * 4
