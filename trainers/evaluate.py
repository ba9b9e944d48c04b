"""Success of a policy on a list of tasks, in any environment, with its interval: `dreamgym evaluate`.

python -m dreamgym_env.trainers.evaluate --policy FOLDER --env-id Real-WebShop-v0 --episodes 300 --temperatures 0 0.4
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from dreamgym_env.loading import starting_policy
from dreamgym_env.progress import ProgressBar
from dreamgym_env.trajectories import write_trajectories
from dreamgym_env.types import BROKEN, DataError, Sampling, Split, Task

from .agent import Rollout
from .disk import check_writable, write_json, writing
from .intervals import wilson_interval
from .pools import EnvPool, open_pool, read_settings
from .rollout import Collector, Progress, collect
from .text_play import ChatAgent, play_script, play_texts


@dataclass(frozen=True)
class Evaluation:
    """Figures over `n` episodes; broken ones (`types.BROKEN`) are counted in `end_reasons` but not in `n`.

    `success_rate` and the 95% Wilson interval `low`, `high` are in [0, 1], NaN-free: 0 and [0, 1] where n is 0.
    `mean_reward` is the environment's summed reward per episode. `invalid_rate` and `impossible_rate` are shares of
    all actions. `mean_response_tokens` is None where nobody counted them: a script, or an endpoint without `usage`.
    `steps` counts every environment step taken, broken episodes included.
    """

    env_id: str
    source: str
    n: int
    successes: int
    success_rate: float
    low: float
    high: float
    mean_reward: float
    mean_steps: float
    mean_response_tokens: float | None
    steps: int
    invalid_actions: int
    impossible_actions: int
    cut_responses: int
    context_overflows: int
    invalid_rate: float
    impossible_rate: float
    end_reasons: Mapping[str, int]
    by_type: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """`n`, `successes` and the interval of each task type, where the domain names such (`task_type`)."""
    temperature: float | None = None
    """The sampling temperature, 0 for greedy; None where nothing was sampled or nobody said."""

    @property
    def broken(self) -> int:
        """Episodes that say nothing of the policy, see `types.BROKEN`."""
        return sum(self.end_reasons.get(reason, 0) for reason in BROKEN)


@dataclass(frozen=True)
class EvaluateConfig:
    """What to evaluate, and where."""

    policy: str
    """Checkpoint folder, hub name (ORG/NAME or hf:ORG/NAME), "embedded" (the bundled starting policy of the
    environment's domain), "openai:MODEL@URL" for any compatible endpoint, or "script:NAME" for a demonstrator of a
    real environment (`script:oracle`, ...); "script:random" plays in any environment."""
    env_id: str = "Real-WebShop-v0"
    """Gymnasium id, dream or real; `module:Id-v0` imports the module first."""
    split: Split = "held_out"
    """Which tasks."""
    episodes: int = 128
    """Episodes in all: the first so many tasks, each once, or several times where there are fewer tasks; >= 1."""
    temperature: float = 0.4
    """Sampling temperature, >= 0; 0 is greedy."""
    temperatures: tuple[float, ...] = ()
    """Several temperatures side by side, each >= 0, in place of `temperature`: `0 0.4` is greedy and sampled."""
    max_tokens: int = 512
    """Longest response, in tokens."""
    context_tokens: int = 4608
    """Longest sequence that the policy reads, in tokens."""
    history: int | None = None
    """What the policy sees: None for its whole conversation, k >= 0 for the last k steps (see `dreamgym grpo`)."""
    num_envs: int = 32
    """Environments played at once, their responses sampled in one batch."""
    device: str = "auto"
    """"auto" (a GPU where there is one), "cpu", "cuda", ..."""
    settings: tuple[str, ...] = ()
    """Further keywords of `gym.make`, as `name=value` (`data_dir=shop`)."""
    output: str | None = None
    """JSON file for the result; printed in any case, with a table beside it on the error stream."""
    trajectories: str | None = None
    """JSON-lines file for the episodes themselves."""
    seed: int = 0
    """Seed of which tasks are drawn and of the policy's draws."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"`episodes` must be >= 1, got {self.episodes}")
        if self.history is not None and (self.history < 0 or self.policy.startswith(("script:", "openai:"))):
            raise ValueError(f"`history` must be None, or >= 0 for a policy that is a checkpoint, got {self.history}")
        if self.num_envs < 1:
            raise ValueError(f"`num_envs` must be >= 1, got {self.num_envs}")
        for name, values in (("temperature", (self.temperature,)), ("temperatures", self.temperatures)):
            if any(value < 0 for value in values):
                raise ValueError(f"`{name}` must be >= 0, got {getattr(self, name)}")
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError(f"`temperatures` must be different ones, got {self.temperatures}")
        if self.temperatures and self.policy.startswith("script:"):
            raise ValueError(f"`temperatures` must be () for a script, which samples nothing, got {self.temperatures}")

    @property
    def played_temperatures(self) -> tuple[float | None, ...]:
        """One evaluation each; None for a script."""
        if self.policy.startswith("script:"):
            return (None,)
        return self.temperatures or (self.temperature,)


def summarise(
    rollouts: Sequence[Rollout], env_id: str, source: str, task_type: Callable[[Task], str] | None = None
) -> Evaluation:
    """The figures of some episodes."""
    reasons = Counter(rollout.trajectory.end_reason for rollout in rollouts)
    counted = [rollout for rollout in rollouts if not rollout.trajectory.broken]
    n, successes = len(counted), reasons["success"]
    low, high = wilson_interval(successes, n)
    actions = sum(len(rollout.turns) for rollout in rollouts)
    invalid = sum(rollout.invalid_actions for rollout in rollouts)
    impossible = sum(rollout.impossible_actions for rollout in rollouts)
    return Evaluation(
        env_id=env_id,
        source=source,
        n=n,
        successes=successes,
        success_rate=successes / n if n else 0.0,
        low=low,
        high=high,
        mean_reward=_mean([rollout.reward for rollout in counted]),
        mean_steps=_mean([len(rollout.turns) for rollout in counted]),
        mean_response_tokens=_mean_if_known([rollout.counted_tokens for rollout in counted]),
        steps=actions,
        invalid_actions=invalid,
        impossible_actions=impossible,
        cut_responses=sum(rollout.cut_responses for rollout in rollouts),
        context_overflows=sum(rollout.context_overflow for rollout in rollouts),
        invalid_rate=invalid / actions if actions else 0.0,
        impossible_rate=impossible / actions if actions else 0.0,
        end_reasons=dict(sorted(reasons.items())),
        by_type=_by_type(counted, task_type) if task_type else {},
    )


def _by_type(rollouts: Sequence[Rollout], task_type: Callable[[Task], str]) -> dict[str, dict[str, float]]:
    ends: dict[str, list[bool]] = {}
    for rollout in rollouts:
        ends.setdefault(task_type(rollout.trajectory.task), []).append(rollout.trajectory.success)
    found = {}
    for name, successes in sorted(ends.items()):
        low, high = wilson_interval(sum(successes), len(successes))
        found[name] = {"n": len(successes), "successes": sum(successes), "low": low, "high": high}
    return found


def choose_episodes(tasks: Sequence[Task], episodes: int, spread: bool = False) -> list[Task]:
    """The first `episodes` tasks, or with `spread` as many from all of them. Where there are fewer tasks each comes
    several times, one after the other, so that what a model reads of a task it reads once for all of them."""
    step = max(1.0, len(tasks) / episodes) if spread else 1.0
    return [tasks[place] for place in sorted(int(index * step) % len(tasks) for index in range(episodes))]


def evaluate(
    collector: Collector, env_id: str, tasks: Sequence[Task], seed: int, progress: Progress | None = None
) -> tuple[Evaluation, list[Rollout]]:
    """Plays each task once with its own seed, whatever was drawn before; the figures and the episodes."""
    collector.model.seed(seed)
    collector.model.forget()
    collector.pool.seed(seed)
    rollouts = [group[0] for group in collect(collector, tasks, progress=progress)]
    return summarise(rollouts, env_id, collector.pool.source), rollouts


Player = Callable[[float, Sequence[Task], Progress | None], list[Rollout]]
"""Plays one episode of each task at a temperature."""


def player(config: EvaluateConfig, pool: EnvPool) -> Player:
    """The config's policy, of whatever kind it is, loaded once."""
    kind, _, name = config.policy.partition(":")

    def told(policy: str, temperature: float) -> str:
        return f"{policy}-{temperature:g}" if len(config.temperatures) > 1 else policy

    if kind == "script":
        return lambda _, tasks, progress: play_script(name, pool, tasks, config.seed, progress)
    if kind == "openai":
        from dreamgym_env.language_model import load_language_model

        endpoint = load_language_model(config.policy)

        def ask(temperature: float, tasks: Sequence[Task], progress: Progress | None) -> list[Rollout]:
            pool.seed(config.seed)
            agent = ChatAgent(
                endpoint, pool.domain.agent_instruction, Sampling(temperature, max_tokens=config.max_tokens)
            )
            return play_texts(pool, tasks, agent, told(name.partition("@")[0], temperature), progress)

        return ask
    from dreamgym_env.language_model import TransformersModel

    path = starting_policy(pool.domain) if config.policy == "embedded" else config.policy
    model = TransformersModel.load(path, device=config.device)

    def sample(temperature: float, tasks: Sequence[Task], progress: Progress | None) -> list[Rollout]:
        sampling = Sampling(temperature, max_tokens=config.max_tokens)
        policy = told(Path(config.policy.removeprefix("hf:")).name, temperature)
        collector = Collector(model, pool, sampling, config.context_tokens, policy, config.history)
        return evaluate(collector, config.env_id, tasks, config.seed, progress)[1]

    return sample


def run_all(config: EvaluateConfig) -> list[Evaluation]:
    """Loads what the config names, evaluates at each temperature on the same tasks, writes the files asked for.

    Raises:
        DataError: a file asked for cannot be written; told before anything is played where that can be known.
    """
    from .evaluate_table import decoding

    check_writable(config.output, config.trajectories)
    settings: dict[str, Any] = {"split": config.split, **read_settings(config.settings)}
    pool = open_pool(config.env_id, min(config.num_envs, config.episodes), **settings)
    tasks = choose_episodes(pool.tasks, config.episodes)
    if any(task.split == "train" for task in tasks):
        warnings.warn("these are training tasks: their success says little about others", stacklevel=2)
    results, rollouts = list[Evaluation](), list[Rollout]()
    try:
        play = player(config, pool)
        with ProgressBar(transient=True) as bar:
            for temperature in config.played_temperatures:
                line = bar.add_task(f"evaluating {decoding(temperature)}", total=len(tasks))
                found = play(temperature or 0.0, tasks, partial(_advance, bar, line))
                result = summarise(found, config.env_id, pool.source, getattr(pool.domain, "task_type", None))
                results.append(replace(result, temperature=temperature))
                rollouts += found
                _save(config, results, rollouts)
    finally:
        pool.close()
    return results


def _save(config: EvaluateConfig, results: Sequence[Evaluation], rollouts: Sequence[Rollout]) -> None:
    """Writes the files asked for, after each temperature: an interrupted evaluation keeps those that were done."""
    figures = as_record(results)
    try:
        if config.output:
            write_json(config.output, {"config": asdict(config), **figures})
        if config.trajectories:
            with writing(Path(config.trajectories), kept=None):
                write_trajectories(config.trajectories, (rollout.trajectory for rollout in rollouts))
    except DataError as error:
        raise DataError(f"{error}; the figures so far: {json.dumps(figures)}") from error


def _advance(bar: Any, line: Any, done: int, total: int) -> None:
    bar.update(line, completed=done)


def run(config: EvaluateConfig) -> Evaluation:
    """As `run_all`, where there is one temperature.

    Raises:
        ValueError: there are several.
    """
    if len(config.temperatures) > 1:
        raise ValueError(f"`temperatures` must be at most one for a single evaluation, got {config.temperatures}")
    return run_all(config)[0]


def as_record(results: Sequence[Evaluation]) -> dict[str, Any]:
    """The figures as JSON values: those of the evaluation, or under `evaluations` those of several."""
    return asdict(results[0]) if len(results) == 1 else {"evaluations": [asdict(result) for result in results]}


def report(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluates, shows a table on the error stream and gives the figures, as the command prints them."""
    from .evaluate_table import tables

    results = run_all(config)
    for shown in tables(config.policy, results):
        Console(stderr=True).print(shown)
    return as_record(results)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _mean_if_known(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if len(known) == len(values) else None


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; `--help` lists every setting."""
    import tyro

    print(json.dumps(report(tyro.cli(EvaluateConfig, args=arguments, description=__doc__)), indent=1))


if __name__ == "__main__":
    main()
