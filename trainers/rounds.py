"""One round of a run: episodes collected, told in figures, shown to the curriculum; and the evaluations in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dreamgym_env.types import Sampling, Source, Task, Trajectory

from .agent import Rollout
from .batches import make_batch, response_logits
from .evaluate import Evaluation, choose_episodes, summarise
from .learning import autocast, in_passes
from .losses import token_logprobs
from .pools import EnvPool
from .rollout import Collector, collect
from .run import COLLECT, EVALUATE, VARY, Metrics, Run
from .run_config import RunConfig

VaryTasks = Callable[[Sequence[Task], int], Sequence[Task]]
"""Task variations of the given tasks, drawn with the given seed."""
EVALUATED: tuple[str, ...] = ("success_rate", "low", "high", "n", "mean_reward", "mean_steps", "mean_response_tokens")
EVALUATED += ("invalid_rate", "impossible_rate", "cut_responses", "context_overflows")
"""The figures of an `Evaluation` that are logged."""


PARTS = 1000
"""Numbers kept for the draws of a round, below those of the parts in which a draw is played."""


def groups_to_play(run: Run[RunConfig]) -> int:
    """Groups of the next round: `tasks_per_update`, or where `real_budget` bounds the run so many that it lasts for
    rounds of equal size, none larger than that; 0 where the run is at its end."""
    config = run.config
    if run.update >= config.updates or affordable(run, 1) < 1:
        return 0
    cost = group_cost(run)
    if run.budgeted is None or not cost:
        return config.tasks_per_update
    groups = budget_left(run) / cost
    return max(1, round(groups / max(1, math.ceil(groups / config.tasks_per_update))))


def group_cost(run: Run[RunConfig]) -> float:
    """Real interactions that a group of the next round is expected to take (on average over dreamed and real ones): as
    many as those so far, before the first round as many as the evaluation's episodes; 0 where nothing is known yet."""
    config = run.config
    if planned := run.carried.get("groups", 0.0):
        return run.real_steps["train"] / planned
    share = real_groups(run, config.tasks_per_update) / config.tasks_per_update
    return run.carried.get("real_episode_steps", 0.0) * config.group_size * share


def budget_left(run: Run[RunConfig]) -> int:
    """Real interactions that `real_budget` still allows."""
    assert run.config.real_budget is not None, "the run has a budget"
    return run.config.real_budget - run.real_steps["train"]


def affordable(run: Run[RunConfig], groups: int) -> int:
    """So many real groups, or as many as `real_budget` is sure to last for."""
    if run.budgeted is None:
        return groups
    return min(groups, budget_left(run) // (run.config.group_size * run.budgeted.horizon))


def real_groups(run: Run[RunConfig], groups: int) -> int:
    """How many of so many groups are real: all, none, or `real_share` of them and at least one."""
    if run.real is None:
        return groups if run.pool.source == "real" else 0
    return max(1, round(groups * run.config.real_share)) if groups else 0


def collect_groups(run: Run[RunConfig], count: int, draw: int = 0) -> list[list[Rollout]]:
    """`count` groups of episodes of the curriculum's next tasks, dreamed ones first, their real interactions counted;
    `draw` is the number of such collections before in the same round.

    Under a budget real groups are played in parts, each as large as is sure to fit, until there are `count` or not one
    more is sure to fit; what would be left for less than half another round is used up at once.
    """
    real = real_groups(run, count)
    groups = play_part(run, "dream", count - real, draw) if count > real else []
    part, before = int(bool(groups)), run.real_steps["train"]
    missing = real
    while missing and (now := affordable(run, missing)) > 0:
        groups += play_part(run, "real", now, draw + PARTS * part)
        part, missing = part + 1, missing - now
        if run.budgeted is not None and not missing and 2 * budget_left(run) < run.real_steps["train"] - before:
            missing = affordable(run, count)
    return groups


def play_part(run: Run[RunConfig], source: Source, count: int, number: int) -> list[list[Rollout]]:
    """`count` groups in the dreamed or in the real environments; `number` tells the draws of a round apart."""
    config = run.config
    real = run.real if source == "real" else None
    pool, curriculum = (real.pool, real.curriculum) if real else (run.pool, run.curriculum)
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens)
    tasks = curriculum.sample(count)
    groups = play(run, pool, tasks, config.group_size, sampling, run.draw_seed(COLLECT, number))
    groups = groups if run.served is None else with_logprobs(run, groups)
    count_real_steps(run, pool, "train", sum(len(rollout.turns) for group in groups for rollout in group))
    return groups


def source_of(run: Run[RunConfig], rollout: Rollout) -> Source:
    """Where an episode was played; one without a step only a dream can have."""
    return next((step.source for step in rollout.trajectory.transitions), run.pool.source)


def played_in(run: Run[RunConfig], groups: Sequence[Sequence[Rollout]], source: Source) -> list[Sequence[Rollout]]:
    """The groups that were dreamed, or those that were played for real."""
    return [group for group in groups if all(source_of(run, rollout) == source for rollout in group)]


def play(
    run: Run[RunConfig], pool: EnvPool, tasks: Sequence[Task], group_size: int, sampling: Sampling, seed: int
) -> list[list[Rollout]]:
    """Groups of episodes in the tasks' order; each process plays its share and gets all."""
    model = run.model if run.served is None else run.served
    model.seed(seed)
    model.forget()  # what an earlier call left in the cache must not decide the last bits of this one
    pool.seed(seed)
    context = min(run.config.context_tokens, int(run.model.max_context))
    policy = f"{run.folder.name}-{run.update}"
    collector = Collector(model, pool, sampling, context, policy, run.config.history)
    rank, count = run.accelerator.process_index, run.accelerator.num_processes
    mine = collect(collector, tasks[rank::count], group_size)
    if count == 1:
        return mine
    from accelerate.utils import gather_object  # type: ignore[import-untyped]

    shares = dict(gather_object([(rank, mine)]))
    return [shares[index % count][index // count] for index in range(len(tasks))]


def with_logprobs(run: Run[RunConfig], groups: list[list[Rollout]]) -> list[list[Rollout]]:
    """Episodes whose responses an endpoint drew, with the log-probabilities that the learner gives them before the
    update."""

    def look(sequences: list[Rollout]) -> list[list[float]]:
        batch = make_batch(sequences, run.accelerator.device)
        with autocast(run):
            logits_BKV = response_logits(run.model.model, batch)
        found_BK = token_logprobs(logits_BKV, batch.targets_BK, run.config.temperature)
        return [found_BK[row][batch.mask_BK[row]].tolist() for row in range(len(sequences))]

    rollouts = [rollout for group in groups for rollout in group]
    found = iter(in_passes(run, [part for one in rollouts for part in one.sequences], look))
    return [[_filled(rollout, [next(found) for _ in rollout.sequences]) for rollout in group] for group in groups]


def _filled(rollout: Rollout, parts: Sequence[Sequence[float]]) -> Rollout:
    left = iter([value for part in parts for value in part])
    turns = [replace(turn, response_logprobs=tuple(next(left) for _ in turn.response_ids)) for turn in rollout.turns]
    return replace(rollout, turns=tuple(turns))


def count_real_steps(run: Run[RunConfig], pool: EnvPool, purpose: str, steps: int) -> None:
    """Adds to the count of real interactions where the environment is real."""
    if pool.source == "real":
        run.real_steps[purpose] += steps


def real_steps(run: Run[RunConfig]) -> Metrics:
    """Real interactions so far."""
    return {f"real/{purpose}_steps": float(steps) for purpose, steps in run.real_steps.items()}


def reward_of(config: RunConfig, rollout: Rollout) -> float:
    """1 for success, or the environment's summed reward where `graded_reward` asks for it."""
    return rollout.reward if config.graded_reward else float(rollout.trajectory.success)


def informative(groups: Sequence[Sequence[Rollout]]) -> list[list[Trajectory]]:
    """The trajectories of the groups with spread, whole groups only."""
    spread = [group for group in groups if len({rollout.reward for rollout in group}) > 1]
    return [[rollout.trajectory for rollout in group] for group in spread]


def teach_curriculum(run: Run[RunConfig], groups: Sequence[Sequence[Rollout]], vary: VaryTasks | None) -> Metrics:
    """Tells the curriculum how the tasks of each group went together (Eq. 7) and, where `lam` > 0, has it take in
    variations (Eq. 6)."""
    for group in groups:
        rewards = [reward_of(run.config, r) for r in group if not r.trajectory.broken]
        tasks = {rollout.trajectory.task.task_id: rollout.trajectory.task for rollout in group}
        beside = run.real if source_of(run, group[0]) == "real" else None
        for task in tasks.values() if rewards else ():
            (beside.curriculum if beside else run.curriculum).update(task, rewards)
    if vary is None or run.config.lam == 0:
        return {}
    chosen = run.curriculum.select_for_variation(run.config.variations)
    new = vary(chosen, run.draw_seed(VARY)) if chosen else []
    run.curriculum.add_generated(new)
    return {
        "curriculum/new_tasks": float(len(new)),
        "curriculum/tasks": float(len(run.curriculum.tasks)),
        "curriculum/variation_steps": run.carried.get("variation_steps", 0.0),
    }


def describe(run: Run[RunConfig], rollouts: Sequence[Rollout]) -> Metrics:
    """The collected episodes in figures."""
    evaluation = summarise(rollouts, run.config.env_id, run.pool.source)
    lengths = [len(turn.response_ids) for rollout in rollouts for turn in rollout.turns]
    tokens = [len(rollout.token_ids) for rollout in rollouts]
    generated = sum(rollout.trajectory.task.origin == "generated" for rollout in rollouts)
    reasons = {f"collect/end_{name}": float(count) for name, count in evaluation.end_reasons.items()}
    return (
        reasons
        | mixture(run, rollouts)
        | {
            "collect/success": evaluation.success_rate,
            "collect/steps": evaluation.mean_steps,
            "collect/response_tokens": float(np.mean(lengths)) if lengths else 0.0,
            "collect/response_tokens_max": float(max(lengths, default=0)),
            "collect/cut_responses": float(evaluation.cut_responses),
            "collect/context_overflows": float(evaluation.context_overflows),
            "collect/invalid_actions": float(evaluation.invalid_actions),
            "collect/impossible_actions": float(evaluation.impossible_actions),
            "collect/actions": float(evaluation.steps),
            "collect/episode_tokens": float(np.mean(tokens)),
            "collect/per_step_ratio": sum(r.per_step_tokens for r in rollouts) / max(1, sum(tokens)),
            "collect/generated_share": generated / len(rollouts),
        }
    )


def mixture(run: Run[RunConfig], rollouts: Sequence[Rollout]) -> Metrics:
    """Dreamed and real episodes of a mixed round, each by themselves; nothing of another round."""
    if run.real is None:
        return {}
    found: Metrics = {}
    sources: tuple[Source, ...] = ("dream", "real")
    for source in sources:
        part = summarise([one for one in rollouts if source_of(run, one) == source], run.config.env_id, source)
        found |= {f"collect/{source}_episodes": float(part.n + part.broken)}
        found |= {f"collect/{source}_success": part.success_rate, f"collect/{source}_steps": part.mean_steps}
    return found


def evaluate_pool(run: Run[RunConfig], env_id: str, episodes: int, seed: int) -> tuple[Evaluation, list[Rollout]]:
    """One episode of each of the first `episodes` held-out tasks in `env_id`."""
    pool, config = run.eval_pools[env_id], run.config
    sampling = Sampling(temperature=config.eval_temperature, max_tokens=config.max_tokens)
    rollouts = [group[0] for group in play(run, pool, choose_episodes(pool.tasks, episodes), 1, sampling, seed)]
    result = summarise(rollouts, env_id, pool.source)
    count_real_steps(run, pool, "eval", result.steps)
    return result, rollouts


def evaluate_all(run: Run[RunConfig]) -> Metrics:
    """Success on held-out tasks in every evaluation environment, the same tasks and seeds each time."""
    metrics: Metrics = {}
    seed = int(np.random.SeedSequence([run.config.seed, EVALUATE]).generate_state(1)[0])
    with run.as_delivered():
        for env_id, pool in run.eval_pools.items():
            result, _ = evaluate_pool(run, env_id, run.config.eval_episodes, seed)
            if pool.source == "real" and env_id == (run.config.real_env or run.config.env_id):
                run.carried["real_episode_steps"] = result.mean_steps
            metrics |= {f"eval/{env_id}/{key}": float(getattr(result, key)) for key in EVALUATED}
            metrics[f"eval/{env_id}/broken_episodes"] = float(result.broken)
    return metrics | real_steps(run)
