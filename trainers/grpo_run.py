"""What lives through a GRPO run, how it is loaded, played, saved and taken up again; `grpo.py` is the algorithm."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamgym_env.curriculum import Curriculum
from dreamgym_env.loading import embedded_policy_path
from dreamgym_env.trajectories import read_trajectories, task_from_record, task_record, trajectory_record
from dreamgym_env.types import Sampling, Task, Trajectory

from .agent import Rollout
from .audit import distrust
from .checkpoint import find_checkpoint, load_optimizer, load_state, save_checkpoint
from .evaluate import summarise
from .grpo_config import GRPOConfig
from .pools import BudgetedPool, EnvPool, VectorDreamPool, open_pool, read_settings
from .rollout import Collector, collect

Metrics = dict[str, float]
COLLECT, EVALUATE, VARY, SHUFFLE = range(4)
"""Streams of random numbers; each update has its own, so that a resumed run draws what it would have drawn."""


@dataclass
class Run:
    """All that lives through a run. `update` counts the updates done; `real_steps` the environment steps taken in
    real environments, by the training itself ("train") and by evaluations ("eval")."""

    config: GRPOConfig
    accelerator: Any
    model: Any
    """The `TransformersModel` that samples; shares its weights with `network`."""
    network: Any
    """What is trained: the policy's network, wrapped where several processes train."""
    reference: Any
    """The frozen starting policy's network, or None."""
    optimizer: Any
    pool: EnvPool
    eval_pools: dict[str, EnvPool]
    curriculum: Curriculum
    update: int = 0
    real_steps: dict[str, int] = field(default_factory=lambda: {"train": 0, "eval": 0})
    dreams: list[Trajectory] = field(default_factory=list)
    """What the replay buffer took in, group after group."""
    proposed: list[Task] = field(default_factory=list)
    """Every task variation that the task generator proposed, kept by the curriculum or not."""

    @property
    def folder(self) -> Path:
        return Path(self.config.output)

    def draw_seed(self, stream: int) -> int:
        """The seed of one purpose in one update and process."""
        entropy = [self.config.seed, self.update, stream, self.accelerator.process_index]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def prepare(config: GRPOConfig) -> Run:
    """Loads policy, reference, environments and, where asked for and there, the newest checkpoint."""
    from accelerate import Accelerator  # type: ignore[import-untyped]

    accelerator = Accelerator(cpu=config.device == "cpu")
    pools = open_pools(config, accelerator.num_processes)
    start = embedded_policy_path(pools[0].domain.name) if config.policy == "embedded" else config.policy
    found = find_checkpoint(Path(config.output) / "checkpoints", config.fall_back) if config.resume else None
    model = load_policy(config, str(found / "policy" if found else start), accelerator.device)
    reference = load_policy(config, str(start), accelerator.device).model if config.kl_coef else None
    optimizer = torch.optim.AdamW(model.model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    network = accelerator.prepare_model(model.model) if accelerator.num_processes > 1 else model.model
    curriculum = Curriculum([t for t in pools[0].tasks if t.split == "train"], config.lam, config.seed)
    run = Run(config, accelerator, model, network, reference, optimizer, *pools, curriculum)
    if found:
        restore(run, found)
    if config.real_budget is not None and run.pool.source == "real":
        run.pool = BudgetedPool(run.pool, config.real_budget - run.real_steps["train"])
    return run


def open_pools(config: GRPOConfig, processes: int) -> tuple[EnvPool, dict[str, EnvPool]]:
    """The training environments, and those for evaluation by id."""
    size = config.num_envs or -(-config.tasks_per_update // processes) * config.group_size
    settings = read_settings(config.settings)
    pool = open_pool(config.env_id, size, **{"split": "train", **settings})
    if isinstance(pool, VectorDreamPool) and (reason := distrust(pool.experience_model.card)):
        warnings.warn(f"this dream is not to be trusted with RL: {reason}", stacklevel=2)
    if not config.eval_every:
        return pool, {}
    wanted = {config.env_id: settings} | {name: read_settings(config.eval_settings) for name in config.eval_envs}
    size = min(size, config.eval_episodes)
    return pool, {name: open_pool(name, size, **{**rest, "split": "held_out"}) for name, rest in wanted.items()}


def load_policy(config: GRPOConfig, path: str, device: Any) -> Any:
    """A policy in float32 with its tokenizer, dropout off."""
    from dreamgym_env.language_model import TransformersModel

    model = TransformersModel.load(path, dtype="float32", device=str(device))
    if config.chat_template:
        model.tokenizer.chat_template = Path(config.chat_template).read_text(encoding="utf-8")
    for module in model.model.modules():
        for name in {"p", "attention_dropout"} & vars(module).keys():
            setattr(module, name, 0.0)  # a ratio of two passes must show the weights' change alone
    if config.gradient_checkpointing:
        model.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def restore(run: Run, checkpoint: Path) -> None:
    """Puts a checkpoint's state into the run; the policy itself is loaded from it already."""
    state = load_state(checkpoint)
    load_optimizer(checkpoint, run.optimizer)
    run.curriculum.load_state_dict(state["curriculum"])
    run.update, run.real_steps = int(state["update"]), dict(state["real_steps"])
    run.proposed = [task_from_record(record) for record in state["proposed"]]
    if run.config.grow_buffer:
        grow_buffer(run, list(read_trajectories(checkpoint / "dreams.jsonl")))


def save(run: Run) -> None:
    """A checkpoint from which the run goes on bit for bit."""
    state = {
        "config": asdict(run.config),
        "curriculum": run.curriculum.state_dict(),
        "real_steps": run.real_steps,
        "proposed": [task_record(task) for task in run.proposed],
    }
    dreams = "".join(json.dumps(trajectory_record(dream)) + "\n" for dream in run.dreams)
    save_checkpoint(
        run.folder / "checkpoints",
        run.update,
        run.model.model,
        run.model.tokenizer,
        run.optimizer,
        state,
        run.config.keep_last,
        {"dreams.jsonl": dreams},
    )


def play(
    run: Run, pool: EnvPool, tasks: Sequence[Task], group_size: int, sampling: Sampling, seed: int
) -> list[list[Rollout]]:
    """Groups of episodes in the tasks' order; each process plays its share and gets all."""
    run.model.seed(seed)
    run.model.forget()  # what an earlier call left in the cache must not decide the last bits of this one
    pool.seed(seed)
    collector = Collector(run.model, pool, sampling, _context(run), policy=f"{run.folder.name}-{run.update}")
    rank, count = run.accelerator.process_index, run.accelerator.num_processes
    mine = collect(collector, tasks[rank::count], group_size)
    if count == 1:
        return mine
    from accelerate.utils import gather_object  # type: ignore[import-untyped]

    shares = dict(gather_object([(rank, mine)]))
    return [shares[index % count][index // count] for index in range(len(tasks))]


def groups_to_play(run: Run) -> int:
    """Groups of the next round: `tasks_per_update`, or fewer where `real_budget` would not last for all steps that more
    could take; 0 where the run is at its end."""
    config = run.config
    if run.update >= config.updates:
        return 0
    if config.real_budget is None or run.pool.source != "real":
        return config.tasks_per_update
    left = config.real_budget - run.real_steps["train"]
    return min(config.tasks_per_update, left // (config.group_size * run.pool.horizon))


def describe(run: Run, rollouts: Sequence[Rollout]) -> Metrics:
    """The collected episodes in figures."""
    evaluation = summarise(rollouts, run.config.env_id, run.pool.source)
    lengths = [len(turn.response_ids) for rollout in rollouts for turn in rollout.turns]
    tokens = [len(rollout.token_ids) for rollout in rollouts]
    generated = sum(rollout.trajectory.task.origin == "generated" for rollout in rollouts)
    reasons = {f"collect/end_{name}": float(count) for name, count in evaluation.end_reasons.items()}
    return reasons | {
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


def count_real_steps(run: Run, pool: EnvPool, purpose: str, steps: int) -> None:
    """Adds to the count of real interactions where the environment is real."""
    if pool.source == "real":
        run.real_steps[purpose] += steps


def grow_buffer(run: Run, dreams: Sequence[Trajectory]) -> int:
    """Puts whole groups of dreams, one after another, into the dream's replay buffer; transitions added."""
    buffer = getattr(getattr(run.pool, "experience_model", None), "replay_buffer", None)
    if buffer is None or not hasattr(buffer, "add_informative"):
        raise ValueError(
            f"`grow_buffer` must be False where the environment has no replay buffer, got {run.config.env_id}"
        )
    size = run.config.group_size
    groups = [dreams[start : start + size] for start in range(0, len(dreams), size)]
    rewards = [[sum(step.reward for step in dream.transitions) for dream in group] for group in groups]
    run.dreams += dreams
    return int(buffer.add_informative(groups, rewards).added)


def informative(groups: Sequence[Sequence[Rollout]]) -> list[Trajectory]:
    """The trajectories of the groups with spread, whole groups only."""
    spread = [group for group in groups if len({rollout.reward for rollout in group}) > 1]
    return [rollout.trajectory for group in spread for rollout in group]


@contextmanager
def progress_bar(run: Run) -> Iterator[Callable[[Metrics], None]]:
    """A progress bar over the updates, or over the budget of real interactions, that tells the latest success."""
    from rich.progress import Progress

    with Progress(disable=not run.accelerator.is_main_process, transient=True) as bar:
        total, done = _progress(run)
        line = bar.add_task("GRPO", total=total, completed=done)

        def advance(metrics: Metrics) -> None:
            told = f"GRPO  success {metrics['collect/success']:.2f}  KL {metrics['train/kl']:.3f}"
            bar.update(line, completed=_progress(run)[1], description=told)

        yield advance


def _progress(run: Run) -> tuple[int, int]:
    """All there is to do and what is done: real interactions where a budget bounds the run, else updates."""
    if run.config.real_budget is not None and run.pool.source == "real":
        return run.config.real_budget, run.real_steps["train"]
    return run.config.updates, run.update


def _context(run: Run) -> int:
    """The longest episode: what the config allows and the model can read."""
    return min(run.config.context_tokens, int(run.model.max_context))


def add_up(sums: dict[str, float], more: Mapping[str, float]) -> None:
    """Adds `more` to `sums`, key by key."""
    for key, value in more.items():
        sums[key] = sums.get(key, 0.0) + value


def sum_over_processes(run: Run, sums: dict[str, float]) -> dict[str, float]:
    """The figures of all processes, added up."""
    if run.accelerator.num_processes == 1:
        return sums
    from accelerate.utils import gather_object  # type: ignore[import-untyped]

    merged = defaultdict[str, float](float)
    for share in gather_object([dict(sums)]):
        add_up(merged, share)
    return merged
