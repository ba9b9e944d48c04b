"""GRPO for multi-turn agents (Eq. 3, arXiv:2511.03773) in any environment, dreamed or real.

    python -m dreamgym_env.trainers.grpo small --output runs/first --eval-envs Real-WebShop-v0
    accelerate launch -m dreamgym_env.trainers.grpo verl-agent-webshop

Each update: collect groups of episodes of the same tasks, score them within their groups, learn, log, evaluate, save.
What differs from single-turn GRPO: an episode is one sequence under a response mask, in the very tokens that were
sampled, so that one forward pass learns from all of its turns; broken dreams are masked, never scored as failures.
`docs/grpo.md` defines every logged key and numbers every implementation detail.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamgym_env.types import Sampling

from .agent import Rollout, Turn
from .batches import Batch, make_batch, pack_by_length, padding_share, response_logits
from .checkpoint import save_policy
from .evaluate import choose_episodes, summarise
from .grpo_config import PRESETS, GRPOConfig
from .grpo_run import (
    COLLECT,
    EVALUATE,
    SHUFFLE,
    VARY,
    Metrics,
    Run,
    add_up,
    count_real_steps,
    describe,
    groups_to_play,
    grow_buffer,
    informative,
    play,
    prepare,
    progress_bar,
    save,
    sum_over_processes,
)
from .logs import MetricsLog
from .losses import (
    SPREAD_TOLERANCE,
    aggregate,
    clipped_policy_loss,
    group_std,
    grpo_advantages,
    k3_kl,
    token_entropy,
    token_logprobs,
)
from .variations import VaryTasks, dreamed_variations

OnLog = Callable[[int, Metrics], None]
EVALUATED: tuple[str, ...] = ("success_rate", "low", "high", "n", "mean_reward", "mean_steps", "mean_response_tokens")
EVALUATED += ("invalid_rate", "impossible_rate", "cut_responses", "context_overflows")
"""The figures of an `Evaluation` that are logged."""


@dataclass(frozen=True)
class Scored:
    """An episode to learn from and the advantage of each of its turns."""

    rollout: Rollout
    advantages: tuple[float, ...]


def train(config: GRPOConfig, on_log: OnLog | None = None, vary: VaryTasks | None = None) -> Path:
    """The whole run; the folder of the trained policy.

    `on_log(update, metrics)` is called with every line that is logged, in the main process. `vary` makes task
    variations where `lam` > 0; None asks the experience model for them.
    """
    run = prepare(config)
    if config.lam > 0 and vary is None:
        vary = dreamed_variations(run)
    main_process = run.accelerator.is_main_process
    resumed = run.update if run.update else None
    with (
        MetricsLog(run.folder, resumed, config.tensorboard, enabled=main_process) as log,
        progress_bar(run) as progress,
    ):

        def write(metrics: Metrics) -> None:
            log.write(run.update, metrics)
            if on_log and main_process:
                on_log(run.update, metrics)

        if main_process:
            (run.folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")
        if config.eval_every and resumed is None:
            write(evaluate_all(run))
        while groups := groups_to_play(run):
            metrics = train_once(run, vary, groups)
            write(metrics)
            last = groups_to_play(run) == 0
            if config.eval_every and (last or run.update % config.eval_every == 0):
                write(evaluate_all(run))
            if main_process and (last or run.update % config.save_every == 0):
                save(run)
            progress(metrics)
        run.accelerator.wait_for_everyone()
        if main_process:
            save_policy(run.folder / "policy", run.model.model, run.model.tokenizer)
    for pool in (run.pool, *run.eval_pools.values()):
        pool.close()
    return run.folder / "policy"


def train_once(run: Run, vary: VaryTasks | None, count: int) -> Metrics:
    """One update: collect `count` groups, score, learn."""
    config, started = run.config, time.perf_counter()
    tasks = run.curriculum.sample(count)
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens)
    groups = play(run, run.pool, tasks, config.group_size, sampling, run.draw_seed(COLLECT))
    rollouts = [rollout for group in groups for rollout in group]
    metrics = describe(run, rollouts)
    count_real_steps(run, run.pool, "train", int(metrics["collect/actions"]))
    collected = time.perf_counter()
    scored, figures = score(config, groups)
    metrics |= figures | learn(run, scored) | teach_curriculum(run, groups, vary)
    run.model.weights_changed()
    if config.grow_buffer:
        metrics["curriculum/buffer_added"] = float(grow_buffer(run, informative(groups)))
    run.update += 1
    return metrics | {
        **real_steps(run),
        "time/collect": collected - started,
        "time/learn": time.perf_counter() - collected,
    }


def real_steps(run: Run) -> Metrics:
    """Real interactions so far."""
    return {f"real/{purpose}_steps": float(steps) for purpose, steps in run.real_steps.items()}


def score(config: GRPOConfig, groups: Sequence[Sequence[Rollout]]) -> tuple[list[Scored], Metrics]:
    """Advantages of all episodes that can be learned from, and what was left out.

    Outcome rewards are normalised within their group (Eq. 3); penalties then lower the advantage of just the response
    that earned them, so that a group is never ranked by penalties alone. An episode without any advantage teaches
    nothing and is left out: all of a group without spread, but those with penalties.
    """
    rewards_PG = torch.tensor([[reward_of(config, rollout) for rollout in group] for group in groups])
    kept_PG = torch.tensor([[not rollout.trajectory.broken for rollout in group] for group in groups])
    advantages_PG = grpo_advantages(rewards_PG, kept_PG, config.scale_by_std)
    spread_P = group_std(rewards_PG, kept_PG) > SPREAD_TOLERANCE
    scored = [
        Scored(rollout, tuple(credit(config, float(advantages_PG[p, g]), turn) for turn in rollout.turns))
        for p, group in enumerate(groups)
        for g, rollout in enumerate(group)
        if kept_PG[p, g] and rollout.response_tokens
    ]
    scored = [item for item in scored if any(abs(advantage) > SPREAD_TOLERANCE for advantage in item.advantages)]
    return scored, {
        "collect/reward": float(rewards_PG[kept_PG].mean()) if kept_PG.any() else 0.0,
        "collect/reward_std": float(group_std(rewards_PG, kept_PG).mean()),
        "collect/groups_without_spread": float((~spread_P).sum()),
        "collect/broken_episodes": float((~kept_PG).sum()),
        "collect/episodes_learned": float(len(scored)),
    }


def reward_of(config: GRPOConfig, rollout: Rollout) -> float:
    """1 for success, or the environment's summed reward where `graded_reward` asks for it."""
    return rollout.reward if config.graded_reward else float(rollout.trajectory.success)


def credit(config: GRPOConfig, advantage: float, turn: Turn) -> float:
    """The episode's advantage as one response has it: less where its action was unreadable or impossible."""
    if not turn.valid:
        return advantage - config.invalid_penalty
    if turn.possible:
        return advantage
    return (advantage if config.credit_impossible else min(advantage, 0.0)) - config.impossible_penalty


def learn(run: Run, scored: Sequence[Scored]) -> Metrics:
    """`epochs` passes over the episodes in shuffled mini-batches, one optimizer step each; means over all tokens."""
    config, sums = run.config, defaultdict[str, float](float)
    rng = np.random.default_rng([config.seed, run.update, SHUFFLE])
    for group in run.optimizer.param_groups:
        group["lr"] = config.rate(run.update)
    parts = max(1, round(len(scored) / config.mini_batch)) if scored else 0
    run.network.train()
    for epoch in range(config.epochs):
        for chosen in np.array_split(rng.permutation(len(scored)), parts) if parts else ():
            first = epoch == 0 and sums["steps"] == 0
            add_up(sums, optimizer_step(run, [scored[index] for index in chosen], first))
    run.network.eval()
    tokens, steps = max(sums["tokens"], 1), max(sums["steps"], 1)
    return {
        "train/loss": sums["loss"] / steps,
        "train/policy_loss": sums["policy_loss"] / tokens,
        "train/kl": sums["kl"] / tokens,
        "train/entropy": sums["entropy"] / tokens,
        "train/clip_share": sums["clipped"] / tokens,
        "train/ratio": sums["ratio"] / tokens if sums["tokens"] else 1.0,
        "train/sampler_gap": sums["gap"] / max(sums["gap_tokens"], 1),
        "train/grad_norm": sums["grad_norm"] / steps,
        "train/optimizer_steps": float(sums["steps"]),
        "train/skipped_steps": float(sums["skipped"]),
        "train/tokens": float(sums["tokens"]),
        "train/padding_share": sums["padding"] / steps,
        "train/learning_rate": config.rate(run.update),
    }


def optimizer_step(run: Run, chosen: Sequence[Scored], first: bool) -> Metrics:
    """One step on a mini-batch, in forward passes of `token_budget`. Sums over response tokens."""
    lengths = [len(item.rollout.token_ids) for item in chosen]
    packs = pack_by_length(lengths, run.config.token_budget)
    total = float(len(chosen))
    if run.config.aggregation == "token_mean":
        total = float(sum(sum(item.rollout.response_mask) for item in chosen))
    count = run.accelerator.num_processes
    sums: Metrics = {}
    rounds = -(-len(packs) // count)
    for number in range(rounds):
        index = number * count + run.accelerator.process_index
        # Where the packs do not divide evenly, a process repeats the first one with weight 0.
        pack, weight = (packs[index], count) if index < len(packs) else (packs[0], 0)
        with run.accelerator.no_sync(run.network) if number < rounds - 1 and count > 1 else nullcontext():
            loss, stats = loss_of(run, [chosen[i] for i in pack], total)
            run.accelerator.backward(loss * weight)  # processes average their gradients: x count makes it a sum
        add_up(sums, stats if weight else {})
    sums = dict(sum_over_processes(run, sums))
    sums |= {"steps": 1, "padding": padding_share(lengths, packs)}
    if first:
        sums["gap_tokens"] = sums["tokens"]
    else:
        del sums["gap"]
    norm = float(run.accelerator.clip_grad_norm_(run.network.parameters(), run.config.max_grad_norm))
    if np.isfinite(norm):
        run.optimizer.step()
        sums["grad_norm"] = norm
    else:
        sums["skipped"] = 1
    run.optimizer.zero_grad(set_to_none=True)
    return sums


def loss_of(run: Run, items: Sequence[Scored], total: float) -> tuple[torch.Tensor, Metrics]:
    """This pack's share of the mini-batch's loss, and sums of its token figures."""
    config, device = run.config, run.accelerator.device
    batch = make_batch([item.rollout for item in items], device)
    advantages_BK = batch.select([item.rollout.per_token(item.advantages) for item in items])
    sampled_BK = batch.select([item.rollout.logprobs for item in items])
    logits_BKV = _logits(run, run.network, batch)
    logprobs_BK = token_logprobs(logits_BKV, batch.targets_BK, config.temperature)
    entropy_BK = token_entropy(logits_BKV, config.temperature)
    policy = clipped_policy_loss(
        logprobs_BK, sampled_BK, advantages_BK, config.clip_low, config.clip_high, config.dual_clip
    )
    loss_BK, kl_BK = policy.loss_BT - config.entropy_coef * entropy_BK, torch.zeros_like(logprobs_BK)
    if run.reference is not None:
        with torch.no_grad():
            reference_BK = token_logprobs(_logits(run, run.reference, batch), batch.targets_BK, config.temperature)
        kl_BK = k3_kl(logprobs_BK, reference_BK)
        loss_BK = loss_BK + config.kl_coef * kl_BK
    loss = aggregate(loss_BK, batch.mask_BK, config.aggregation, total)
    figures = {
        "policy_loss": policy.loss_BT,
        "kl": kl_BK,
        "entropy": entropy_BK,
        "clipped": policy.clipped_BT.float(),
        "ratio": (logprobs_BK - sampled_BK).exp(),
        "gap": (logprobs_BK - sampled_BK).abs(),
    }
    sums = {name: float(values.detach()[batch.mask_BK].sum()) for name, values in figures.items()}
    return loss, sums | {"loss": float(loss.detach()), "tokens": float(batch.mask_BK.sum())}


def _logits(run: Run, model: Any, batch: Batch) -> torch.Tensor:
    with torch.autocast(run.accelerator.device.type, torch.bfloat16, enabled=run.config.bf16):
        return response_logits(model, batch)


def teach_curriculum(run: Run, groups: Sequence[Sequence[Rollout]], vary: VaryTasks | None) -> Metrics:
    """Tells the curriculum how the tasks went (Eq. 7) and, where `lam` > 0, has it take in variations (Eq. 6)."""
    for group in groups:
        rewards = [reward_of(run.config, r) for r in group if not r.trajectory.broken]
        if rewards:
            run.curriculum.update(group[0].trajectory.task, rewards)
    if vary is None or run.config.lam == 0:
        return {}
    chosen = run.curriculum.select_for_variation(run.config.variations)
    new = vary(chosen, run.draw_seed(VARY)) if chosen else []
    run.curriculum.add_generated(new)
    return {"curriculum/new_tasks": float(len(new)), "curriculum/tasks": float(len(run.curriculum.tasks))}


def evaluate_all(run: Run) -> Metrics:
    """Success on held-out tasks in every evaluation environment, the same tasks and seeds each time."""
    metrics: Metrics = {}
    sampling = Sampling(temperature=run.config.eval_temperature, max_tokens=run.config.max_tokens)
    for env_id, pool in run.eval_pools.items():
        tasks = choose_episodes(pool.tasks, run.config.eval_episodes)
        seed = int(np.random.SeedSequence([run.config.seed, EVALUATE]).generate_state(1)[0])
        groups = play(run, pool, tasks, 1, sampling, seed)
        result = summarise([group[0] for group in groups], env_id, pool.source)
        count_real_steps(run, pool, "eval", result.steps)
        metrics |= {f"eval/{env_id}/{key}": float(getattr(result, key)) for key in EVALUATED}
        metrics[f"eval/{env_id}/broken_episodes"] = float(result.broken)
    return metrics | real_steps(run)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: a preset, then any setting over it."""
    import tyro

    config = tyro.extras.overridable_config_cli(dict(PRESETS), args=arguments, description=__doc__)
    print(f"trained policy: {train(config)}")


if __name__ == "__main__":
    main()
