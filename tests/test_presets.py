"""The presets of GRPO and PPO, pinned to the figures of the projects that they come from."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

pytest.importorskip("torch")

from dreamgym_env.checkpoints import load_checkpoint
from dreamgym_env.domain import load_domain
from dreamgym_env.trainers import grpo_config, ppo_config

PRESETS: dict[str, dict[str, tuple[str, Any]]] = {"grpo": grpo_config.PRESETS, "ppo": ppo_config.PRESETS}
GROUPS = {"grpo": (16, 8), "ppo": (128, 1)}
"""verl-agent: groups x size of GRPO, batch of PPO."""
OWN: dict[str, dict[str, Any]] = {
    "grpo": {"scale_by_std": True, "extra_groups": 0, "keep_share": 1.0, "negative_weight": 1.0,
             "credit_impossible": True, "center_penalties": False},
    "ppo": {"critic": "separate", "critic_learning_rate": 1e-5, "critic_warmup": 0, "value_clip": 0.5,
            "gae_level": "token", "gamma": 1.0, "gae_lambda": 1.0, "bootstrap": False, "whiten_advantages": True,
            "kl_in": "loss", "kl_target": None},
}  # fmt: skip
"""What the other algorithm does not have."""


@pytest.mark.parametrize("algorithm", PRESETS)
@pytest.mark.parametrize(
    ("name", "mini_batch", "horizon", "prompt_tokens"), [("webshop", 64, 15, 4096), ("alfworld", 256, 50, 2048)]
)
def test_the_papers_figures(algorithm: str, name: str, mini_batch: int, horizon: int, prompt_tokens: int) -> None:
    preset = PRESETS[algorithm][f"paper/{name}"][1]
    assert load_domain(name).horizon == horizon
    assert name in preset.env_id.lower()
    assert (preset.history, preset.context_tokens) == (2, prompt_tokens + 512)
    assert (preset.tasks_per_update, preset.group_size) == GROUPS[algorithm]
    assert (preset.mini_batch, preset.epochs) == (mini_batch, 1)
    assert (preset.learning_rate, preset.weight_decay, preset.warmup_updates) == (1e-6, 0.01, 0)
    assert (preset.clip_low, preset.clip_high, preset.dual_clip) == (0.2, 0.2, 3.0)
    assert (preset.kl_coef, preset.entropy_coef, preset.max_grad_norm) == (0.01, 0.001, 1)
    assert (preset.invalid_penalty, preset.impossible_penalty) == (0.1, 0.0)
    assert (preset.updates, preset.eval_every, preset.eval_episodes, preset.eval_temperature) == (150, 5, 128, 0.4)
    assert (preset.temperature, preset.max_tokens, preset.aggregation) == (1.0, 512, "token_mean")
    assert (preset.graded_reward, preset.lora_rank, preset.sampler) == (False, 0, None)
    assert {key: getattr(preset, key) for key in OWN[algorithm]} == OWN[algorithm]


@pytest.mark.parametrize(("algorithm", "group_size"), [("grpo", 4), ("ppo", 1)])
def test_webarena_is_agentgym_rls_and_else_verl_agents(algorithm: str, group_size: int) -> None:
    preset = PRESETS[algorithm]["paper/webarena"][1]
    assert (preset.env_id, preset.settings) == ("DreamGym-WebArena-v0", ("horizon=15",))
    assert (preset.learning_rate, preset.group_size, preset.max_tokens) == (1e-6, group_size, 512)
    size = GROUPS[algorithm][1]
    rest = dataclasses.replace(preset, env_id="DreamGym-WebShop-v0", settings=(), group_size=size)
    assert rest == PRESETS[algorithm]["paper/webshop"][1]


ROOMS = {
    "settings": ("horizon=30",), "temperature": 1.0, "learning_rate": 3e-4, "warmup_updates": 1, "kl_coef": 0.01,
    "entropy_coef": 0.0, "aggregation": "sequence_mean", "invalid_penalty": 0.3, "impossible_penalty": 0.3,
    "center_penalties": True, "updates": 8,
}  # fmt: skip
"""What GRPO in the bundled ALFWorld has otherwise: docs/alfworld.md tells why."""
TURNS = {
    "settings": ("horizon=30",), "temperature": 1.0, "learning_rate": 3e-4, "warmup_updates": 1, "kl_coef": 0.01,
    "entropy_coef": 0.0, "critic_learning_rate": 1e-3, "mini_batch": 8, "gae_level": "turn", "gae_lambda": 0.95,
}  # fmt: skip
"""The same of PPO: docs/ppo.md tells why."""
PAGES = {"updates": 12, "tasks_per_update": 48, "keep_share": 0.25, "learning_rate": 1e-4}
"""What GRPO in the bundled MiniWoB++ has otherwise than there: docs/web-results.md tells why."""


@pytest.mark.parametrize("algorithm", PRESETS)
def test_those_of_the_bundled_models(algorithm: str) -> None:
    presets = PRESETS[algorithm]
    shop, rooms, web = (presets[f"laptop/{name}"][1] for name in ("webshop", "alfworld", "miniwob"))
    assert presets["small"][1] == shop
    assert (shop.policy, shop.env_id, rooms.env_id) == ("embedded", "DreamGym-WebShop-v0", "DreamGym-ALFWorld-v0")
    assert rooms == dataclasses.replace(shop, env_id=rooms.env_id, **(TURNS if algorithm == "ppo" else ROOMS))
    like, pages = (shop, {}) if algorithm == "ppo" else (rooms, {"settings": (), **PAGES})
    assert web == dataclasses.replace(like, env_id="DreamGym-MiniWoB-v0", **pages)
    assert (shop.updates, shop.temperature, shop.max_tokens, shop.context_tokens) == (16, 0.8, 48, 4096)
    assert (shop.learning_rate, shop.mini_batch, shop.kl_coef, shop.device) == (2e-4, 16, 0.0, "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "tpu"}, '`device` must be "auto" .* or "cpu", got tpu'),
        ({"chat_template": "/nowhere.jinja"}, "`chat_template` must be a file with a Jinja template, got /nowhere"),
        ({"lora_rank": -1}, "`lora_rank` must be >= 0, got -1"),
    ],
)
@pytest.mark.parametrize("algorithm", PRESETS)
def test_what_no_preset_may_have(algorithm: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PRESETS[algorithm]["small"][1], **changes)


def test_a_device_that_is_none_is_told_before_anything_is_loaded() -> None:
    with pytest.raises(ValueError, match=r"`device` must be 'auto', 'cpu', 'cuda', .* got 'tpu'"):
        load_checkpoint("/nowhere", device="tpu")
