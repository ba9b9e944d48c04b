"""Rejection sampling: the policy plays in the dream, SFT teaches it its own successes, and both again.

    dreamgym rejection-sampling laptop/webarena --output runs/own --eval-envs Real-WebArena-v0

Each round plays `group_size` episodes of each of its tasks with the policy of the round before (RAFT, arXiv:2304.06767;
STaR, arXiv:2203.14465) and learns from at most `per_task` successes of each: nothing pushes away from failures, and all
that SFT can do serves here too (`sft.py`: names exchanged, micro-sites, LoRA).

    OUTPUT/round_1/dreams/000000.jsonl.gz    the round's episodes, as many files as were played apart
    OUTPUT/round_1/policy                    the policy after the round
    OUTPUT/policy                            the policy after the last one
"""

from __future__ import annotations

import json
import os
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from dreamgym_env.loading import starting_policy
from dreamgym_env.progress import ProgressBar
from dreamgym_env.trajectories import read_trajectories, write_trajectories
from dreamgym_env.types import DataError, Sampling, Task, Trajectory

from . import sft
from .checkpoint import PARTIAL, is_whole
from .disk import check_writable, write_json, writing
from .evaluate import EvaluateConfig
from .evaluate import run as evaluate
from .intervals import wilson_interval
from .logs import MetricsLog, read_metrics
from .pools import EnvPool, open_pool, read_settings
from .rejection_sampling_config import PRESETS, RejectionSamplingConfig
from .rollout import Collector, collect
from .rounds import EVALUATED
from .samplers import RunJobs, processes_on
from .sft import SFTConfig
from .trust import distrust

KEPT = "the dreams and policies so far are kept"
MAY_CHANGE = ("rounds", "samplers", "device", "resume", "save_every", "log_every", "tensorboard")
"""Settings that a resumed run may have otherwise than it began."""


@dataclass(frozen=True)
class Part:
    """Tasks that one sampler plays in one go, and the file for their episodes."""

    number: int
    tasks: tuple[Task, ...]
    file: Path


@lru_cache(maxsize=1)
def _pool(env_id: str, size: int, settings: tuple[str, ...]) -> EnvPool:
    return open_pool(env_id, size, **{"split": "train", **read_settings(settings)})


@lru_cache(maxsize=1)
def _policy(path: str, device: str) -> Any:
    from dreamgym_env.language_model import TransformersModel

    return TransformersModel.load(path, device=device)


@contextmanager
def closing(config: RejectionSamplingConfig) -> Iterator[None]:
    """Closes and forgets after the block what was opened for it in this process."""
    try:
        yield
    finally:
        if _pool.cache_info().currsize:
            _pool(config.env_id, config.num_envs, config.settings).close()
        _pool.cache_clear()
        _policy.cache_clear()


def open_environments(config: RejectionSamplingConfig) -> tuple[Sequence[Task], str, str | None]:
    """Makes the environments of this process; their training tasks, the policy to begin with, and why the dream is not
    to be trusted, None where it is."""
    pool = _pool(config.env_id, config.num_envs, config.settings)
    start = starting_policy(pool.domain) if config.model == "embedded" else config.model
    model = getattr(pool, "experience_model", None)
    return [task for task in pool.tasks if task.split == "train"], start, model and distrust(model.card)


def play(config: RejectionSamplingConfig, round_number: int, policy: str, part: Part) -> int:
    """Plays a part's tasks and writes its file, whole or not at all; how many episodes."""
    model = _policy(policy, config.samplers[0] if len(config.samplers) == 1 else "auto")
    pool = _pool(config.env_id, config.num_envs, config.settings)
    seed = random.Random(f"{config.seed} {round_number} {part.number}").getrandbits(31)
    model.seed(seed)
    model.forget()
    pool.seed(seed)
    name = f"{Path(config.output).name}-{round_number}"
    sampling = Sampling(config.temperature, max_tokens=config.response_tokens)
    context = min(config.context_tokens, int(model.max_context))
    collector = Collector(model, pool, sampling, context, name, config.history)
    groups = collect(collector, part.tasks, config.group_size)
    episodes = [rollout.trajectory for group in groups for rollout in group]
    partial = part.file.with_name(f"{PARTIAL}{part.file.name}")
    with writing(part.file, KEPT, cleared=partial):
        write_trajectories(partial, episodes)
        os.replace(partial, part.file)
    return len(episodes)


def parts_of(config: RejectionSamplingConfig, round_number: int, tasks: Sequence[Task]) -> list[Part]:
    """A round's tasks, in portions of `num_envs` episodes."""
    count = len(tasks) if config.tasks_per_round is None else min(config.tasks_per_round, len(tasks))
    drawn = random.Random(f"{config.seed} {round_number}").sample(list(tasks), count)
    size, folder = config.num_envs // config.group_size, config.dreams_of(round_number)
    return [
        Part(index, tuple(drawn[start : start + size]), folder / f"{index:06d}.jsonl.gz")
        for index, start in enumerate(range(0, count, size))
    ]


def sample(
    config: RejectionSamplingConfig, round_number: int, policy: str, tasks: Sequence[Task], run_jobs: RunJobs
) -> list[Path]:
    """Plays what is left of a round; the files of all its episodes."""
    parts = parts_of(config, round_number, tasks)
    config.dreams_of(round_number).mkdir(parents=True, exist_ok=True)
    missing = [part for part in parts if not part.file.exists()]
    with ProgressBar() as bar:
        total, left = (config.group_size * sum(len(part.tasks) for part in some) for some in (parts, missing))
        line = bar.add_task(f"round {round_number}: playing", total=total, completed=total - left)
        for played in run_jobs(play, [(config, round_number, policy, part) for part in missing]):
            bar.advance(line, played)
    return [part.file for part in parts]


def describe(episodes: Sequence[Trajectory]) -> dict[str, float]:
    """A round's episodes in figures; `docs/rejection-sampling.md` tells each."""
    counted = [one for one in episodes if not one.broken]
    wins, played = Counter[str](), Counter[str]()
    for one in counted:
        played[one.task.task_id] += 1
        wins[one.task.task_id] += one.success
    low, high = wilson_interval(wins.total(), len(counted))
    return {
        "sampled/episodes": float(len(episodes)),
        "sampled/broken": float(len(episodes) - len(counted)),
        "sampled/success": wins.total() / len(counted) if counted else 0.0,
        "sampled/low": low,
        "sampled/high": high,
        "sampled/steps": sum(len(one.transitions) for one in counted) / max(1, len(counted)),
        "sampled/tasks": float(len(played)),
        "sampled/tasks_always": float(sum(wins[name] == count for name, count in played.items())),
        "sampled/tasks_never": float(sum(wins[name] == 0 for name in played)),
    }


def learn(config: RejectionSamplingConfig, round_number: int, policy: str, files: Sequence[Path]) -> dict[str, float]:
    """SFT from a policy on the successes in files; figures of it."""
    folder = config.policy_of(round_number)
    settings = {field.name: getattr(config, field.name) for field in fields(SFTConfig)}
    settings |= {
        "model": policy,
        "trajectories": (*config.trajectories, *map(str, files)),
        "output": str(folder),
        "resume": (folder / "checkpoints").is_dir(),
        "seed": config.seed + round_number - 1,
    }
    _policy.cache_clear()  # its memory is needed
    report = sft.run(SFTConfig(**settings))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    told = ("episodes", "failed", "spare", "too_long", "thoughtless", "tokens", "steps")
    return {f"learned/{name}": float(report[name]) for name in told}


def evaluate_all(config: RejectionSamplingConfig, policy: str) -> tuple[dict[str, float], int]:
    """Success of a policy in every evaluation environment, the same tasks and seeds each time; and the real
    interactions that it took."""
    metrics, real_steps = dict[str, float](), 0
    for env_id in config.eval_envs:
        result = evaluate(
            EvaluateConfig(
                policy=policy,
                env_id=env_id,
                episodes=config.eval_episodes,
                temperature=config.eval_temperature,
                max_tokens=config.response_tokens,
                context_tokens=config.context_tokens,
                history=config.history,
                num_envs=min(config.num_envs, 32),
                settings=config.eval_settings,
                seed=config.seed,
            )
        )
        real_steps += result.steps if result.source == "real" else 0
        metrics |= {f"eval/{env_id}/{key}": float(getattr(result, key) or 0) for key in EVALUATED}
        metrics[f"eval/{env_id}/broken_episodes"] = float(result.broken)
    return metrics, real_steps


def run_round(
    config: RejectionSamplingConfig, number: int, start: str, policy: str, tasks: Sequence[Task], run_jobs: RunJobs
) -> tuple[dict[str, float], int]:
    """One round: the policy before it plays, and that one or the run's first (`restart`) learns; figures, and the real
    interactions that it took.

    Raises:
        DataError: nothing was won.
    """
    files = sample(config, number, policy, tasks, run_jobs)
    episodes = [episode for file in files for episode in read_trajectories(file)]
    figures = describe(episodes)
    if not figures["sampled/success"]:
        raise DataError(
            f"round {number} must win something to learn from, got no success in {len(episodes)} episodes; begin with "
            "a policy that wins some, or raise `group_size` or `temperature`"
        )
    real_steps = sum(step.source == "real" for one in episodes for step in one.transitions)
    if config.restart:
        policy = start
        files = [part.file for played in range(number, 0, -1) for part in parts_of(config, played, tasks)]
    return figures | learn(config, number, policy, files), real_steps


def train(config: RejectionSamplingConfig) -> Path:
    """All rounds that are left; the folder of the last policy.

    Raises:
        DataError: `output` has another run's rounds, or a round won nothing.
    """
    done = begin(config)
    with (
        closing(config),
        processes_on(config.samplers) as run_jobs,
        MetricsLog(Path(config.output), done, config.tensorboard) as log,
    ):
        (tasks, start, reason), *_ = run_jobs(open_environments, [(config,)] * len(config.samplers))
        if reason:
            warnings.warn(f"this dream is not to be trusted with RL: {reason}", stacklevel=2)
        last = read_metrics(log.path)[-1:]
        taken = {purpose: sum(int(row[f"real/{purpose}_steps"]) for row in last) for purpose in ("train", "eval")}

        def write(number: int, policy: str, metrics: dict[str, float], real_steps: int) -> None:
            evaluated, more = evaluate_all(config, policy)
            taken["train"] += real_steps
            taken["eval"] += more
            steps = {f"real/{purpose}_steps": float(count) for purpose, count in taken.items()}
            log.write(number, metrics | evaluated | steps)

        policy = start
        if not last:
            write(0, policy, {}, 0)
        for number in range(1, config.rounds + 1):
            before, policy = policy, str(config.policy_of(number))
            if number > done:
                write(number, policy, *run_round(config, number, start, before, tasks, run_jobs))
    return keep_last(Path(config.output), Path(policy))


def keep_last(folder: Path, policy: Path) -> Path:
    """Copies the last round's policy to where a run's policy is, whole or not at all."""
    final, partial = folder / "policy", folder / f"{PARTIAL}policy"
    for path in (final, partial):
        shutil.rmtree(path, ignore_errors=True)
    with writing(final, KEPT, cleared=partial):
        shutil.copytree(policy, partial)
        os.replace(partial, final)
    return final


def as_json(config: RejectionSamplingConfig) -> dict[str, Any]:
    """The settings as a file gives them back, lists for tuples."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return settings


def begin(config: RejectionSamplingConfig) -> int:
    """Notes the settings of a new run, or compares them with those of the run to go on with; the rounds done.

    Raises:
        DataError: `output` has a run that was not to be gone on with, one of other settings or none that can be read;
            or it cannot be written.
    """
    folder = Path(config.output)
    file, settings = folder / "config.json", as_json(config)
    if not file.exists():
        check_writable(file)
        write_json(file, settings)
    elif not config.resume:
        raise DataError(
            f"{folder} has an earlier run: go on with it with `resume`, give another output folder, or delete this one"
        )
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} must hold the settings of the run ({error}); delete {folder} to begin anew") from error
    begun = as_json(RejectionSamplingConfig()) | noted  # a version without a setting acted as its default does
    other = [name for name, value in settings.items() if name not in MAY_CHANGE and begun.get(name) != value]
    if other:
        told = "; ".join(f"`{name}` was {begun.get(name)!r}, got {settings[name]!r}" for name in other)
        raise DataError(f"{folder} must be gone on with as it began: {told}")
    log = folder / "metrics.jsonl"
    told_of = {int(row["update"]) for row in read_metrics(log)} if log.exists() else set[int]()
    done = {number for number in range(1, config.rounds + 1) if is_whole(config.policy_of(number))}
    return max(told_of & done, default=0)


def main(config: RejectionSamplingConfig) -> dict[str, Any]:
    """All rounds; where the policy is, and the figures of each round."""
    policy = train(config)
    return {"policy": str(policy), "rounds": read_metrics(Path(config.output) / "metrics.jsonl")}


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.extras.overridable_config_cli(PRESETS, description=__doc__)), indent=1))
