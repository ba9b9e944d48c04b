"""What GRPO and PPO do alike with a round's sequences: mini-batches, the policy's loss, the optimizer's step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from dreamgym_env.checkpoints import in_bfloat16

from .agent import Rollout
from .batches import Batch, pack_by_length, padding_share
from .losses import clipped_policy_loss, k3_kl, token_entropy, token_logprobs
from .run import SHUFFLE, Metrics, Run
from .run_config import RunConfig
from .sharding import whole

T = TypeVar("T")
LossOf = Callable[[Sequence[int]], tuple[Tensor, Metrics]]
"""A pack's share of its mini-batch's loss, and sums of its token figures; a pack is indices of sequences."""


def mini_batches(run: Run[RunConfig], count: int) -> Iterator[list[int]]:
    """Indices of `count` sequences, shuffled and split evenly into about `mini_batch` each, `epochs` times over; the
    optimizer's rates are set for each."""
    rng = np.random.default_rng([run.config.seed, run.update, SHUFFLE])
    parts = max(1, round(count / run.config.mini_batch)) if count else 0
    steps, step = parts * run.config.epochs, 0
    for _ in range(run.config.epochs):
        for chosen in np.array_split(rng.permutation(count), parts) if parts else ():
            step += 1
            rates = run.config.rates(run.update + step / steps)
            for group, rate in zip(run.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            yield [int(index) for index in chosen]


def optimizer_step(
    run: Run[RunConfig], sequences: Sequence[Rollout], loss_of: LossOf, first: bool, idle: Collection[int] = ()
) -> Metrics:
    """One step on a mini-batch, in forward passes of `token_budget`. Sums over response tokens.

    Each group of the optimizer's parameters has its gradient clipped by itself; the groups `idle` are left as they are.
    """
    lengths = [len(one.token_ids) for one in sequences]
    packs = pack_by_length(lengths, run.config.token_budget)
    count = run.accelerator.num_processes
    sums: Metrics = {}
    rounds = -(-len(packs) // count)
    for number in range(rounds):
        index = number * count + run.accelerator.process_index
        # Where the packs do not divide evenly, a process repeats the first one with weight 0.
        pack, weight = (packs[index], count) if index < len(packs) else (packs[0], 0)
        with run.accelerator.no_sync(run.network) if number < rounds - 1 and count > 1 else nullcontext():
            loss, stats = loss_of(pack)
            run.accelerator.backward(loss * weight)  # processes average their gradients: x count makes it a sum
        add_up(sums, stats if weight else {})
    sums = dict(sum_over_processes(run, sums))
    sums |= {"steps": 1, "padding": padding_share(lengths, packs)}
    if first:
        sums["gap_tokens"] = sums["tokens"]
    else:
        del sums["gap"]
    return sums | _step(run, idle)


def _step(run: Run[RunConfig], idle: Collection[int]) -> Metrics:
    """Moves the weights, unless a gradient is not finite."""
    groups = run.optimizer.param_groups
    for index in idle:
        for weight in groups[index]["params"]:
            weight.grad = None  # AdamW passes over it, its decay and moments too
    bound = run.config.max_grad_norm
    norms = [float(whole(run.accelerator.clip_grad_norm_(group["params"], bound))) for group in groups]
    finite = bool(np.isfinite(norms).all())
    if finite:
        run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return dict(zip(("grad_norm", "critic_grad_norm"), norms, strict=False)) if finite else {"skipped": 1}


def policy_loss(
    config: RunConfig,
    logits_BKV: Tensor,
    batch: Batch,
    sampled_BK: Tensor,
    advantages_BK: Tensor,
    reference_BK: Tensor | None,
    kl_coef: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The policy's loss per token, (B, K): clipped ratio, entropy bonus and k3 KL; and its parts by name."""
    logprobs_BK = token_logprobs(logits_BKV, batch.targets_BK, config.temperature)
    entropy_BK = token_entropy(logits_BKV, config.temperature)
    policy = clipped_policy_loss(
        logprobs_BK, sampled_BK, advantages_BK, config.clip_low, config.clip_high, config.dual_clip
    )
    loss_BK, kl_BK = policy.loss_BT - config.entropy_coef * entropy_BK, torch.zeros_like(logprobs_BK)
    if reference_BK is not None:
        kl_BK = k3_kl(logprobs_BK, reference_BK)
        loss_BK = loss_BK + kl_coef * kl_BK
    return loss_BK, {
        "policy_loss": policy.loss_BT,
        "kl": kl_BK,
        "entropy": entropy_BK,
        "clipped": policy.clipped_BT.float(),
        "ratio": (logprobs_BK - sampled_BK).exp(),
        "gap": (logprobs_BK - sampled_BK).abs(),
    }


def token_sums(figures: Mapping[str, Tensor], mask_BK: Tensor) -> Metrics:
    """Each figure summed over the tokens of the mask."""
    return {name: float(values.detach()[mask_BK].sum()) for name, values in figures.items()}


def learning_figures(run: Run[RunConfig], sums: Mapping[str, float]) -> Metrics:
    """What is logged of an update's optimizer steps: means over its tokens, or over its steps."""
    found = defaultdict[str, float](float, sums)
    tokens, steps = max(found["tokens"], 1), max(found["steps"], 1)
    return {
        "train/loss": found["loss"] / steps,
        "train/policy_loss": found["policy_loss"] / tokens,
        "train/kl": found["kl"] / tokens,
        "train/entropy": found["entropy"] / tokens,
        "train/clip_share": found["clipped"] / tokens,
        "train/ratio": found["ratio"] / tokens if found["tokens"] else 1.0,
        "train/sampler_gap": found["gap"] / max(found["gap_tokens"], 1),
        "train/grad_norm": found["grad_norm"] / steps,
        "train/optimizer_steps": float(found["steps"]),
        "train/skipped_steps": float(found["skipped"]),
        "train/tokens": float(found["tokens"]),
        "train/padding_share": found["padding"] / steps,
        "train/learning_rate": run.config.rates(run.update + 1)[0],
    }


def in_passes(
    run: Run[RunConfig], sequences: Sequence[Rollout], compute: Callable[[list[Rollout]], list[T]]
) -> list[T]:
    """`compute` of packs of sequences, dealt out to the processes, without gradients; results in the sequences'
    order."""
    packs = pack_by_length([len(one.token_ids) for one in sequences], run.config.token_budget)
    rank, count = run.accelerator.process_index, run.accelerator.num_processes
    with torch.no_grad():
        # As many passes in each process: where weights are shared out, all of them take part in every pass.
        padded = [*packs, *packs[:1] * (-len(packs) % count)]
        made = [(pack, compute([sequences[index] for index in pack])) for pack in padded[rank::count]]
    mine = made[: len(packs[rank::count])]
    found = {index: result for pack, results in gather(run, mine) for index, result in zip(pack, results, strict=True)}
    return [found[index] for index in range(len(sequences))]


def gather(run: Run[RunConfig], items: list[T]) -> list[T]:
    """The items of all processes."""
    if run.accelerator.num_processes == 1:
        return items
    from accelerate.utils import gather_object  # type: ignore[import-untyped]

    return list(gather_object(items))


def add_up(sums: dict[str, float], more: Mapping[str, float]) -> None:
    """Adds `more` to `sums`, key by key."""
    for key, value in more.items():
        sums[key] = sums.get(key, 0.0) + value


def sum_over_processes(run: Run[RunConfig], sums: dict[str, float]) -> dict[str, float]:
    """The figures of all processes, added up."""
    merged = defaultdict[str, float](float)
    for share in gather(run, [dict(sums)]):
        add_up(merged, share)
    return merged


def autocast(run: Run[RunConfig]) -> Any:
    """bfloat16 for forward passes where `bf16` asks for it."""
    kind = run.accelerator.device.type
    return torch.autocast(kind, torch.bfloat16, enabled=in_bfloat16(run.config.bf16, kind))
