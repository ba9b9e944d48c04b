"""The losses against numbers worked out by hand and against TRL's own GRPO loss."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dreamgym_env.trainers.losses import (
    aggregate,
    clipped_policy_loss,
    group_std,
    grpo_advantages,
    k3_kl,
    token_entropy,
    token_logprobs,
)

pytest.importorskip("trl", reason="the losses are compared with TRL's (extra `train`)")
LN2 = math.log(2)


def test_advantages_by_hand() -> None:
    # One win of four: mean 1/4, sample variance (9/16 + 3 * 1/16) / 3 = 1/4, so std 1/2: (3/4) / (1/2) = 1.5.
    rewards = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0]])
    kept = torch.ones(2, 4, dtype=torch.bool)
    advantages = grpo_advantages(rewards, kept, epsilon=0.0)
    assert advantages[0].tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5])
    # Two of four: mean 1/2, variance 4 * (1/4) / 3 = 1/3, so (1/2) * sqrt(3).
    assert advantages[1].tolist() == pytest.approx([math.sqrt(3) / 2] * 2 + [-math.sqrt(3) / 2] * 2)
    assert grpo_advantages(rewards, kept, scale_by_std=False)[0].tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])


def test_broken_episodes_leave_mean_and_std_alone() -> None:
    # The broken fourth episode would drag the mean from 1/2 to 1/3 of its group; without it: {1, 0} -> std sqrt(1/2).
    rewards = torch.tensor([[1.0, 0, 0, -7]])
    kept = torch.tensor([[True, True, False, False]])
    advantages = grpo_advantages(rewards, kept, epsilon=0.0)
    assert advantages[0].tolist() == pytest.approx([math.sqrt(0.5), -math.sqrt(0.5), 0, 0])
    assert group_std(rewards, kept).item() == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("row", [[0.3] * 4, [1.0] * 4])
def test_groups_without_spread_give_exact_zero(row: list[float]) -> None:
    kept = torch.ones(1, 4, dtype=torch.bool)
    assert grpo_advantages(torch.tensor([row]), kept).abs().max() == 0
    alone = torch.tensor([[True, False, False, False]])
    assert grpo_advantages(torch.tensor([[1.0, 0, 0, 0]]), alone).abs().max() == 0


def test_advantages_equal_trl_formula_with_its_own_nanstd() -> None:
    from trl.trainer.utils import nanstd

    rewards = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    kept = torch.rand(5, 8, generator=torch.Generator().manual_seed(1)) > 0.3
    holes = rewards.masked_fill(~kept, torch.nan)
    expected = (holes - torch.nanmean(holes, dim=1, keepdim=True)) / (nanstd(holes, dim=1, keepdim=True) + 1e-4)
    torch.testing.assert_close(grpo_advantages(rewards, kept, epsilon=1e-4), expected.nan_to_num(0.0))


def test_logprobs_and_entropy_by_hand_and_against_trl() -> None:
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    logits = torch.tensor([[[0.0, 0.0, LN2, -math.inf]]])  # probabilities 1/4, 1/4, 1/2, 0
    assert token_logprobs(logits, torch.tensor([[2]])).item() == pytest.approx(-LN2)
    # At temperature 1/2 the weights are 1, 1, 4: the third has 2/3.
    assert token_logprobs(logits, torch.tensor([[2]]), 0.5).item() == pytest.approx(math.log(2 / 3))
    assert token_entropy(logits[..., :3]).item() == pytest.approx(1.5 * LN2)
    random = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(2))
    ids = torch.randint(11, (2, 5), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(token_logprobs(random, ids), selective_log_softmax(random, ids))
    torch.testing.assert_close(token_entropy(random), entropy_from_logits(random))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "decided"),
    [
        (1.1, 2.0, -2.2, False),
        (1.5, 2.0, -2.4, True),  # clipped at 1.2
        (0.5, 2.0, -1.0, False),  # a small ratio is not clipped where the advantage is positive
        (0.5, -1.0, 0.8, True),  # clipped at 0.8
        (1.5, -1.0, 1.5, False),
        (5.0, -1.0, 3.0, True),  # dual clip
    ],
)
def test_clipped_loss_by_hand(ratio: float, advantage: float, loss: float, decided: bool) -> None:
    result = clipped_policy_loss(torch.tensor([[math.log(ratio)]]), torch.zeros(1, 1), torch.tensor([[advantage]]))
    assert result.loss_BT.item() == pytest.approx(loss)
    assert bool(result.clipped_BT) is decided


def test_clip_may_be_asymmetric_and_dual_clip_off() -> None:
    logprobs = torch.tensor([[math.log(1.5), math.log(5)]])
    result = clipped_policy_loss(logprobs, torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), 0.2, 0.28, None)
    assert result.loss_BT[0].tolist() == pytest.approx([-1.28, 5.0])


def test_k3_by_hand_and_unbiased() -> None:
    # log reference - log pi = ln 2: 2 - ln 2 - 1.
    assert k3_kl(torch.zeros(1, 1), torch.tensor([[LN2]])).item() == pytest.approx(1 - LN2)
    rare = torch.tensor([[-2.0, -12.0]], requires_grad=True)  # exp(2) - 3 = 4.389, and exp(12) - 13: cut off
    kl = k3_kl(rare, torch.zeros(1, 2))
    kl.sum().backward()
    assert kl[0].tolist() == pytest.approx([4.38906, 10.0])
    assert rare.grad is not None
    assert rare.grad[0].tolist() == pytest.approx([1 - math.exp(2), 0.0])
    policy, reference = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    exact = float((policy * (policy / reference).log()).sum())
    assert float((policy * k3_kl(policy.log(), reference.log())).sum()) == pytest.approx(exact)


def test_aggregation_by_hand() -> None:
    values = torch.tensor([[1.0, 2, 3], [10, torch.nan, 99]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert float(aggregate(values, mask, "token_mean")) == pytest.approx(4.0)  # (1 + 2 + 3 + 10) / 4
    assert float(aggregate(values, mask, "sequence_mean")) == pytest.approx(6.0)  # (2 + 10) / 2
    parts = [aggregate(values[row : row + 1], mask[row : row + 1], "token_mean", total=4.0) for row in (0, 1)]
    assert float(sum(parts)) == pytest.approx(4.0)
    assert float(aggregate(values, torch.zeros_like(mask), "token_mean")) == 0.0


def trl_loss(loss_type: str, logprobs: Any, old: Any, reference: Any, advantages: Any, mask: Any) -> torch.Tensor:
    """TRL's own `_compute_loss`, run on given log-probabilities in place of a model's."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    class Metrics(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            self[key] = Metrics() if key == "train" else []
            return self[key]

    accelerator = SimpleNamespace(reduce=lambda t, reduction: t, gather=lambda t: t, num_processes=1)
    trainer: Any = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logprobs, torch.zeros_like(logprobs), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=0.01,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=3.0),
        epsilon_low=0.2,
        epsilon_high=0.28,
        loss_type=loss_type,
        use_vllm=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        accelerator=accelerator,
        _metrics=Metrics(),
    )
    inputs = {
        "prompt_ids": torch.zeros(mask.shape[0], 1, dtype=torch.long),
        "prompt_mask": torch.ones(mask.shape[0], 1, dtype=torch.long),
        "completion_ids": torch.zeros(mask.shape, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
    }
    compute: Any = GRPOTrainer._compute_loss
    loss: torch.Tensor = compute(trainer, None, inputs)
    return loss


@pytest.mark.parametrize(("loss_type", "how"), [("bnpo", "token_mean"), ("grpo", "sequence_mean")])
def test_loss_and_gradient_equal_trl(loss_type: str, how: Any) -> None:
    generator = torch.Generator().manual_seed(4)
    old = -torch.rand(6, 9, generator=generator) * 3
    logprobs = (old + torch.randn(6, 9, generator=generator)).requires_grad_()
    reference = old + 0.3 * torch.randn(6, 9, generator=generator)
    advantages = torch.randn(6, generator=generator)
    mask = torch.rand(6, 9, generator=generator) > 0.3
    policy = clipped_policy_loss(logprobs, old, advantages[:, None].expand_as(old), 0.2, 0.28, 3.0)
    ours = aggregate(policy.loss_BT + 0.01 * k3_kl(logprobs, reference), mask, how)
    (our_gradient,) = torch.autograd.grad(ours, logprobs)
    theirs = trl_loss(loss_type, logprobs, old, reference, advantages, mask)
    (their_gradient,) = torch.autograd.grad(theirs, logprobs)
    assert policy.clipped_BT.any()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_gradient, their_gradient)
