"""`dreamgym bench`: speed as ratios, all from one run on one machine; nothing here passes or fails.

Native WebShop against the original's figures (measured elsewhere); a batched dream with kept prefixes against one
`generate` call per step that reads everything again; the share of a dream step spent outside the language model; the
tokens of a policy update against one sample per step. Run: `dreamgym bench --output runs/bench.json`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

from dreamgym_env.experience_model import ExperienceModel
from dreamgym_env.loading import load_experience_model, starting_policy
from dreamgym_env.types import Completion, Conversation, Demonstration, Sampling, StepContext, Task

from .audit import AuditConfig, roll_reader
from .demo_views import quieten
from .disk import check_writable, write_json
from .evaluate import choose_episodes
from .pools import EnvPool, StepResult, open_pool
from .rollout import Collector, collect

ORIGINAL_STEPS_PER_SECOND = {"text": (38.0, 38.0), "text_rich": (71.0, 83.0), "state": (66.0, 83.0)}
"""The original WebShop on 1,000 products and two cores, slowest and fastest run; measured elsewhere, not by this
command. It has no `state` mode: its `html` (66) and best `text_rich` (83) stand in."""


@dataclass(frozen=True)
class BenchConfig:
    """Settings of `dreamgym bench`."""

    seconds: float = 5.0
    """For each measurement, about, > 0."""
    num_envs: int = 32
    """Dreams stepped together in the batched form, >= 2."""
    episodes: int = 32
    """Episodes whose tokens are counted, >= 1."""
    experience_model: str = "embedded"
    """A local checkpoint: "embedded" or a folder."""
    replay_buffer: str | None = "embedded"
    """As `replay_buffer` of `gym.make`; "none" for a dream without demonstrations."""
    policy: str = "embedded"
    """Policy whose episodes are counted: "embedded" or a checkpoint."""
    env_id: str = "DreamGym-WebShop-v0"
    """The dream whose speed is measured."""
    real_env: str = "Real-WebShop-v0"
    """The real environment whose speed is measured, and in which the episodes are played whose tokens are counted."""
    output: Path | None = None
    """JSON file for the figures."""
    seed: int = 0
    """Seed of the walks, the dreams and the episodes whose tokens are counted."""
    threads: int | None = None
    """CPU threads; None leaves torch's choice."""

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise ValueError(f"`seconds` must be > 0, got {self.seconds}")
        if self.num_envs < 2:
            raise ValueError(f"`num_envs` must be >= 2, got {self.num_envs}")
        if self.episodes < 1:
            raise ValueError(f"`episodes` must be >= 1, got {self.episodes}")


@dataclass(frozen=True)
class Figure:
    """One line of the table: `value` in `unit`, what it is held against, and how many times as good it is.

    `ratio` is None where there is nothing to compare; `target` says what was aimed at, "" where nothing was.
    """

    name: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None
    target: str = ""


class TimedModel:
    """A language model that adds up the seconds spent in `complete`, encoding and decoding of texts included."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.seconds = inner, 0.0

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        started = time.perf_counter()
        completions: list[Completion] = self.inner.complete(conversations, sampling)
        self.seconds += time.perf_counter() - started
        return completions

    def seed(self, seed: int) -> None:
        self.inner.seed(seed)

    def forget(self) -> None:
        self.inner.forget()


class TimedBuffer:
    """A replay buffer that adds up the seconds spent in `retrieve`."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.seconds = inner, 0.0

    def retrieve(self, contexts: Sequence[StepContext], k: int) -> list[list[Demonstration]]:
        started = time.perf_counter()
        shown: list[list[Demonstration]] = self.inner.retrieve(contexts, k)
        self.seconds += time.perf_counter() - started
        return shown


class TimedPool:
    """An `EnvPool` that adds up the seconds spent in `step`; the agent's own time is not counted."""

    def __init__(self, inner: EnvPool) -> None:
        self.inner, self.seconds = inner, 0.0
        self.size, self.source, self.domain = inner.size, inner.source, inner.domain
        self.tasks, self.horizon = inner.tasks, inner.horizon

    def seed(self, seed: int) -> None:
        self.inner.seed(seed)

    def reset(self, indices: Sequence[int], tasks: Sequence[Task]) -> list[tuple[str, dict[str, Any]]]:
        return self.inner.reset(indices, tasks)

    def step(self, indices: Sequence[int], actions: Sequence[str]) -> list[StepResult]:
        started = time.perf_counter()
        results = self.inner.step(indices, actions)
        self.seconds += time.perf_counter() - started
        return results

    def close(self) -> None:
        self.inner.close()


@dataclass(frozen=True)
class DreamSpeed:
    """One way to dream: transitions that the model predicted, and where the seconds of their steps went."""

    transitions: int
    seconds: float
    model_seconds: float
    retrieval_seconds: float

    @property
    def per_second(self) -> float:
        return self.transitions / self.seconds if self.seconds else 0.0

    @property
    def outside(self) -> float:
        """Share of the time spent outside the language model, in [0, 1]."""
        return 1 - self.model_seconds / self.seconds if self.seconds else 0.0


def webshop_speed(config: BenchConfig, mode: str) -> float:
    """Steps per second of the real environment under a random walk that searches for words of the task.

    The seconds are CPU seconds of this process (the engine uses one thread), so that a busy machine does not blur them.
    """
    env: Any = gym.make(config.real_env, split="all", observation_mode=mode, disable_env_checker=True)
    rng, steps = random.Random(config.seed), 0
    _, info = env.reset(seed=config.seed)
    started = time.process_time()
    while (elapsed := time.process_time() - started) < config.seconds or not steps:
        action = rng.choice(info["available_actions"])
        if action.startswith("search"):
            words = info["instruction"].split()
            action = f"search[{' '.join(rng.sample(words, min(4, len(words))))}]"
        *_, info = env.step(action)
        steps += 1
        if info["end_reason"] is not None:
            _, info = env.reset()
    return steps / elapsed


def load_seconds(config: BenchConfig) -> float:
    """CPU seconds to the first search result in a fresh process: files, goals and index; imports are not counted."""
    code = (
        "import time, gymnasium, dreamgym_env.wrappers.webshop.env, bm25s; started = time.process_time()\n"
        f"env = gymnasium.make({config.real_env!r}, split='all'); env.reset(seed=0); env.step('search[lamp]')\n"
        "print(time.process_time() - started)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(found.stdout.split()[-1])


def dream_speed(config: BenchConfig, model: ExperienceModel, language_model: Any, num_envs: int) -> DreamSpeed:
    """Rolls the scripted reader in `num_envs` dreams at once, round after round, the first one untimed."""
    timed = TimedModel(language_model)
    buffer = TimedBuffer(model.replay_buffer) if model.replay_buffer else None
    experience = ExperienceModel(timed, model.domain, buffer, model.config)
    pool = TimedPool(open_pool(config.env_id, num_envs, experience_model=experience, split="train"))
    pool.seed(config.seed)
    script = AuditConfig(real_env=config.real_env, seed=config.seed)
    rng = random.Random(config.seed)
    roll_reader(0.1, pool, rng.choices(pool.tasks, k=num_envs), script)
    experience.counts.clear()
    timed.seconds = pool.seconds = 0.0
    if buffer:
        buffer.seconds = 0.0
    while pool.seconds < config.seconds:
        roll_reader(0.1, pool, rng.choices(pool.tasks, k=num_envs), script)
    return DreamSpeed(experience.counts["steps"], pool.seconds, timed.seconds, buffer.seconds if buffer else 0.0)


def token_ratio(config: BenchConfig) -> tuple[float, float]:
    """(tokens per episode, how many times that is as one sample per step with its whole history), real episodes."""
    from dreamgym_env.language_model import TransformersModel

    pool = open_pool(config.real_env, min(config.num_envs, config.episodes), split="train")
    path = starting_policy(pool.domain) if config.policy == "embedded" else config.policy
    model = TransformersModel.load(path)
    model.seed(config.seed)
    pool.seed(config.seed)
    collector = Collector(model, pool, Sampling(max_tokens=48), min(4608, model.max_context))
    groups = collect(collector, choose_episodes(pool.tasks, config.episodes))
    tokens = sum(len(group[0].token_ids) for group in groups)
    per_step = sum(group[0].per_step_tokens for group in groups)
    return tokens / len(groups), per_step / tokens


def figures(config: BenchConfig) -> list[Figure]:
    """Everything, in the table's order."""
    return [*webshop_figures(config), *dream_figures(config), token_figure(config)]


def webshop_figures(config: BenchConfig) -> list[Figure]:
    """The real environment by observation mode."""
    found = []
    for mode, (slowest, fastest) in ORIGINAL_STEPS_PER_SECOND.items():
        speed = webshop_speed(config, mode)
        original = f"{slowest:.0f} to {fastest:.0f}" if slowest < fastest else f"{fastest:.0f}"
        against = f"original {original}, measured elsewhere"
        found.append(Figure(f"native WebShop, {mode}", speed, "steps/s", against, speed / fastest, ">= 20"))
    return [*found, Figure("native WebShop, load and index", load_seconds(config), "s", target="< 1")]


def dream_figures(config: BenchConfig) -> list[Figure]:
    """Four ways to dream, and what a batched step spends outside the language model.

    Raises:
        ValueError: the experience model is not a local checkpoint.
    """
    from dreamgym_env.language_model import TransformersModel

    buffer = None if config.replay_buffer in (None, "none") else config.replay_buffer
    model = load_experience_model("webshop", config.experience_model, buffer)
    kept = model.language_model
    if not isinstance(kept, TransformersModel):
        raise ValueError(f"`experience_model` must be a local checkpoint, got {config.experience_model!r}")
    reread = TransformersModel(kept.model, kept.tokenizer, keep_prefix=False)
    base = dream_speed(config, model, reread, 1)
    many = f"{config.num_envs} dreams"
    found = [Figure("dream, one by one, all re-read by `generate`", base.per_second, "transitions/s")]
    for name, language_model, size in (
        (f"dream, {many}, all re-read", reread, config.num_envs),
        ("dream, one by one, prefixes kept", kept, 1),
        (f"dream, {many}, prefixes kept", kept, config.num_envs),
    ):
        speed = dream_speed(config, model, language_model, size)
        ratio = speed.per_second / base.per_second if base.per_second else None
        target = ">= 5" if language_model is kept and size > 1 else ""
        found.append(Figure(name, speed.per_second, "transitions/s", "the first of these", ratio, target))
    retrieval = speed.retrieval_seconds / speed.seconds
    found.append(Figure("share of that step outside the language model", 100 * speed.outside, "%", target="<= 10"))
    return [*found, Figure("share of that step in retrieval", 100 * retrieval, "%")]


def token_figure(config: BenchConfig) -> Figure:
    """Tokens of a policy update."""
    tokens, ratio = token_ratio(config)
    name, against = "policy update, tokens per episode", "one sample per step, whole history"
    return Figure(name, tokens, "tokens", against, ratio, ">= 3")


def main(config: BenchConfig) -> dict[str, Any]:
    """Measures, prints a table, and returns the figures as data."""
    check_writable(config.output)
    quieten()
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    found = figures(config)
    show(found)
    record = {
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "figures": [asdict(figure) for figure in found],
    }
    if config.output:
        write_json(config.output, record)
    return record


def show(found: Sequence[Figure]) -> None:
    """Prints the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "figure", "compared with", "times", "target")
    for figure in found:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.1f}"
        value = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:.1f}"
        table.add_row(figure.name, f"{value} {figure.unit}", figure.against, ratio, figure.target)
    Console().print(table)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(BenchConfig, description=__doc__))
