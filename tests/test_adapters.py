"""LoRA, gradient checkpointing, bfloat16 and accumulation from the command line, on several kinds of checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from guessing_world import demonstrations, make_checkpoint, make_policy, run_settings  # noqa: E402

from dreamgym_env import checkpoints  # noqa: E402
from dreamgym_env.language_model import TransformersModel  # noqa: E402
from dreamgym_env.trainers import cli, grpo, ppo  # noqa: E402
from dreamgym_env.trainers.batches import make_batch, response_logits  # noqa: E402
from dreamgym_env.trainers.checkpoint import list_checkpoints  # noqa: E402
from dreamgym_env.trainers.grpo_config import GRPOConfig  # noqa: E402
from dreamgym_env.trainers.losses import token_logprobs  # noqa: E402
from dreamgym_env.trainers.ppo_config import PPOConfig  # noqa: E402
from dreamgym_env.trainers.rounds import collect_groups  # noqa: E402
from dreamgym_env.trainers.run import prepare  # noqa: E402
from dreamgym_env.trainers.sft import SFTConfig, load_base  # noqa: E402
from dreamgym_env.trainers.supervised import Example, SupervisedConfig, Trainer  # noqa: E402
from dreamgym_env.trajectories import write_trajectories  # noqa: E402

RL = """--env-id guessing_world:Guess-v0 --updates 2 --max-tokens 12 --context-tokens 256 --learning-rate 3e-3
--mini-batch 8 --token-budget 256 --eval-every 0 --save-every 1 --no-tensorboard --device cpu"""
MEMORY = "--lora-rank 2 --gradient-checkpointing"
LEARNERS = {
    "grpo": f"grpo small {RL} --tasks-per-update 3 --group-size 4 --kl-coef 0.01",
    "ppo": f"ppo small {RL} --tasks-per-update 8 --critic-warmup 0",
    "ppo-head": f"ppo small {RL} --tasks-per-update 8 --critic-warmup 0 --critic head",
    "sft": "sft --no-success-only --batch-tokens 1024 --pass-tokens 300 --epochs 2",
    "dpo": "dpo --batch-size 2 --accumulation 2 --learning-rate 1e-3 --device cpu",
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


def weights(folder: Path) -> dict[str, Any]:
    model = TransformersModel.load(str(folder), dtype="float32", device="cpu").model
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_every_learner_trains_adapters_in_little_memory(tmp_path: Path, kind: str, name: str) -> None:
    base, data, out = make_checkpoint(tmp_path / "base", kind), tmp_path / "data.jsonl", tmp_path / "out"
    write_trajectories(data, demonstrations(24))
    files = f"--model {base} --trajectories {data}" if name in ("sft", "dpo") else f"--policy {base}"
    assert cli.main(f"{LEARNERS[name]} {MEMORY} {files} --output {out}".split()) == 0
    left, right = weights(base), weights(out if name in ("sft", "dpo") else out / "policy")
    assert left.keys() == right.keys(), "merged: a checkpoint as the one that it started from"
    changed = {key for key in left if not torch.equal(left[key], right[key])}
    linear = {key for key in left if key.endswith("_proj.weight")}
    assert changed, "it learned"
    assert changed <= linear, "embeddings and norms stay as they were"


@pytest.fixture
def config(policy: Path, tmp_path: Path) -> Callable[..., GRPOConfig]:
    def make(**changes: Any) -> GRPOConfig:
        values = {"tasks_per_update": 4, "group_size": 8, "learning_rate": 1e-2, "lora_rank": 4, **changes}
        return GRPOConfig(**run_settings(policy, tmp_path / "run", **values))

    return make


def test_an_update_of_adapters_makes_better_episodes_likelier(config: Any) -> None:
    run = prepare(config(entropy_coef=0.0, output="unused"))
    before = {name: tensor.clone() for name, tensor in run.model.model.state_dict().items()}
    groups = collect_groups(run, 4)
    figures = grpo.learn_from(run, groups)
    run.weights_changed()
    assert figures["train/sampler_gap"] < 1e-4
    for name, tensor in run.reference.state_dict().items():
        assert torch.equal(tensor, before[name]), "the reference stays the starting policy"
    rollouts = [one for group in groups for one in group]
    batch = make_batch(rollouts)
    sampled = batch.select([one.logprobs for one in rollouts])
    for network in (run.network, run.model.model):  # adapters beside the weights, and merged
        with torch.no_grad():
            now = token_logprobs(response_logits(network, batch), batch.targets_BK, 1.0)
        gains = ((now - sampled) * batch.mask_BK).sum(1)
        won = torch.tensor([one.trajectory.success for one in rollouts])
        assert float(gains[won].mean()) > float(gains[~won].mean()) + 0.01


def test_a_run_with_adapters_goes_on_bit_for_bit_from_small_checkpoints(config: Any, tmp_path: Path) -> None:
    straight = grpo.train(config(updates=4, output=str(tmp_path / "a")))
    halves = config(updates=2, output=str(tmp_path / "b"))
    grpo.train(halves)
    resumed = grpo.train(dataclasses.replace(halves, updates=4, resume=True))
    assert (straight / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    last = list_checkpoints(tmp_path / "b" / "checkpoints")[-1] / "policy"
    assert (last / "adapter_model.safetensors").exists()
    assert not (last / "model.safetensors").exists()
    merged = weights(last)  # a checkpoint is a policy that any other command loads
    for name, tensor in weights(resumed).items():
        torch.testing.assert_close(merged[name], tensor)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_gradient_checkpointing_recomputes_and_changes_no_gradient(config: Any, lora_rank: int) -> None:
    gradients, passes = [], []
    for checkpointing in (False, True):
        run = prepare(config(gradient_checkpointing=checkpointing, lora_rank=lora_rank, output="unused"))
        batch = make_batch([one for group in collect_groups(run, 2) for one in group])
        layer = next(module for module in run.network.modules() if type(module).__name__ == "Lfm2DecoderLayer")
        seen: list[None] = []
        layer.feed_forward.register_forward_pre_hook(lambda *_, seen=seen: seen.append(None))
        run.network.train()
        response_logits(run.network, batch).square().mean().backward()
        gradients.append([weight.grad for weight in run.network.parameters() if weight.grad is not None])
        passes.append(len(seen))
    assert passes == [1, 2]
    assert len(gradients[0]) == len(gradients[1]) > 0
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-7)


def test_bfloat16_is_of_the_forward_pass_alone(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = {}
    monkeypatch.setattr(checkpoints, "fast_bfloat16", lambda device: device == "cpu")
    for bf16 in (False, True, None):
        run = prepare(config(bf16=bf16, lora_rank=0, output="unused"))
        assert {weight.dtype for weight in run.network.parameters()} == {torch.float32}
        gaps[bf16] = grpo.learn_from(run, collect_groups(run, 4))["train/sampler_gap"]
    assert gaps[False] < 1e-5 < gaps[True] < 0.1
    assert gaps[None] == gaps[True]  # where the machine has instructions for it


def test_a_critic_of_its_own_has_adapters_too(config: Any) -> None:
    settings = {field.name: getattr(config(), field.name) for field in dataclasses.fields(PPOConfig)
                if hasattr(config(), field.name)}  # fmt: skip
    run = ppo.prepare(PPOConfig(**settings))
    trained = {name for name, weight in run.critic.named_parameters() if weight.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {"head.weight", "head.bias"}
    assert any("lora_" in name for name in trained)


def test_passes_of_a_batch_add_up(policy: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    rows = [
        Example(rng.integers(0, 20, length).astype(np.int32), rng.integers(0, 2, length).astype(np.float32))
        for length in (5, 9, 12, 30)
    ]
    told = []
    for pass_tokens in (None, 36, 10):
        model, tokenizer = load_base(SFTConfig(str(policy), ("none",), "unused"))
        trainer = Trainer(model, tokenizer, SupervisedConfig(pass_tokens=pass_tokens, clip=1e9))
        packs = trainer._passes(rows)
        loss = trainer._step(rows, 0.0)
        moments = [trainer.optimizer.state[weight]["exp_avg"] for weight in model.parameters()]
        told.append((len(packs), loss, trainer.tokens, moments))
    assert [packs for packs, *_ in told] == [1, 2, 4]
    for _, loss, tokens, moments in told[1:]:
        assert loss == pytest.approx(told[0][1], rel=1e-5)
        assert tokens == told[0][2] == 120
        for left, right in zip(moments, told[0][3], strict=True):
            torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-7)


def test_adapters_and_shares_exclude_one_another() -> None:
    with pytest.raises(ValueError, match="`lora_rank` must be 0 with `shard`"):
        GRPOConfig(lora_rank=4, shard=True)
    with pytest.raises(ValueError, match="`lora_rank` must be >= 0"):
        GRPOConfig(lora_rank=-1)
