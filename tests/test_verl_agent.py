"""The environment manager against what verl-agent's rollout loop calls: reset, step, masks of active rows, success."""

from __future__ import annotations

from typing import Any

import guessing_world  # noqa: F401 (registers Guess-v0)
import numpy as np
import pytest
from dreamed_shop import ShopModel, actions_of, play, tasks_of

from dreamgym_env.trainers.pools import open_pool
from dreamgym_env.trainers.verl_agent import EnvironmentManager, projection


def dream_manager(size: int, model: ShopModel | None = None, **settings: Any) -> EnvironmentManager:
    dream = {"experience_model": model or ShopModel(), "replay_buffer": None, "top_k": 0, "use_known": False}
    pool = open_pool("DreamGym-WebShop-v0", size, tasks=tasks_of("train", 3), **dream)
    return EnvironmentManager(pool, **settings)


def roll_out(manager: EnvironmentManager, respond: Any, max_steps: int, kwargs: Any = None) -> dict[str, Any]:
    """Calls the manager as verl-agent's multi-turn loop does: every row at every step, until all are done."""
    obs, _ = manager.reset(kwargs=kwargs)
    size = len(obs["text"])
    batches: list[list[dict[str, bool]]] = [[] for _ in range(size)]
    infos_of: list[list[dict[str, Any]]] = [[] for _ in range(size)]
    is_done, rewards_of, lengths = np.zeros(size, bool), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for tick in range(max_steps):
        active = ~is_done
        obs, rewards, dones, infos = manager.step([respond(row, tick) for row in range(size)])
        assert (len(rewards), rewards.dtype, dones.dtype) == (size, np.float32, np.bool_)
        assert np.array([info["is_action_valid"] for info in infos], dtype=bool).shape == (size,)
        rewards_of[active] += rewards[active]
        lengths[active] += 1
        for row in range(size):
            batches[row].append({"active_masks": bool(active[row])})
            infos_of[row].append(infos[row])
        is_done |= dones
        if is_done.all():
            break
    success = manager.success_evaluator(
        total_infos=infos_of, total_batch_list=batches, episode_rewards=rewards_of, episode_lengths=lengths
    )
    return {"success": success, "rewards": rewards_of, "lengths": lengths, "infos": infos_of, "obs": obs}


def test_the_loop_of_verl_agent_wins_what_the_oracle_wins() -> None:
    tasks, model = tasks_of("train", 3), ShopModel()
    scripts = [actions_of(task) for task in tasks]

    def respond(row: int, tick: int) -> str:
        script = scripts[row]
        return f"<think>so</think><action>{script[tick]}</action>" if tick < len(script) else "<action>x</action>"

    kwargs = np.array([{"task_id": task.task_id} for task in tasks], dtype=object)
    played = roll_out(dream_manager(3, model), respond, 15, kwargs)
    assert played["success"]["success_rate"].tolist() == [1.0, 1.0, 1.0]
    assert played["rewards"].tolist() == [10.0, 10.0, 10.0]
    assert played["lengths"].tolist() == [len(script) for script in scripts]
    assert played["obs"]["anchor"] == [play(task).transitions[-1].next_state for task in tasks]
    longest = max(map(len, scripts))
    assert model.batches == [sum(tick < len(script) for script in scripts) for tick in range(longest)]


def test_groups_share_their_task_and_seeds_repeat() -> None:
    texts = []
    for seed in (0, 0, 1):
        manager = dream_manager(12, group_size=3, seed=seed)
        _, infos = manager.reset(None)
        ids = [info["task"].task_id for info in infos]
        assert all(len(set(ids[start : start + 3])) == 1 for start in range(0, 12, 3))
        assert len(set(ids)) > 1
        texts.append(ids)
    assert texts[0] == texts[1] != texts[2]


def test_prompts_show_the_last_steps_and_what_is_offered() -> None:
    task = tasks_of("train", 1)[0]
    manager = dream_manager(1, history_length=1)
    obs, _ = manager.reset([{"task_id": task.task_id}])
    first = obs["text"][0]
    assert f"Task: {task.instruction}\nState:\n{task.initial_state}" in first
    assert "Available actions:\nsearch[<keywords>]" in first
    assert obs["image"] is None
    actions = actions_of(task)
    for action in actions[:2]:
        obs, *_ = manager.step([f"<action>{action}</action>"])
    second = obs["text"][0]
    assert "Steps so far: 2" in second
    assert f"Your action: {actions[1]}" in second
    assert f"Your action: {actions[0]}" not in second
    assert second.count("State:\n") == 2
    bare = dream_manager(1, history_length=0)
    bare.reset([{"task_id": task.task_id}])
    obs, *_ = bare.step([f"<action>{actions[0]}</action>"])
    assert "Your action" not in obs["text"][0]


def test_ended_rows_repeat_themselves_and_invalid_responses_are_told() -> None:
    manager = EnvironmentManager(open_pool("Guess-v0", 3, secret="moon", break_word="sun"))
    manager.reset(None)
    _, rewards, dones, infos = manager.step(["<action>say[moon]</action>", "<think>", "<action>say[sun]</action>"])
    assert (rewards.tolist(), dones.tolist()) == ([10.0, 0.0, 0.0], [True, False, True])
    assert [bool(info["is_action_valid"]) for info in infos] == [True, False, True]
    assert [info["won"] for info in infos] == [True, False, False]
    assert infos[2]["end_reason"] == "model_error"
    obs, rewards, dones, infos = manager.step(["<action>say[star]</action>"] * 3)
    assert (rewards.tolist(), dones.tolist()) == ([0.0, 0.0, 0.0], [True, True, True])
    assert [info["won"] for info in infos] == [True, False, False]
    again, rewards, *_ = manager.step(["anything"] * 3)
    assert again == obs
    assert not rewards.any()
    manager.close()


def test_success_is_that_of_the_last_active_step() -> None:
    manager = EnvironmentManager(open_pool("Guess-v0", 2))
    infos = [[{"won": False}, {"won": True}], [{"won": False}, {"won": True}]]
    batch = [[{"active_masks": True}, {"active_masks": True}], [{"active_masks": True}, {"active_masks": False}]]
    found = manager.success_evaluator(total_infos=infos, total_batch_list=batch, episode_rewards=None)
    assert found["success_rate"].tolist() == [1.0, 0.0]


def test_projection() -> None:
    said = ["<think>a</think><action>say[sun]</action>", "<action>say[", "say[moon]", ""]
    assert projection(said) == (["say[sun]", "<action>say[", "say[moon]", ""], [True, False, True, False])


def test_wrong_calls() -> None:
    pool = open_pool("Guess-v0", 4)
    with pytest.raises(ValueError, match="`group_size` must divide the pool's 4 environments, got 3"):
        EnvironmentManager(pool, group_size=3)
    with pytest.raises(ValueError, match="`history_length` must be >= 0, got -1"):
        EnvironmentManager(pool, history_length=-1)
    manager = EnvironmentManager(pool)
    with pytest.raises(ValueError, match="a row for each of 4 environments, got 1"):
        manager.reset([{}])
    with pytest.raises(ValueError, match="one of the pool's 4 tasks, got 'x'"):
        manager.reset([{"task_id": "x"}] * 4)
    manager.reset(None)
    with pytest.raises(ValueError, match="must have 4 responses, got 1"):
        manager.step(["a"])
