"""The real Stable-Baselines3 and sb3-contrib on text environments: the VecEnv's contract, the policy, learning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sb3_contrib")

import guessing_world  # noqa: E402 (registers Guess-v0)
from dreamed_shop import ShopModel, actions_of, tasks_of  # noqa: E402
from stable_baselines3 import PPO  # noqa: E402
from stable_baselines3.common.env_checker import check_env  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor  # noqa: E402

from dreamgym_env.trainers.sb3 import (  # noqa: E402
    ActionScorer,
    SB3Config,
    SB3VecEnv,
    ScoringPolicy,
    main,
    make_envs,
    play,
    random_act,
)


def one_task(dreamed: bool) -> dict[str, Any]:
    """Environments of a single task, so that all resets are alike."""
    task = tasks_of("train", 1)[0]
    if not dreamed:
        return {"env_id": "Real-WebShop-v0", "tasks": [task.task_id], "horizon": 6}
    return {"experience_model": ShopModel(), "replay_buffer": None, "top_k": 0, "tasks": [task], "horizon": 6}


@pytest.mark.filterwarnings("ignore:Your observation")
def test_a_single_environment_passes_sb3s_check() -> None:
    check_env(gym.make("DreamGymFeatures-v0", env_id="Real-WebShop-v0"))


@pytest.mark.parametrize("dreamed", [False, True])
def test_the_vec_env_does_what_sb3s_own_does(dreamed: bool) -> None:
    settings = one_task(dreamed)
    ours = SB3VecEnv(gym.make_vec("DreamGymFeatures-v0", num_envs=2, **settings))
    theirs = DummyVecEnv([lambda: gym.make("DreamGymFeatures-v0", **settings)] * 2)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    ours.seed(0)
    theirs.seed(0)
    assert np.array_equal(ours.reset(), theirs.reset())
    infos = ours.reset_infos
    wins, ended = actions_of(tasks_of("train", 1)[0]), 0
    for tick in range(14):
        assert np.array_equal(ours.env_method("action_masks"), theirs.env_method("action_masks"))
        offered, wish = infos[0]["actions"], wins[tick % len(wins)]
        choice = np.array([offered.index(wish) if wish in offered else 0, tick % 3])
        seen, rewards, dones, infos = ours.step(choice)
        others = theirs.step(choice)
        assert np.array_equal(seen, others[0])
        assert np.array_equal(rewards, others[1])
        assert np.array_equal(dones, others[2])
        for index, (mine, other) in enumerate(zip(infos, others[3], strict=True)):
            assert mine["TimeLimit.truncated"] == other["TimeLimit.truncated"]
            assert mine["end_reason"] == other["end_reason"]
            assert ("terminal_observation" in mine) == bool(dones[index]) == ("terminal_observation" in other)
            if dones[index]:
                ended += 1
                assert np.array_equal(mine["terminal_observation"], other["terminal_observation"])
                infos[index] = {"actions": ours.reset_infos[index]["actions"]}
    assert ended >= 4


def test_the_vec_env_takes_environments_that_reset_in_the_same_step_only() -> None:
    with pytest.raises(ValueError, match="autoreset mode SAME_STEP"):
        SB3VecEnv(gym.make_vec("CartPole-v1", num_envs=1))
    envs = make_envs("Real-WebShop-v0", 2, 24)
    assert envs.env_method("action_masks", indices=[1])[0].shape == (24,)
    assert envs.get_attr("render_mode") == [None, None]
    with pytest.raises(NotImplementedError, match="set 'horizon' on `envs` itself"):
        envs.set_attr("horizon", 3)
    envs.close()


class TestActionScorer:
    """No index means anything, and rows without an action mean nothing."""

    def rows(self, available: int) -> Any:
        rows = torch.rand(1, 6, 8, generator=torch.Generator().manual_seed(0))
        rows[:, 1:, 0] = (torch.arange(5) < available).float()
        return rows

    def scorer(self) -> ActionScorer:
        torch.manual_seed(0)
        scorer = ActionScorer(6, 8, width=16)
        torch.nn.init.normal_(scorer.score[-1].weight)
        return scorer

    def test_permuted_actions_have_permuted_scores_and_the_same_value(self) -> None:
        scorer, rows, order = self.scorer(), self.rows(5), [3, 0, 4, 1, 2]
        scores, value = scorer(rows.flatten(1))
        moved = torch.cat([rows[:, :1], rows[:, 1:][:, order]], 1)
        scores_moved, value_moved = scorer(moved.flatten(1))
        assert torch.allclose(scores_moved, scores[:, order], atol=1e-6)
        assert torch.allclose(value, value_moved, atol=1e-6)
        assert scores.std() > 0

    def test_empty_rows_change_nothing(self) -> None:
        scorer, rows = self.scorer(), self.rows(3)
        other = rows.clone()
        other[:, 4:, 1:] = 9.0
        (scores, value), (scores_other, value_other) = scorer(rows.flatten(1)), scorer(other.flatten(1))
        assert torch.allclose(scores[:, :3], scores_other[:, :3])
        assert torch.allclose(value, value_other)

    def test_the_first_policy_is_the_lean_alone(self) -> None:
        rows = self.rows(5)
        scores, _ = ActionScorer(6, 8, lean=2.0)(rows.flatten(1))
        bias = scores[0, 0] - 2 * rows[0, 1, 1]
        assert torch.allclose(scores, 2 * rows[:, 1:, 1] + bias, atol=1e-6)


@pytest.mark.parametrize("dreamed", [False, True])
@pytest.mark.parametrize("algorithm", ["maskable-ppo", "ppo"])
def test_an_agent_learns_for_real_and_in_a_dream(algorithm: Any, dreamed: bool) -> None:
    how = {"num_envs": 8, "max_actions": 4, "episodes": 64, "algorithm": algorithm, "eval_split": "train"}
    how |= {"learning_rate": 3e-3, "rollout_steps": 16, "batch_size": 64, "epochs": 8, "entropy": 0.0}
    with guessing_world.dream_registered() as dream:
        env_id = dream if dreamed else "Guess-v0"
        how |= {"env_id": env_id, "eval_envs": (env_id,), "settings": () if dreamed else ('secret="star"',)}
        before, after = (main(SB3Config(**how, steps=steps))[env_id] for steps in (0, 2048))
        at_random = main(SB3Config(**how, steps=0, random=True))[env_id]
    assert max(before["success_rate"], at_random["success_rate"]) < 0.75 < 0.9 < after["success_rate"]
    assert (after["n"], after["end_reasons"].get("model_error")) == (64, None)


@pytest.mark.parametrize("policy", [ScoringPolicy, "MlpPolicy"])
def test_plain_ppo_runs_on_batched_dreams(policy: Any) -> None:
    settings = one_task(True)
    envs = make_envs("DreamGym-WebShop-v0", 3, 24, **settings)
    PPO(policy, VecMonitor(envs), n_steps=8, batch_size=12, n_epochs=1, seed=0).learn(24)
    batches = settings["experience_model"].batches
    assert max(batches) > 1, "dreams of one tick are predicted together"


def test_broken_dreams_are_told_apart_and_not_counted() -> None:
    envs = make_envs("Guess-v0", 2, 3, break_word="sun", secret="moon")
    result = play(envs, lambda observations, _: np.array([0, 1]), 6, seed=0)
    assert result["end_reasons"] == {"model_error": 3, "success": 3}
    assert (result["n"], result["success_rate"]) == (3, 1.0)
    envs.reset()
    *_, infos = envs.step(np.array([0, 1]))
    assert [info["TimeLimit.truncated"] for info in infos] == [True, False]


def test_each_environment_plays_as_many_episodes() -> None:
    envs = make_envs("Guess-v0", 4, 3)
    # Environment 1 wins in one step, the others take two: a count of first ends would favour it.
    result = play(envs, lambda *_: np.array([0, 1, 0, 0]), 10, seed=0)
    assert result["end_reasons"] == {"success": 3, "time_limit": 9}


def test_random_act_takes_available_actions_only() -> None:
    masks = np.array([[True, False, True], [False, True, False]])
    drawn = np.array([random_act(0)(np.zeros(0, np.float32), masks) for _ in range(20)])
    assert set(drawn[:, 1]) == {1}
    assert set(np.array([random_act(seed)(np.zeros(0, np.float32), masks)[0] for seed in range(20)])) == {0, 2}


def test_the_command_trains_saves_and_reloads(tmp_path: Path) -> None:
    shop = {"env_id": "Real-WebShop-v0", "num_envs": 4, "rollout_steps": 8, "batch_size": 16, "epochs": 1}
    trained = main(SB3Config(**shop, steps=64, episodes=8, output=str(tmp_path)))
    assert json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8")) == trained
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["steps"] == 64
    again = main(SB3Config(**shop, steps=0, episodes=8, policy=str(tmp_path)))
    assert again == trained
    other = main(SB3Config(**shop, steps=0, episodes=8, random=True))
    assert other["Real-WebShop-v0"]["n"] == 8
    stopped = main(SB3Config(**shop, steps=10**9, minutes=0.0, episodes=0))
    assert stopped == {}


@pytest.mark.parametrize(("changes", "message"), [({"num_envs": 0}, "num_envs"), ({"gamma": 0.0}, "gamma")])
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SB3Config(**changes)
