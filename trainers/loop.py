"""The course of a run, whatever the algorithm: rounds, evaluations, checkpoints, the log, and the trained policy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from dreamgym_env.progress import ProgressBar

from .agent import Rollout
from .checkpoint import save_final_module, save_final_policy
from .logs import MetricsLog
from .rounds import (
    VaryTasks,
    collect_groups,
    describe,
    evaluate_all,
    groups_to_play,
    informative,
    played_in,
    real_steps,
    teach_curriculum,
)
from .run import CRITIC_FILE, ConfigT, Metrics, Run, grow_buffer, save
from .run_config import RunConfig
from .sharding import whole_weights
from .variations import dreamed_variations

OnLog = Callable[[int, Metrics], None]
"""Called with (updates done, metrics) for every line that is logged, in the main process."""
Groups = list[list[Rollout]]
LearnFrom = Callable[[Run[ConfigT], Groups], Metrics]
"""What makes an algorithm: scores the round's groups of episodes and changes the weights; figures of both."""
Collect = Callable[[Run[ConfigT], int], Groups]
"""Plays a round of so many groups."""


def run_updates(
    run: Run[ConfigT],
    learn_from: LearnFrom[ConfigT],
    on_log: OnLog | None = None,
    vary: VaryTasks | None = None,
    collect: Collect[ConfigT] = collect_groups,
) -> Path:
    """All updates that are left; the folder of the trained policy.

    `vary` makes task variations where `lam` > 0; None asks the experience model for them.
    """
    config = run.config
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
            metrics = train_once(run, learn_from, vary, groups, collect)
            write(metrics)
            last = groups_to_play(run) == 0
            if config.eval_every and (last or run.update % config.eval_every == 0):
                write(evaluate_all(run))
            if last or run.update % config.save_every == 0:
                save(run)
            progress(metrics)
        run.accelerator.wait_for_everyone()
        critic = None if run.critic is None else whole_weights(run.critic)
        with run.as_delivered():
            if main_process:
                if critic is not None:
                    save_final_module(run.folder / CRITIC_FILE, critic)
                save_final_policy(run.folder / "policy", run.model.model, run.model.tokenizer)
    run.accelerator.wait_for_everyone()  # what comes next may begin with it, in every process
    run.close()
    return run.folder / "policy"


def train_once(
    run: Run[ConfigT],
    learn_from: LearnFrom[ConfigT],
    vary: VaryTasks | None,
    count: int,
    collect: Collect[ConfigT] = collect_groups,
) -> Metrics:
    """One update: collect `count` groups, learn from them, teach the curriculum, grow the buffer."""
    started = time.perf_counter()
    groups = collect(run, count)
    run.carried["groups"] = run.carried.get("groups", 0.0) + count
    metrics = describe(run, [rollout for group in groups for rollout in group])
    collected = time.perf_counter()
    metrics |= learn_from(run, groups) | teach_curriculum(run, groups, vary)
    run.weights_changed()
    if run.average is not None:
        run.average.take_in(run.model.model)
    if run.config.grow_buffer:
        dreamed: Sequence[Sequence[Rollout]] = played_in(run, groups, "dream") if run.real else groups
        metrics["curriculum/buffer_added"] = float(grow_buffer(run, informative(dreamed)))
    run.update += 1
    learned = time.perf_counter()
    tokens = metrics["collect/episode_tokens"] * sum(len(group) for group in groups)
    return metrics | {
        **real_steps(run),
        **peak_memory(run),
        "time/collect": collected - started,
        "time/learn": learned - collected,
        "time/collect_tokens_per_second": tokens / (collected - started),
        "time/learn_tokens_per_second": tokens / (learned - collected),
    }


def peak_memory(run: Run[RunConfig]) -> Metrics:
    """Most memory of this process's GPU that tensors took in this update, in GB (1e9 bytes); nothing on a CPU."""
    import torch

    device = run.accelerator.device
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated(device) / 1e9
    torch.cuda.reset_peak_memory_stats(device)
    return {"memory/gpu_peak_gb": peak}


@contextmanager
def progress_bar(run: Run[RunConfig]) -> Iterator[Callable[[Metrics], None]]:
    """A progress bar over the updates, or over the budget of real interactions, that tells the latest success."""
    with ProgressBar(disable=not run.accelerator.is_main_process, transient=True) as bar:
        total, done = _progress(run)
        line = bar.add_task("RL", total=total, completed=done)

        def advance(metrics: Metrics) -> None:
            told = f"RL  success {metrics['collect/success']:.2f}  KL {metrics['train/kl']:.3f}"
            bar.update(line, completed=_progress(run)[1], description=told)

        yield advance


def _progress(run: Run[RunConfig]) -> tuple[int, int]:
    """All there is to do and what is done: real interactions where a budget bounds the run, else updates."""
    if run.config.real_budget is not None and run.budgeted is not None:
        return run.config.real_budget, run.real_steps["train"]
    return run.config.updates, run.update
