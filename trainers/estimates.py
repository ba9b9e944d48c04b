"""What PPO learns from: values, rewards, advantages and returns at the response tokens of a round's episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dreamgym_env.types import CUT_OFF

from .agent import Rollout, Turn
from .batches import make_batch, response_logits
from .learning import autocast, in_passes
from .losses import gae, token_logprobs, whiten
from .ppo_config import PPOConfig
from .rounds import reward_of
from .run import Metrics, Run


@dataclass(frozen=True)
class Valued:
    """A sequence as critic and reference policy see it before the update: one number per response token."""

    values: tuple[float, ...]
    reference: tuple[float, ...]
    """The reference policy's log-probabilities; () without one."""


@dataclass(frozen=True)
class Estimated:
    """A sequence to learn from: one number per response token in every field."""

    rollout: Rollout
    before: Valued
    advantages: tuple[float, ...]
    returns: tuple[float, ...]
    valued: tuple[bool, ...]
    """Where the critic learns: at every response token, or at the first of each turn."""


@dataclass(frozen=True)
class Units:
    """What has a value in R episodes, as tensors (R, U): their response tokens, or their turns."""

    rewards_RU: Tensor
    values_RU: Tensor
    mask_RU: Tensor
    bootstrap_R: Tensor


def estimate(run: Run[PPOConfig], rollouts: Sequence[Rollout]) -> tuple[list[Estimated], Metrics]:
    """Advantages and returns of all episodes that are not broken (Eq. 2), and figures of them."""
    config = run.config
    whole = [one for one in rollouts if not one.trajectory.broken and one.turns]
    found = looked_at(run, [prolonged(run, rollout) for rollout in whole])
    rewards = [reward_of(config, rollout) for rollout in whole]
    figures = {
        "collect/reward": sum(rewards) / max(1, len(rewards)),
        "collect/broken_episodes": float(sum(one.trajectory.broken for one in rollouts)),
        "collect/episodes_learned": float(len(whole)),
        "collect/bootstrapped": float(sum(goes_on(config, rollout) for rollout in whole)),
    }
    if not whole:
        return [], figures
    units = as_units(run, whole, found)
    advantages_RU = gae(
        units.rewards_RU, units.values_RU, units.mask_RU, units.bootstrap_R, config.gamma, config.gae_lambda
    )
    returns_RU = advantages_RU + units.values_RU
    figures |= value_figures(advantages_RU, returns_RU, units)
    if config.whiten_advantages:
        advantages_RU = whiten(advantages_RU, units.mask_RU)
    episodes = [
        to_tokens(config, *one) for one in zip(whole, found, advantages_RU.tolist(), returns_RU.tolist(), strict=True)
    ]
    return [part for item in episodes for part in in_sequences(item)], figures


def goes_on(config: PPOConfig, rollout: Rollout) -> bool:
    """Whether the episode's value goes on behind its last turn: its time or its context was over, not its task."""
    return config.bootstrap and rollout.trajectory.end_reason in CUT_OFF


def prolonged(run: Run[PPOConfig], rollout: Rollout) -> Rollout:
    """The episode with, where it was cut off, the turn that would have come next; its one token stands for a response
    that nobody gave, so that the value in front of it is that of the state it was cut off in."""
    if not goes_on(run.config, rollout):
        return rollout
    room = max(0, int(run.model.max_context) - (0 if rollout.windowed else len(rollout.token_ids)))
    # Where the context is full the end of the prompt stays: it is there that the critic has learned to value states.
    closing = rollout.closing_ids[max(0, len(rollout.closing_ids) - room) :]
    return replace(rollout, turns=(*rollout.turns, Turn(closing, (0,), (0.0,))))


def looked_at(run: Run[PPOConfig], rollouts: Sequence[Rollout]) -> list[Valued]:
    """Values and reference log-probabilities of whole episodes, from one pass over each of their sequences."""
    found = iter(in_passes(run, [part for one in rollouts for part in one.sequences], lambda batch: look(run, batch)))
    parts = [[next(found) for _ in rollout.sequences] for rollout in rollouts]
    return [
        Valued(tuple(v for part in seen for v in part.values), tuple(v for part in seen for v in part.reference))
        for seen in parts
    ]


def look(run: Run[PPOConfig], sequences: Sequence[Rollout]) -> list[Valued]:
    """Values and reference log-probabilities of one pack of sequences."""
    batch = make_batch(sequences, run.accelerator.device)
    network = run.accelerator.unwrap_model(run.network)  # processes need not make the same number of passes
    with autocast(run):
        values_BK = network.values(batch.ids_BT, batch.columns_K)
    reference_BK = torch.zeros(len(sequences), 0)
    if run.reference is not None:
        with autocast(run):
            logits_BKV = response_logits(run.reference, batch)
        reference_BK = token_logprobs(logits_BKV, batch.targets_BK, run.config.temperature)
    return [
        Valued(
            tuple(values_BK[row][batch.mask_BK[row]].tolist()),
            tuple(reference_BK[row][batch.mask_BK[row]].tolist()) if run.reference is not None else (),
        )
        for row in range(len(sequences))
    ]


def as_units(run: Run[PPOConfig], rollouts: Sequence[Rollout], found: Sequence[Valued]) -> Units:
    """Rewards and values of the episodes' tokens or turns, padded to the longest."""
    rewards, values, bootstrap = list[list[float]](), list[list[float]](), list[float]()
    for rollout, seen in zip(rollouts, found, strict=True):
        spans = list(turn_spans(rollout))
        earned = token_rewards(run, rollout, seen)
        if run.config.gae_level == "token":
            rewards.append(earned)
            values.append(list(seen.values[: len(earned)]))
        else:
            rewards.append([sum(earned[start:end]) for start, end in spans])
            values.append([seen.values[start] for start, _ in spans])
        bootstrap.append(seen.values[-1] if goes_on(run.config, rollout) else 0.0)
    longest = max(len(row) for row in rewards)
    padded = [[[*row, *[0.0] * (longest - len(row))] for row in rows] for rows in (rewards, values)]
    mask = [[position < len(row) for position in range(longest)] for row in rewards]
    return Units(torch.tensor(padded[0]), torch.tensor(padded[1]), torch.tensor(mask), torch.tensor(bootstrap))


def token_rewards(run: Run[PPOConfig], rollout: Rollout, seen: Valued) -> list[float]:
    """What each response token earned: its turn's reward at the turn's last token, less the KL where it is in the
    reward (arXiv:1909.08593, Eq. 2).

    A turn earns the environment's reward, or 1 at the end of a success (see `graded_reward`), less its penalties.
    """
    config, earned = run.config, [0.0] * rollout.response_tokens
    for number, (_, end) in enumerate(turn_spans(rollout)):
        turn, last = rollout.turns[number], number == len(rollout.turns) - 1
        reward = rollout.trajectory.transitions[number].reward if config.graded_reward else 0.0
        if last and not config.graded_reward:
            reward = float(rollout.trajectory.success)
        penalty = config.invalid_penalty if not turn.valid else 0.0 if turn.possible else config.impossible_penalty
        earned[end - 1] = reward - penalty
    if config.kl_in == "reward" and seen.reference:
        sampled = [logprob for turn in rollout.turns for logprob in turn.response_logprobs]
        pairs = zip(earned, sampled, seen.reference[: len(earned)], strict=True)
        earned = [reward - run.carried["kl_coef"] * (logprob - reference) for reward, logprob, reference in pairs]
    return earned


def turn_spans(rollout: Rollout) -> Iterator[tuple[int, int]]:
    """Where each turn's response begins and ends among the response tokens of its episode."""
    start = 0
    for turn in rollout.turns:
        yield start, start + len(turn.response_ids)
        start += len(turn.response_ids)


def to_tokens(
    config: PPOConfig, rollout: Rollout, seen: Valued, advantages: Sequence[float], returns: Sequence[float]
) -> Estimated:
    """An episode's estimates at its response tokens; those of a turn at each token of it."""
    spans, count = list(turn_spans(rollout)), rollout.response_tokens
    before = Valued(seen.values[:count], seen.reference[:count])
    if config.gae_level == "token":
        return Estimated(rollout, before, tuple(advantages[:count]), tuple(returns[:count]), (True,) * count)
    turns = [number for number, (start, end) in enumerate(spans) for _ in range(start, end)]
    firsts = {start for start, _ in spans}
    return Estimated(
        rollout,
        before,
        tuple(advantages[turn] for turn in turns),
        tuple(returns[turn] for turn in turns),
        tuple(position in firsts for position in range(count)),
    )


def in_sequences(item: Estimated) -> list[Estimated]:
    """The episode as the network reads it: whole, or in windows each turn by itself."""
    parts, start = list[Estimated](), 0
    for rollout in item.rollout.sequences:
        span = slice(start, start + rollout.response_tokens)
        before = Valued(item.before.values[span], item.before.reference[span])
        parts.append(Estimated(rollout, before, item.advantages[span], item.returns[span], item.valued[span]))
        start = span.stop
    return parts


def value_figures(advantages_RU: Tensor, returns_RU: Tensor, units: Units) -> Metrics:
    """How good the critic's values were before the update."""
    advantages, returns = advantages_RU[units.mask_RU], returns_RU[units.mask_RU]
    spread = float(returns.var(correction=0))
    return {
        "value/mean": float(units.values_RU[units.mask_RU].mean()),
        "value/return": float(returns.mean()),
        "value/advantage_std": float(advantages.std(correction=0)),
        "value/explained_variance": 1 - float(advantages.var(correction=0)) / spread if spread > 1e-12 else 0.0,
    }
