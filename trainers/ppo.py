"""PPO for multi-turn agents (Eq. 2, arXiv:2511.03773; arXiv:1707.06347) in any environment, dreamed or real.

    python -m dreamgym_env.trainers.ppo small --output runs/ppo --eval-envs Real-WebShop-v0
    accelerate launch -m dreamgym_env.trainers.ppo paper/webshop

Each update: collect episodes, value their states, estimate advantages (GAE over response tokens or over turns), learn
policy and critic, log, evaluate, save. An episode that was cut off (time limit, context) is worth what the critic says
of the state it was cut off in; one that came to its end is worth nothing more; a broken dream is masked altogether.
`docs/ppo.md` defines every logged key and numbers every implementation detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dreamgym_env.clusters import cluster_tasks
from dreamgym_env.curriculum import reward_entropy
from dreamgym_env.encoders import load_encoder

from .adapters import with_adapters
from .agent import Rollout
from .batches import make_batch
from .checkpoint import load_module
from .critic import ActorCritic, Critic, head_size
from .estimates import Estimated, estimate
from .learning import (
    add_up,
    autocast,
    learning_figures,
    mini_batches,
    optimizer_step,
    policy_loss,
    token_sums,
)
from .loop import Collect, OnLog, run_updates
from .losses import adapted_kl_coef, aggregate, value_loss
from .ppo_config import PRESETS, PPOConfig
from .rounds import VaryTasks, collect_groups, reward_of, source_of
from .run import Metrics, Run, load_policy
from .run import prepare as prepare_run


def train(config: PPOConfig, on_log: OnLog | None = None, vary: VaryTasks | None = None) -> Path:
    """The whole run; the folder of the trained policy. `on_log` and `vary` as in `loop.run_updates`."""
    return run_updates(prepare(config), learn_from, on_log, vary, collector_of_clusters(config))


def prepare(config: PPOConfig) -> Run[PPOConfig]:
    """A run with a critic beside the policy."""

    def with_critic(policy: Any, start: str, device: Any) -> ActorCritic:
        backbone = load_policy(config, start, device).model.base_model if config.critic == "separate" else None
        if backbone is not None and config.lora_rank:
            backbone = with_adapters(backbone, config.lora_rank, config.seed, "FEATURE_EXTRACTION")
        critic = Critic(head_size(policy), backbone)
        if config.critic_weights:
            load_module(Path(config.critic_weights), critic)
        return ActorCritic(policy, critic.to(device)).eval()

    run = prepare_run(config, with_critic)
    run.carried.setdefault("kl_coef", config.kl_coef)
    return run


def collector_of_clusters(config: PPOConfig) -> Collect[PPOConfig]:
    """Collects a round and groups its episodes by similar tasks (Section 4.2): what curriculum and replay buffer take
    the reward entropy over, where a task is played once."""
    encoder = load_encoder(config.encoder)

    def collect(run: Run[PPOConfig], count: int) -> list[list[Rollout]]:
        groups = collect_groups(run, count)
        if config.cluster_size == 1:
            return groups
        found = list[list[Rollout]]()
        for source in ("dream", "real"):  # a mixed round's episodes are compared with their own kind
            rollouts = [one for group in groups for one in group if source_of(run, one) == source]
            clusters = cluster_tasks([one.trajectory.task for one in rollouts], encoder, config.cluster_size)
            found += [[rollouts[index] for index in cluster] for cluster in clusters]
        return found

    return collect


def learn_from(run: Run[PPOConfig], groups: Sequence[Sequence[Rollout]]) -> Metrics:
    """One update of the weights from a round's episodes."""
    rollouts = [rollout for group in groups for rollout in group]
    items, figures = estimate(run, rollouts)
    figures |= {"train/kl_coef": run.carried["kl_coef"], **spread_figures(run.config, groups)}
    figures |= learn(run, items)
    if run.config.kl_target is not None and items:
        run.carried["kl_coef"] = adapted_kl_coef(
            run.carried["kl_coef"], figures["train/kl"], run.config.kl_target, len(rollouts), run.config.kl_horizon
        )
    return figures


def spread_figures(config: PPOConfig, groups: Sequence[Sequence[Rollout]]) -> Metrics:
    """How many groups of similar tasks there are and how their outcomes vary (Eq. 7)."""
    whole = [[one for one in group if not one.trajectory.broken] for group in groups]
    found = [reward_entropy([reward_of(config, one) for one in group]) for group in whole if group]
    return {"curriculum/clusters": float(len(groups)), "curriculum/reward_entropy": sum(found) / max(1, len(found))}


def learn(run: Run[PPOConfig], items: Sequence[Estimated]) -> Metrics:
    """`epochs` passes over the sequences in shuffled mini-batches, one step of policy and critic each."""
    config, sums = run.config, Metrics()
    idle = (0,) if run.update < config.critic_warmup else ()
    run.network.train()
    for number, chosen in enumerate(mini_batches(run, len(items))):
        add_up(sums, learn_batch(run, [items[index] for index in chosen], number == 0, idle))
    run.network.eval()
    values, steps = max(sums.get("valued", 0), 1), max(sums.get("steps", 0), 1)
    return learning_figures(run, sums) | {
        "train/value_loss": sums.get("value_loss", 0.0) / values,
        "train/value_clip_share": sums.get("value_clipped", 0.0) / values,
        "train/critic_grad_norm": sums.get("critic_grad_norm", 0.0) / steps,
        "train/critic_learning_rate": config.rates(run.update + 1)[1],
    }


def learn_batch(run: Run[PPOConfig], chosen: Sequence[Estimated], first: bool, idle: Sequence[int] = ()) -> Metrics:
    """One step on a mini-batch. Sums over response tokens."""
    totals = (float(len(chosen)), float(len(chosen)))
    if run.config.aggregation == "token_mean":
        totals = (
            float(sum(item.rollout.response_tokens for item in chosen)),
            float(sum(sum(item.valued) for item in chosen)),
        )
    sequences = [item.rollout for item in chosen]
    return optimizer_step(
        run, sequences, lambda pack: loss_of(run, [chosen[index] for index in pack], totals), first, idle
    )


def loss_of(run: Run[PPOConfig], items: Sequence[Estimated], totals: tuple[float, float]) -> tuple[Tensor, Metrics]:
    """This pack's share of the mini-batch's loss, and sums of its token figures."""
    config = run.config
    batch = make_batch([item.rollout for item in items], run.accelerator.device)

    def at_columns(rows: Sequence[Sequence[float]]) -> Tensor:
        return batch.select([item.rollout.at_responses(row) for item, row in zip(items, rows, strict=True)])

    with autocast(run):
        logits_BKV, values_BK = run.network(batch.ids_BT, batch.columns_K)
    sampled_BK = batch.select([item.rollout.logprobs for item in items])
    reference_BK = at_columns([item.before.reference for item in items]) if run.reference is not None else None
    kl_coef = run.carried["kl_coef"] if config.kl_in == "loss" else 0.0
    advantages_BK = at_columns([item.advantages for item in items])
    loss_BK, figures = policy_loss(config, logits_BKV, batch, sampled_BK, advantages_BK, reference_BK, kl_coef)
    value = value_loss(
        values_BK,
        at_columns([item.before.values for item in items]),
        at_columns([item.returns for item in items]),
        config.value_clip,
    )
    valued_BK = at_columns([item.valued for item in items]) > 0
    loss = aggregate(loss_BK, batch.mask_BK, config.aggregation, totals[0])
    loss = loss + config.value_coef * aggregate(value.loss_BT, valued_BK, config.aggregation, totals[1])
    sums = token_sums(figures, batch.mask_BK)
    sums |= token_sums({"value_loss": value.loss_BT, "value_clipped": value.clipped_BT.float()}, valued_BK)
    sums |= {"valued": float(valued_BK.sum()), "tokens": float(batch.mask_BK.sum()), "loss": float(loss.detach())}
    return loss, sums


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: a preset, then any setting over it."""
    import tyro

    config = tyro.extras.overridable_config_cli(dict(PRESETS), args=arguments, description=__doc__)
    print(f"trained policy: {train(config)}")


if __name__ == "__main__":
    main()
