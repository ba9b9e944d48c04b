"""Losses of GRPO and PPO as pure tensor functions: advantages, clipped ratio, values, KL, entropy and their means.

Axes, as in the names: P tasks (prompts), G episodes of one task (group), B sequences, T tokens of a sequence,
U units of an episode that have a value each (its response tokens, or its turns), V vocabulary. Natural logarithms
throughout. Equation numbers are those of arXiv:2511.03773.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Aggregation = Literal["token_mean", "sequence_mean"]
SPREAD_TOLERANCE = 1e-6
"""Standard deviation below which a group counts as without spread: all its rewards are equal up to rounding."""

K3_BOUND = 10.0
"""Largest KL of a token, in nats; beyond it, it has no gradient."""


class ClippedLoss(NamedTuple):
    """Loss of each token (B, T) and where a clip decided it, as a boolean tensor (B, T)."""

    loss_BT: Tensor
    clipped_BT: Tensor


def group_std(rewards_PG: Tensor, kept_PG: Tensor) -> Tensor:
    """Sample standard deviation (Bessel) of each group over its kept episodes, (P,); 0 with fewer than two."""
    kept = kept_PG.to(rewards_PG.dtype)
    count_P = kept.sum(-1)
    mean_P = _group_mean(rewards_PG, kept)
    squares_P = ((rewards_PG - mean_P[:, None]) ** 2 * kept).sum(-1)
    return (squares_P / (count_P - 1).clamp(min=1)).sqrt()


def grpo_advantages(rewards_PG: Tensor, kept_PG: Tensor, scale_by_std: bool = True, epsilon: float = 1e-6) -> Tensor:
    """Group-normalised advantages, (P, G), Eq. 3: (r - mean) / std over the group.

    Args:
        rewards_PG: one reward per episode.
        kept_PG: boolean; False for broken episodes (`model_error`), which count in no mean and get advantage 0.
        scale_by_std: divide by the group's sample standard deviation; False gives r - mean (arXiv:2503.20783).
        epsilon: added to the standard deviation.

    Groups without spread (or with fewer than two kept episodes) get advantage 0 exactly.
    """
    kept = kept_PG.to(rewards_PG.dtype)
    std_P = group_std(rewards_PG, kept_PG)
    centred_PG = rewards_PG - _group_mean(rewards_PG, kept)[:, None]
    if scale_by_std:
        centred_PG = centred_PG / (std_P + epsilon)[:, None]
    return torch.where(kept_PG & (std_P > SPREAD_TOLERANCE)[:, None], centred_PG, torch.zeros_like(centred_PG))


def token_logprobs(logits_BTV: Tensor, ids_BT: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of each id under softmax(logits / temperature), (B, T), in float32."""
    logits_BTV = logits_BTV.float() / temperature
    chosen_BT = logits_BTV.gather(-1, ids_BT[..., None]).squeeze(-1)
    return chosen_BT - logits_BTV.logsumexp(-1)


def token_entropy(logits_BTV: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of softmax(logits / temperature) at each position, (B, T), in float32."""
    logprobs_BTV = (logits_BTV.float() / temperature).log_softmax(-1)
    return -(logprobs_BTV.exp() * logprobs_BTV).sum(-1)


def clipped_policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = 3.0,
) -> ClippedLoss:
    """Clipped surrogate of PPO per token, to be minimised (arXiv:1707.06347, Eq. 7).

    The ratio pi / pi_old is clipped to [1 - clip_low, 1 + clip_high]; the upper bound may be wider ("clip higher",
    arXiv:2503.14476). Where the advantage is negative the loss is at most `dual_clip` * |A| (arXiv:1912.09729, Eq. 5).
    """
    ratio_BT = _safe_exp(logprobs_BT - old_logprobs_BT)
    plain_BT = -ratio_BT * advantages_BT
    clipped_BT = -ratio_BT.clamp(1 - clip_low, 1 + clip_high) * advantages_BT
    loss_BT, decided_BT = torch.maximum(plain_BT, clipped_BT), clipped_BT > plain_BT
    if dual_clip is not None:
        bound_BT = -advantages_BT * dual_clip
        bounded_BT = (advantages_BT < 0) & (loss_BT > bound_BT)
        loss_BT, decided_BT = torch.where(bounded_BT, bound_BT, loss_BT), decided_BT | bounded_BT
    return ClippedLoss(loss_BT, decided_BT)


def k3_kl(logprobs_BT: Tensor, reference_logprobs_BT: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(pi || reference) per token: exp(d) - d - 1 with d = log reference - log pi.

    Never negative; unbiased for tokens drawn from pi, as far as it is below `K3_BOUND`, where it is cut off, as in verl
    (`low_var_kl`): a token that pi hardly writes any more has exp(d) of millions, and one of them would decide a step.
    """
    difference_BT = reference_logprobs_BT - logprobs_BT
    return (_safe_exp(difference_BT) - difference_BT - 1).clamp(max=K3_BOUND)


def gae(
    rewards_BU: Tensor, values_BU: Tensor, mask_BU: Tensor, bootstrap_B: Tensor, gamma: float, lam: float
) -> Tensor:
    """Generalised advantage estimates, (B, U): A_u = sum_k (gamma lam)^k delta_{u+k} with
    delta_u = r_u + gamma V_{u+1} - V_u (Eq. 2; arXiv:1506.02438, Eq. 16).

    Args:
        rewards_BU: what each unit earned.
        values_BU: the value of the state before each unit.
        mask_BU: boolean; what is False (the environment's tokens, padding) is passed over as if it were not there.
        bootstrap_B: the value of the state that an episode was cut off in; 0 where it came to its end.
        gamma, lam: both per unit, in [0, 1].

    0 outside the mask. Returns, the critic's targets, are advantages + values.
    """
    advantages_BU = torch.zeros_like(values_BU)
    following_B, carried_B = bootstrap_B, torch.zeros_like(bootstrap_B)
    for u in reversed(range(values_BU.shape[1])):
        here_B = mask_BU[:, u]
        delta_B = rewards_BU[:, u] + gamma * following_B - values_BU[:, u]
        carried_B = torch.where(here_B, delta_B + gamma * lam * carried_B, carried_B)
        following_B = torch.where(here_B, values_BU[:, u], following_B)
        advantages_BU[:, u] = torch.where(here_B, carried_B, advantages_BU[:, u])
    return advantages_BU


def whiten(values_BU: Tensor, mask_BU: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Mean 0 and variance 1 (Bessel) over the mask, 0 outside; with fewer than two values they stay as they are."""
    chosen = values_BU[mask_BU]
    if len(chosen) < 2:
        return torch.where(mask_BU, values_BU, torch.zeros_like(values_BU))
    scaled_BU = (values_BU - chosen.mean()) / (chosen.var() + epsilon).sqrt()
    return torch.where(mask_BU, scaled_BU, torch.zeros_like(values_BU))


def value_loss(values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, clip: float | None = 0.5) -> ClippedLoss:
    """Half the squared error of each value, to be minimised; with `clip` the larger one of the value's own error and
    that of the value kept within `clip` of the old one, as in PPO's first implementation (openai/baselines)."""
    errors_BT = (values_BT - returns_BT) ** 2
    if clip is None:
        return ClippedLoss(0.5 * errors_BT, torch.zeros_like(errors_BT, dtype=torch.bool))
    near_BT = old_values_BT + (values_BT - old_values_BT).clamp(-clip, clip)
    clipped_BT = (near_BT - returns_BT) ** 2
    return ClippedLoss(0.5 * torch.maximum(errors_BT, clipped_BT), clipped_BT > errors_BT)


def adapted_kl_coef(coefficient: float, kl: float, target: float, episodes: int, horizon: int) -> float:
    """The KL's next weight (arXiv:1909.08593, Section 2.2): it grows where `kl` is above `target` and shrinks below, by
    a share of at most 0.2 * `episodes` / `horizon` in one update."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * episodes / horizon)


def aggregate(values_BT: Tensor, mask_BT: Tensor, how: Aggregation, total: Tensor | float | None = None) -> Tensor:
    """One number from per-token values, under a mask of response tokens.

    `token_mean`: sum over all response tokens / their number; a long episode weighs more.
    `sequence_mean`: mean over sequences of each sequence's token mean; every episode weighs the same.
    `total` replaces the denominator (tokens, or sequences with at least one response token) where this batch is one
    part of a larger one: the parts' results then add up to the whole one's.
    """
    mask_BT = mask_BT.to(values_BT.dtype)
    masked_BT = torch.where(mask_BT > 0, values_BT, torch.zeros_like(values_BT))
    if how == "token_mean":
        return masked_BT.sum() / (mask_BT.sum().clamp(min=1) if total is None else total)
    means_B = masked_BT.sum(-1) / mask_BT.sum(-1).clamp(min=1)
    return means_B.sum() / ((mask_BT.sum(-1) > 0).sum().clamp(min=1) if total is None else total)


def _group_mean(rewards_PG: Tensor, kept_PG: Tensor) -> Tensor:
    return (rewards_PG * kept_PG).sum(-1) / kept_PG.sum(-1).clamp(min=1)


def _safe_exp(values: Tensor) -> Tensor:
    # Beyond e^20 a ratio carries no information, only overflow.
    return values.clamp(-20, 20).exp()
