"""A budget of real interactions spread over equal rounds, and rounds of dreamed and real groups."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from guessing_world import dream_registered, make_policy

from dreamgym_env.trainers import grpo, ppo
from dreamgym_env.trainers.checkpoint import list_checkpoints
from dreamgym_env.trainers.grpo_config import GRPOConfig
from dreamgym_env.trainers.logs import read_metrics
from dreamgym_env.trainers.ppo_config import PPOConfig
from dreamgym_env.trainers.rounds import collect_groups, groups_to_play, real_groups, source_of
from dreamgym_env.trainers.run import prepare

REAL = "guessing_world:Guess-v0"
DOCS = Path(__file__).parent.parent / "docs" / "grpo.md"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that knows the form of an answer and says random words."""
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def values(policy: Path, tmp_path: Path) -> dict[str, Any]:
    """Settings of a tiny run in the real world that learns next to nothing, so that its episodes stay as long."""
    return {
        "policy": str(policy), "env_id": REAL, "output": str(tmp_path / "run"), "updates": 100, "tasks_per_update": 4,
        "group_size": 8, "max_tokens": 12, "context_tokens": 256, "learning_rate": 1e-9, "mini_batch": 16,
        "token_budget": 1024, "kl_coef": 0.0, "eval_every": 0, "device": "cpu", "tensorboard": False,
    }  # fmt: skip


@pytest.fixture
def config(values: dict[str, Any]) -> Callable[..., GRPOConfig]:
    return lambda **changes: GRPOConfig(**{**values, **changes})


@pytest.fixture
def mixed(values: dict[str, Any]) -> Iterator[Callable[..., GRPOConfig]]:
    """Half dreamed, half real."""
    with dream_registered() as dream:
        own = {"env_id": dream, "settings": ("top_k=0",), "real_env": REAL}
        yield lambda **changes: GRPOConfig(**{**values, **own, **changes})


def rounds_of(config: GRPOConfig) -> list[dict[str, Any]]:
    grpo.train(config)
    return [row for row in read_metrics(Path(config.output) / "metrics.jsonl") if "train/loss" in row]


@pytest.mark.parametrize(("eval_every", "sizes"), [(100, [3, 3, 3]), (0, [4, 3, 2])])
def test_a_budget_is_spread_over_rounds_of_equal_size(config: Any, eval_every: int, sizes: list[int]) -> None:
    # Nobody can say "never": a group takes 8 x 2 steps, and 150 last for nine. How long episodes are is known from the
    # evaluation, or else from the first round on.
    never = ('secret="never"',)
    found = rounds_of(config(real_budget=150, settings=never, eval_every=eval_every, eval_episodes=10))
    assert [row["collect/groups"] for row in found] == sizes
    assert found[-1]["real/train_steps"] == 144


def test_short_episodes_leave_no_small_rounds_at_the_end(config: Any) -> None:
    found = rounds_of(config(real_budget=400, eval_every=100, eval_episodes=40))
    sizes = [row["collect/groups"] for row in found]
    assert 400 - 8 * 2 < found[-1]["real/train_steps"] <= 400
    assert 2 * min(sizes) >= max(sizes)
    assert max(sizes) <= 6
    assert len(sizes) >= 6


def test_a_round_is_played_in_parts_that_are_sure_to_fit(config: Any) -> None:
    run = prepare(config(real_budget=63, settings=('secret="moon"',)))
    groups = collect_groups(run, 4)
    assert len(groups) == 4  # 63 are sure to last for three
    steps = sum(len(one.turns) for group in groups for one in group)
    assert run.real_steps["train"] == steps <= 63
    assert run.pool.left == 63 - steps  # type: ignore[attr-defined]
    run = prepare(config(real_budget=15))
    assert groups_to_play(run) == 0
    assert collect_groups(run, 4) == []


def test_a_mixed_round_has_its_share_of_real_groups(mixed: Any) -> None:
    run = prepare(mixed(real_share=0.25))
    assert [real_groups(run, count) for count in (0, 1, 2, 4, 8)] == [0, 1, 1, 1, 2]
    groups = collect_groups(run, 8)
    assert [source_of(run, group[0]) for group in groups] == ["dream"] * 6 + ["real"] * 2
    assert all(len({one.trajectory.task.task_id for one in group}) == 1 for group in groups)
    assert run.real_steps["train"] == sum(len(one.turns) for group in groups[6:] for one in group)
    assert run.real is not None
    run.close()


def test_mixed_rounds_count_bound_and_tell_their_real_part(mixed: Any) -> None:
    found = rounds_of(mixed(real_budget=110, eval_every=100, eval_episodes=20, eval_envs=(REAL,)))
    assert len(found) > 2
    used = [row["collect/real_episodes"] * row["collect/real_steps"] for row in found]
    assert 110 - 8 * 2 < sum(used) == found[-1]["real/train_steps"] <= 110
    assert {row["collect/dream_episodes"] for row in found} <= {8.0, 16.0}
    told = sum(row["collect/real_success"] * row["collect/real_episodes"] for row in found)
    told += sum(row["collect/dream_success"] * row["collect/dream_episodes"] for row in found)
    defined = set(re.findall(r"^\| `(collect/[^`]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert {key for key in found[0] if key.startswith("collect/") and "/end_" not in key} <= defined
    assert told == pytest.approx(sum(row["collect/success"] * 8 * row["collect/groups"] for row in found))


def test_a_mixed_run_goes_on_bit_for_bit_with_both_curricula(mixed: Any, tmp_path: Path) -> None:
    straight = mixed(updates=3, learning_rate=3e-3, output=str(tmp_path / "a"))
    halves = dataclasses.replace(straight, updates=1, output=str(tmp_path / "b"))
    grpo.train(straight)
    grpo.train(halves)
    grpo.train(dataclasses.replace(halves, updates=3, resume=True))
    left, right = (list_checkpoints(tmp_path / name / "checkpoints")[-1] for name in "ab")
    weights = [(one / "policy" / "model.safetensors").read_bytes() for one in (left, right)]
    assert weights[0] == weights[1]
    run = prepare(dataclasses.replace(straight, resume=True))
    assert run.real is not None
    assert run.curriculum.values
    assert run.real.curriculum.values


def test_ppo_compares_real_episodes_with_real_ones(mixed: Any, values: dict[str, Any]) -> None:
    settings = {**values, "env_id": mixed().env_id, "settings": ("top_k=0",), "real_env": REAL}
    run = ppo.prepare(PPOConfig(**{**settings, "group_size": 1, "tasks_per_update": 12, "cluster_size": 3}))
    clusters = ppo.collector_of_clusters(run.config)(run, 12)
    kinds = [{source_of(run, one) for one in cluster} for cluster in clusters]
    assert all(len(kind) == 1 for kind in kinds)
    assert {"dream"} in kinds
    assert {"real"} in kinds


def test_what_is_no_mixture_is_named(mixed: Any, config: Any) -> None:
    with pytest.raises(ValueError, match=r"must be a real environment beside a dreamed `env_id`, got .*Guess-v0"):
        prepare(config(real_env=REAL))
    with pytest.raises(ValueError, match=r"`real_share` must be in \(0, 1\), got 1"):
        mixed(real_share=1)
