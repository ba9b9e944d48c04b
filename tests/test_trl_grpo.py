"""TRL's real `GRPOTrainer` on a tiny checkpoint: token ids in, token ids out, broken dreams masked, and it learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from guessing_world import dream_registered, make_policy, make_task  # noqa: E402

from dreamgym_env.language_model import TransformersModel  # noqa: E402
from dreamgym_env.trainers.agent import Rollout, Turn  # noqa: E402
from dreamgym_env.trainers.pools import open_pool  # noqa: E402
from dreamgym_env.trainers.rollout import Collector  # noqa: E402
from dreamgym_env.trainers.trl_grpo import TRLGRPOConfig, fields, main, make_trainer  # noqa: E402
from dreamgym_env.types import Sampling, Trajectory, Transition  # noqa: E402


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that knows the form of an answer and says random words."""
    return make_policy(tmp_path_factory.mktemp("policy"), "qwen3")


def tiny(policy: Path, output: Path, **changes: Any) -> TRLGRPOConfig:
    values: dict[str, Any] = {
        "policy": str(policy), "env_id": "Guess-v0", "output": str(output), "updates": 2, "tasks": 2, "group_size": 4,
        "batch_size": 4, "num_envs": 8, "max_tokens": 12, "context_tokens": 256, "learning_rate": 3e-3,
    }  # fmt: skip
    return TRLGRPOConfig(**{**values, **changes})


def test_fields_by_hand() -> None:
    task = make_task(0)
    step = Transition(task, 0, "a", "say[sun]", "b", reward=1.0, terminated=True)
    turns = (Turn((1, 2), (3,), (-0.5,)), Turn((4, 5), (6, 7), (-0.25, -1.0)))
    won = Rollout(Trajectory(task, (step,), "success"), turns)
    broken = Rollout(Trajectory(task, (), "model_error"), turns[:1])
    assert fields([won, broken]) == {
        "prompt_ids": [[1, 2], [1, 2]],
        "completion_ids": [[3, 4, 5, 6, 7], [3]],
        "logprobs": [[-0.5, 0.0, 0.0, -0.25, -1.0], [-0.5]],
        "env_mask": [[1, 0, 0, 1, 1], [1]],
        "outcome": [1.0, None],
    }


def test_trl_sees_the_tokens_that_were_sampled_with_the_samplers_probabilities(policy: Path, tmp_path: Path) -> None:
    config = tiny(policy, tmp_path, temperature=0.7)
    pool = open_pool("Guess-v0", 8)
    model = TransformersModel.load(str(policy), dtype="float32")
    model.seed(0)
    collector = Collector(model, pool, Sampling(temperature=0.7, max_tokens=12), 256)
    trainer = make_trainer(config, collector, pool.tasks)
    batch = trainer._generate_and_score_completions([{"prompt": pool.tasks[0].task_id}] * 8)
    played = trainer._generate([pool.tasks[0].task_id] * 2)
    assert all(len(ids) == len(mask) for ids, mask in zip(played[1], played[2], strict=True))
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    width = batch["completion_ids"].size(1)
    theirs = trainer._get_per_token_logps_and_entropies(model.model, ids, attention, width)[0]
    own = batch["tool_mask"].bool() & batch["completion_mask"].bool()
    assert own.any()
    assert (~own & batch["completion_mask"].bool()).any(), "some episodes have a second turn, whose state is masked"
    assert torch.allclose(theirs[own], batch["sampling_per_token_logps"][own], atol=1e-4)


def test_it_learns_in_a_dream(policy: Path, tmp_path: Path) -> None:
    with dream_registered() as dream:
        log = main(
            tiny(
                policy, tmp_path, env_id=dream, updates=14, tasks=4, group_size=8, batch_size=16, settings=("top_k=0",)
            )
        )
    rewards = [entry["reward"] for entry in log]
    assert len(rewards) == 14
    assert sum(rewards[:3]) / 3 < 0.7 < 0.8 < sum(rewards[-8:]) / 8  # words at random win 5 of 9
    assert json.loads((tmp_path / "log.json").read_text(encoding="utf-8")) == log
    assert TransformersModel.load(str(tmp_path / "policy")).tokenizer.chat_template


def test_a_broken_dream_has_no_reward_and_no_gradient(policy: Path, tmp_path: Path) -> None:
    pool = open_pool("Guess-v0", 8, break_word="sun", secret="nothing")
    model = TransformersModel.load(str(policy), dtype="float32")
    collector = Collector(model, pool, Sampling(max_tokens=12), 256)
    trainer = make_trainer(tiny(policy, tmp_path, tasks=6), collector, pool.tasks)
    batch = trainer._generate_and_score_completions([{"prompt": pool.tasks[0].task_id}] * 24)
    rewards = trainer._logs["rewards"]["outcome_reward"]
    assert any(reward != reward for reward in rewards), f"TRL keeps None as NaN, got {list(rewards)}"
    assert not batch["advantages"].any(), "the others all have reward 0, the broken ones no say"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"updates": 0}, "updates"), ({"group_size": 1}, "group_size"), ({"batch_size": 3}, "must divide")],
)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TRLGRPOConfig(**changes)
