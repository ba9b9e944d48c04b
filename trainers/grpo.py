"""GRPO for multi-turn agents (Eq. 3, arXiv:2511.03773) in any environment, dreamed or real.

    python -m dreamgym_env.trainers.grpo small --output runs/first --eval-envs Real-WebShop-v0
    accelerate launch -m dreamgym_env.trainers.grpo paper/webshop

Each update: collect groups of episodes of the same tasks, score them within their groups, learn, log, evaluate, save.
What differs from single-turn GRPO: an episode is one sequence under a response mask, in the very tokens that were
sampled, so that one forward pass learns from all of its turns; broken dreams are masked, never scored as failures.
`docs/grpo.md` defines every logged key and numbers every implementation detail.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .agent import Rollout, Turn
from .batches import make_batch, response_logits
from .grpo_config import PRESETS, GRPOConfig
from .learning import (
    add_up,
    autocast,
    learning_figures,
    mini_batches,
    policy_loss,
    token_sums,
)
from .learning import optimizer_step as any_optimizer_step
from .loop import OnLog, run_updates
from .losses import SPREAD_TOLERANCE, aggregate, group_std, grpo_advantages, token_logprobs
from .rounds import VaryTasks, affordable, collect_groups, reward_of
from .run import Metrics, Run, prepare


@dataclass(frozen=True)
class Scored:
    """A sequence to learn from (an episode, or in windows a turn) and the advantage of each of its turns."""

    rollout: Rollout
    advantages: tuple[float, ...]


def train(config: GRPOConfig, on_log: OnLog | None = None, vary: VaryTasks | None = None) -> Path:
    """The whole run; the folder of the trained policy. `on_log` and `vary` as in `loop.run_updates`."""
    return run_updates(prepare(config), learn_from, on_log, vary, collect_with_spread)


def collect_with_spread(run: Run[GRPOConfig], count: int) -> list[list[Rollout]]:
    """`count` groups, and up to `extra_groups` more as long as fewer than `count` have spread: others teach nothing."""
    groups = collect_groups(run, count)
    for draw in itertools.count(1):
        missing = count - sum(has_spread(run.config, group) for group in groups)
        more = affordable(run, min(missing, count + run.config.extra_groups - len(groups)))
        if more <= 0:
            break
        groups += collect_groups(run, more, draw)
    return groups


def has_spread(config: GRPOConfig, group: Sequence[Rollout]) -> bool:
    """Whether the rewards of a group's whole episodes differ."""
    rewards = [reward_of(config, one) for one in group if not one.trajectory.broken]
    return bool(rewards) and max(rewards) - min(rewards) > SPREAD_TOLERANCE


def learn_from(run: Run[GRPOConfig], groups: Sequence[Sequence[Rollout]]) -> Metrics:
    """One update of the weights from a round's groups."""
    scored, figures = score(run.config, groups)
    return figures | learn(run, in_sequences(scored))


def score(config: GRPOConfig, groups: Sequence[Sequence[Rollout]]) -> tuple[list[Scored], Metrics]:
    """Advantages of all episodes that can be learned from, and what was left out.

    Outcome rewards are normalised within their group (Eq. 3); penalties then lower the advantage of just the response
    that earned them, so that a group is never ranked by penalties alone. An episode without any advantage teaches
    nothing and is left out: all of a group without spread, but those with penalties. Of the groups the `keep_share`
    with the largest spread counts.
    """
    rewards_PG = torch.tensor([[reward_of(config, rollout) for rollout in group] for group in groups])
    kept_PG = torch.tensor([[not rollout.trajectory.broken for rollout in group] for group in groups])
    advantages_PG = grpo_advantages(rewards_PG, kept_PG, config.scale_by_std)
    std_P = group_std(rewards_PG, kept_PG)
    chosen = std_P.argsort(descending=True, stable=True)[: math.ceil(config.keep_share * len(groups))].tolist()
    by_step = [step_advantages(config, group) for group in groups]
    learned = [
        (rollout, [float(advantages_PG[p, g]) + more for more in by_step[p][g]])
        for p, group in enumerate(groups)
        for g, rollout in enumerate(group)
        if p in chosen and kept_PG[p, g] and rollout.response_tokens
    ]
    given_back = mean_penalty(config, [rollout for rollout, _ in learned]) if config.center_penalties else 0.0
    scored = [
        Scored(
            rollout,
            tuple(credit(config, *one) + given_back for one in zip(advantages, rollout.turns, strict=True)),
        )
        for rollout, advantages in learned
    ]
    scored = [item for item in scored if any(abs(advantage) > SPREAD_TOLERANCE for advantage in item.advantages)]
    return scored, {
        "collect/reward": float(rewards_PG[kept_PG].mean()) if kept_PG.any() else 0.0,
        "collect/reward_std": float(std_P.mean()),
        "collect/groups": float(len(groups)),
        "collect/groups_without_spread": float((std_P <= SPREAD_TOLERANCE).sum()),
        "collect/groups_left_out": float(len(groups) - len(chosen)),
        "collect/broken_episodes": float((~kept_PG).sum()),
        "collect/episodes_learned": float(len(scored)),
    }


def step_advantages(config: GRPOConfig, group: Sequence[Rollout]) -> list[list[float]]:
    """What each turn of each episode has as an advantage among the turns of its group at the same state (GiGPO,
    arXiv:2505.10978): its discounted return, normalised as the episodes' are, times `step_weight`."""
    found = [[0.0] * len(rollout.turns) for rollout in group]
    places = defaultdict[str, list[tuple[int, int, float]]](list)
    for g, rollout in enumerate(group if config.step_weight else ()):
        for index, step in enumerate(() if rollout.trajectory.broken else rollout.trajectory.transitions):
            discount = config.step_discount ** (len(rollout.turns) - 1 - index)
            places[step.state].append((g, index, discount * reward_of(config, rollout)))
    for turns in places.values():
        returns_1N = torch.tensor([[value for *_, value in turns]])
        advantages_1N = grpo_advantages(returns_1N, torch.ones_like(returns_1N, dtype=torch.bool), config.scale_by_std)
        for (g, index, _), advantage in zip(turns, advantages_1N[0].tolist(), strict=True):
            found[g][index] = config.step_weight * advantage
    return found


def in_sequences(scored: Sequence[Scored]) -> list[Scored]:
    """The episodes as the network reads them: in windows each turn by itself, those without an advantage left out."""
    parts: list[Scored] = []
    for item in scored:
        if not item.rollout.windowed:
            parts.append(item)
            continue
        turns = zip(item.rollout.sequences, item.advantages, strict=True)
        parts += [Scored(turn, (advantage,)) for turn, advantage in turns if abs(advantage) > SPREAD_TOLERANCE]
    return parts


def credit(config: GRPOConfig, advantage: float, turn: Turn) -> float:
    """The episode's advantage as one response has it: less where its action was unreadable or impossible."""
    if advantage < 0:
        advantage *= config.negative_weight
    elif turn.valid and not turn.possible and not config.credit_impossible:
        advantage = 0.0
    return advantage - penalty(config, turn)


def penalty(config: GRPOConfig, turn: Turn) -> float:
    """What a response is charged, in advantages, >= 0."""
    if not turn.valid:
        return config.invalid_penalty
    return 0.0 if turn.possible else config.impossible_penalty


def mean_penalty(config: GRPOConfig, rollouts: Sequence[Rollout]) -> float:
    """The penalty of the mean response token."""
    turns = [turn for rollout in rollouts for turn in rollout.turns]
    tokens = sum(len(turn.response_ids) for turn in turns)
    return sum(penalty(config, turn) * len(turn.response_ids) for turn in turns) / tokens if tokens else 0.0


def learn(run: Run[GRPOConfig], scored: Sequence[Scored]) -> Metrics:
    """`epochs` passes over the sequences in shuffled mini-batches, one optimizer step each; means over all tokens."""
    sums: Metrics = {}
    run.network.train()
    for number, chosen in enumerate(mini_batches(run, len(scored))):
        add_up(sums, optimizer_step(run, [scored[index] for index in chosen], first=number == 0))
    run.network.eval()
    return learning_figures(run, sums)


def optimizer_step(run: Run[GRPOConfig], chosen: Sequence[Scored], first: bool) -> Metrics:
    """One step on a mini-batch. Sums over response tokens."""
    total = float(len(chosen))
    if run.config.aggregation == "token_mean":
        total = float(sum(sum(item.rollout.response_mask) for item in chosen))
    sequences = [item.rollout for item in chosen]
    return any_optimizer_step(
        run, sequences, lambda pack: loss_of(run, [chosen[index] for index in pack], total), first
    )


def loss_of(run: Run[GRPOConfig], items: Sequence[Scored], total: float) -> tuple[torch.Tensor, Metrics]:
    """This pack's share of the mini-batch's loss, and sums of its token figures."""
    config = run.config
    batch = make_batch([item.rollout for item in items], run.accelerator.device)
    advantages_BK = batch.select([item.rollout.per_token(item.advantages) for item in items])
    sampled_BK = batch.select([item.rollout.logprobs for item in items])
    with autocast(run):
        logits_BKV = response_logits(run.network, batch)
    reference_BK = None
    if run.reference is not None:
        with torch.no_grad(), autocast(run):
            reference_BKV = response_logits(run.reference, batch)
        reference_BK = token_logprobs(reference_BKV, batch.targets_BK, config.temperature)
    loss_BK, figures = policy_loss(config, logits_BKV, batch, sampled_BK, advantages_BK, reference_BK, config.kl_coef)
    loss = aggregate(loss_BK, batch.mask_BK, config.aggregation, total)
    sums = token_sums(figures, batch.mask_BK)
    return loss, sums | {"loss": float(loss.detach()), "tokens": float(batch.mask_BK.sum())}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: a preset, then any setting over it."""
    import tyro

    config = tyro.extras.overridable_config_cli(dict(PRESETS), args=arguments, description=__doc__)
    print(f"trained policy: {train(config)}")


if __name__ == "__main__":
    main()
