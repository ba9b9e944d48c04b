"""The one-file PPO: its advantages against hand-computed numbers and SB3's buffer, and that it learns."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import guessing_world  # noqa: E402, F401 (registers Guess-v0)
from dreamed_shop import ShopModel, tasks_of  # noqa: E402

from dreamgym_env.trainers import cleanrl_ppo  # noqa: E402
from dreamgym_env.trainers.cleanrl_ppo import Agent, CleanRLConfig, advantages_of, main  # noqa: E402


def test_advantages_by_hand() -> None:
    # One environment, gamma 0.5, lambda 0.5; the episode ends with the second step.
    rewards, values = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[0.2], [0.4], [0.6]])
    ends, last = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([0.8])
    # d2 = 0 + 0.5*0.8 - 0.6 = -0.2; d1 = 1 - 0.4 = 0.6, nothing after; d0 = 0.5*0.4 - 0.2 = 0, plus 0.25*0.6.
    found = advantages_of(rewards, values, ends, last, 0.5, 0.5)
    assert torch.allclose(found[:, 0], torch.tensor([0.15, 0.6, -0.2]))


def test_advantages_are_those_of_stable_baselines3() -> None:
    buffers = pytest.importorskip("stable_baselines3.common.buffers")
    from gymnasium.spaces import Box, Discrete

    rng = np.random.default_rng(0)
    rewards, values, ends = rng.random((6, 3)), rng.random((6, 3)), (rng.random((6, 3)) < 0.3).astype(float)
    last = rng.random(3)
    buffer = buffers.RolloutBuffer(6, Box(0, 1, (1,)), Discrete(2), "cpu", 0.9, 0.97, 3)
    starts = np.zeros(3)
    for t in range(6):
        value, zero = torch.as_tensor(values[t]), np.zeros((3, 1))
        buffer.add(zero, zero, rewards[t], starts, value, torch.zeros(3))
        starts = ends[t]
    buffer.compute_returns_and_advantage(torch.as_tensor(last), ends[-1])
    given = [torch.as_tensor(one, dtype=torch.float32) for one in (rewards, values, ends, last)]
    assert torch.allclose(advantages_of(*given, 0.97, 0.9), torch.as_tensor(buffer.advantages), atol=1e-5)


def test_actions_that_are_not_there_have_no_probability() -> None:
    obs = torch.rand(2, 4, 5)
    obs[:, 1:, 0] = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    policy, value = Agent(5)(obs)
    assert policy.probs[obs[:, 1:, 0] == 0].max() == 0
    assert policy.probs[1, 1] == 1
    assert value.shape == (2,)


def test_it_learns_and_saves(tmp_path: Path) -> None:
    config = CleanRLConfig(
        env_id="Guess-v0", max_actions=4, steps=3072, num_envs=16, num_steps=8, learning_rate=5e-3, ent_coef=0.0,
        output=str(tmp_path),
    )  # fmt: skip
    metrics = main(config)
    assert len(metrics) == 3072 // 128
    first, last = (np.mean([entry["success"] for entry in part]) for part in (metrics[:2], metrics[-2:]))
    assert first < 0.8 < 0.95 < last
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == metrics
    assert {"policy.safetensors", "config.json"} <= {path.name for path in tmp_path.iterdir()}


def test_cut_off_episodes_are_bootstrapped_and_terminated_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    def watched(rewards: Any, values: Any, ends: Any, *rest: Any) -> Any:
        kept.append((rewards.clone(), ends.clone()))
        return advantages_of(rewards, values, ends, *rest)

    def critic(self: Agent, obs: Any) -> Any:
        return forward(self, obs)[0], torch.full((len(obs),), 10.0)

    forward = Agent.forward
    monkeypatch.setattr(cleanrl_ppo, "advantages_of", watched)
    monkeypatch.setattr(Agent, "forward", critic)
    main(CleanRLConfig(env_id="Guess-v0", max_actions=4, steps=64, num_envs=8, num_steps=8, update_epochs=1, gamma=0.5))
    rewards, ends = kept[0]
    # In this world an end is a success (reward 1, terminated) or the second guess (cut off: 0 + 0.5 * 10).
    assert set(rewards[ends == 1].tolist()) == {1.0, 5.0}
    assert set(rewards[ends == 0].tolist()) == {0.0}


def test_dreams_are_predicted_together() -> None:
    model = ShopModel()
    dream = {"experience_model": model, "replay_buffer": None, "top_k": 0, "tasks": tasks_of("train", 2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleanrl_ppo, "read_settings", lambda _: dream)
        metrics = main(CleanRLConfig(steps=8, num_envs=4, num_steps=2, num_minibatches=1, update_epochs=1))
    assert model.batches[0] == 4
    assert metrics[0]["episodes"] == 0
    assert math.isnan(metrics[0]["success"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"steps": 3}, "at least a rollout's 512"),
        ({"num_minibatches": 0}, r"\[1, 512\]"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CleanRLConfig(**changes)
