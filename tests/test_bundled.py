"""What is bundled works as it comes: each dream with its own model, tasks and replay buffer."""

from __future__ import annotations

from itertools import islice

import gymnasium as gym
import pytest

pytest.importorskip("torch")

import dreamgym_env  # noqa: F401
from dreamgym_env.loading import ASSETS, embedded_trajectories_path
from dreamgym_env.trainers.evaluate import EvaluateConfig, run_all
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import BROKEN

DREAMS = {
    "webshop": "DreamGym-WebShop-v0",
    "alfworld": "DreamGym-ALFWorld-v0",
    "miniwob": "DreamGym-MiniWoB-v0",
    "webarena": "DreamGym-WebArena-v0",
}


def test_every_bundled_model_has_its_dream_and_its_policy() -> None:
    for part in ("experience_model", "policy"):
        assert {folder.parent.name for folder in ASSETS.glob(f"*/{part}")} == set(DREAMS)


@pytest.mark.parametrize("domain", DREAMS)
def test_a_dream_with_its_own_model_goes_on_where_actions_won_for_real(domain: str) -> None:
    env = gym.make(DREAMS[domain])
    won = (one for one in read_trajectories(embedded_trajectories_path(domain)) if one.success)
    ends = []
    for episode in islice(won, 2):
        state, info = env.reset(seed=0, options={"task": episode.task})
        assert info["instruction"] == episode.task.instruction
        for step in episode.transitions[:5]:
            state, reward, terminated, truncated, info = env.step(step.action)
            assert state
            assert terminated == (info["end_reason"] in ("success", "failure"))
            assert (reward > 0) == info["success"]
            if terminated or truncated:
                break
        ends.append(info["end_reason"])
    assert not set(ends) & BROKEN


@pytest.mark.parametrize("domain", ["miniwob", "webarena"])  # other tests have those of WebShop and ALFWorld
def test_the_bundled_policy_acts_in_its_dream(domain: str) -> None:
    config = EvaluateConfig(
        "embedded", DREAMS[domain], "held_out", episodes=6, max_tokens=80, settings=("horizon=5",), device="cpu"
    )
    (found,) = run_all(config)
    assert found.n > 3
    assert found.steps >= found.n
    assert found.invalid_actions + found.impossible_actions < 0.5 * found.steps
