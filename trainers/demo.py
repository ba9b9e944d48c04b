"""`dreamgym demo`: from the bundled policy to one that is better in the real world, trained in the dream alone.

Shows a dreamed episode and what the dream's audit found, evaluates the starting policy on held-out tasks in the dream
and for real, trains it with GRPO in the dream until the time is up, evaluates again, and writes an HTML report. The
real environment is used for evaluation only. Run: `dreamgym demo` (WebShop), `dreamgym demo --world alfworld`
or `dreamgym demo --world web` (MiniWoB++ in a real browser).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from dreamgym_env.loading import assets_of, read_card
from dreamgym_env.types import DataError, Sampling, Task, Trajectory

from .agent import Rollout
from .audit import AuditConfig, audit_policy
from .demo_views import Views, audit_rows, choose_episodes_to_tell, quieten, versions
from .evaluate import Evaluation
from .pools import open_pool, read_settings
from .report import Report, render
from .report_curve import Point
from .trust import passes
from .worlds import WORLDS, DemoSizes, World, WorldName

if TYPE_CHECKING:
    from .grpo_config import GRPOConfig
    from .run import Run

SPARE_SECONDS = 12.0
"""Kept for the report and for what takes longer than it did before."""


@dataclass(frozen=True)
class DemoConfig:
    """Settings of `dreamgym demo`. The defaults fit two CPU cores; None is the world's own (`worlds.py`)."""

    out: Path = Path("runs/demo")
    """Folder for the report, the figures and the trained policy."""
    minutes: float | None = None
    """Time for everything, > 0; training takes what the rest leaves, at least one update."""
    policy: str = "embedded"
    """Starting policy: "embedded" (the bundled one), a checkpoint folder or a hub name (ORG/NAME or
    hf:ORG/NAME)."""
    experience_model: str = "embedded"
    """As `experience_model` of `gym.make`: "embedded", a checkpoint, "openai:MODEL@URL"."""
    replay_buffer: str | None = "embedded"
    """As `replay_buffer` of `gym.make`; "none" for a dream without demonstrations."""
    world: WorldName = "webshop"
    """Which bundled world."""
    episodes: int | None = None
    """Held-out tasks of the first and the last evaluation for real, >= 1."""
    dream_episodes: int | None = None
    """At most so many of them are also evaluated in the dream, which takes longer, >= 1."""
    curve_episodes: int | None = None
    """Held-out tasks of the evaluations in between, >= 1."""
    curve_every: int | None = None
    """Updates between evaluations, >= 1."""
    audit_episodes: int = 40
    """Dreamed episodes of an audit where the experience model's card has none, >= 1."""
    max_updates: int = 60
    """Most updates, >= 1."""
    tasks_per_update: int | None = None
    """Groups in each update, >= 1."""
    group_size: int = 8
    """Episodes of each task, >= 2."""
    learning_rate: float | None = None
    """AdamW's rate; None is that of the world's preset (`dreamgym grpo laptop/...`)."""
    temperature: float = 0.4
    """Sampling temperature of evaluations; training samples warmer."""
    max_tokens: int = 48
    """Longest response of the policy, in tokens."""
    seed: int = 0
    """Seed of tasks, episodes and training."""
    threads: int | None = None
    """CPU threads; None leaves torch's choice."""

    @property
    def place(self) -> World:
        """Dream and real environment."""
        return WORLDS[self.world]

    @property
    def sizes(self) -> DemoSizes:
        """The world's sizes, and over them what is given here."""
        given = {one.name: getattr(self, one.name) for one in fields(DemoSizes)}
        return replace(self.place.demo, **{name: value for name, value in given.items() if value is not None})

    def __post_init__(self) -> None:
        if self.sizes.minutes <= 0:
            raise ValueError(f"`minutes` must be > 0, got {self.minutes}")
        counts = {one.name: getattr(self.sizes, one.name) for one in fields(DemoSizes) if one.name != "minutes"}
        for name in ("audit_episodes", "max_updates"):
            counts[name] = getattr(self, name)
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"`{name}` must be >= 1, got {count}")


@dataclass
class Clock:
    """The time of the run and what its parts have taken, in seconds."""

    minutes: float
    started: float
    evaluation: float = 0.0
    """The first evaluation; the last one takes longer, as the policy's episodes get longer."""
    update: float = 0.0
    """The slowest update so far."""

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def room(self, evaluations: int) -> bool:
        """Whether so many evaluations and another update fit in before the last evaluation has to begin."""
        needed = self.update + (evaluations + 1.6) * self.evaluation + SPARE_SECONDS
        return self.elapsed() + needed < 60 * self.minutes


@dataclass(frozen=True)
class Played:
    """One evaluation: the figures and the dreamed episodes."""

    point: Point
    dreamed: Sequence[Rollout]


def check_assets(config: DemoConfig) -> None:
    """Fails early where a bundled checkpoint is missing.

    Raises:
        DataError: says which, and what can be given instead.
    """
    for name in ("policy", "experience_model"):
        folder = Path(getattr(assets_of(config.place.domain), name))
        if getattr(config, name) == "embedded" and not (folder / "config.json").exists():
            raise DataError(
                f"`{name}` must be a checkpoint where none is bundled: {folder} holds no config.json; reinstall the "
                f"package, or train one (`dreamgym train-experience`, `dreamgym sft`) and give it as --"
                f"{name.replace('_', '-')} FOLDER"
            )


def grpo_config(config: DemoConfig) -> GRPOConfig:
    """The demo's settings as GRPO's: the world's laptop preset, in the dream, evaluated in dream and reality."""
    from .grpo_config import PRESETS

    preset = PRESETS[f"laptop/{config.place.domain}"][1]
    return replace(
        preset,
        policy=config.policy,
        env_id=config.place.dream,
        output=str(config.out),
        settings=dream_settings(config),
        eval_envs=(config.place.real,),
        eval_settings=config.place.real_settings,
        updates=config.max_updates,
        tasks_per_update=config.sizes.tasks_per_update,
        group_size=config.group_size,
        learning_rate=preset.learning_rate if config.learning_rate is None else config.learning_rate,
        # as many optimizer steps as the preset makes in rounds of its own size
        mini_batch=math.ceil(preset.mini_batch * config.sizes.tasks_per_update / preset.tasks_per_update),
        max_tokens=config.max_tokens,
        eval_every=config.sizes.curve_every,
        eval_episodes=config.sizes.episodes,
        eval_temperature=config.temperature,
        seed=config.seed,
    )


def dream_settings(config: DemoConfig) -> tuple[str, ...]:
    """What `gym.make` is told of the dream, as name=value."""
    buffer = None if config.replay_buffer in (None, "none") else config.replay_buffer
    values = {"experience_model": config.experience_model, "replay_buffer": buffer}
    return tuple(f"{name}={json.dumps(value)}" for name, value in values.items())


def evaluate(run: Run[GRPOConfig], episodes: int, in_dream: int) -> Played:
    """Success on the first held-out tasks: `episodes` real, at most `in_dream` dreamed, the same seeds each time."""
    from .rounds import evaluate_pool

    found, dreamed = dict[str, Evaluation](), list[Rollout]()
    with run.as_delivered():
        for env_id, pool in run.eval_pools.items():
            size = min(episodes, in_dream) if pool.source == "dream" else episodes
            found[pool.source], rollouts = evaluate_pool(run, env_id, size, run.config.seed)
            if pool.source == "dream":
                dreamed = rollouts
    return Played(Point(run.update, found["dream"], found["real"]), dreamed)


def dream_one(run: Run[GRPOConfig], tries: int = 8) -> Trajectory:
    """A dreamed episode of the starting policy on a training task: of a few, one that succeeds, else one that ends."""
    from .rounds import play

    tasks: Sequence[Task] = run.pool.tasks[:tries]
    sampling = Sampling(temperature=run.config.eval_temperature, max_tokens=run.config.max_tokens)
    episodes = [group[0].trajectory for group in play(run, run.pool, tasks, 1, sampling, run.config.seed)]
    best = ("success", "failure", "time_limit", "context_overflow", "model_error")
    return min(episodes, key=lambda one: best.index(one.end_reason))


def audited(config: DemoConfig, run: Run[GRPOConfig]) -> tuple[str, dict[str, Any]]:
    """Where the audit comes from, and what `dreamgym audit` found for one policy, as data."""
    model = config.experience_model
    card = read_card(Path(str(assets_of(config.place.domain).experience_model) if model == "embedded" else model))
    reports = [report["policies"] for report in card.get("reports", {}).values() if "policies" in report]
    if reports:
        named = {found["policy"]: found for found in reports[0]}
        found = named.get(config.policy, reports[0][0])
        return f"From dreamgym audit of {found['policy']}, as the experience model's card tells it.", found
    audit = AuditConfig(
        (config.policy,), episodes=config.audit_episodes, max_tokens=config.max_tokens, seed=config.seed
    )
    settings: dict[str, Any] = {"split": "train", **read_settings(config.place.real_settings)}
    real = open_pool(config.place.real, min(run.pool.size, config.audit_episodes), **settings)
    replayed = gym.make(config.place.real, disable_env_checker=True, **settings)
    result, _ = audit_policy(audit, config.policy, run.pool, real, replayed)
    source = f"Audited just now: {config.audit_episodes} episodes of the starting policy."
    return source, {**asdict(result), "passes": passes(result)}


def train(run: Run[GRPOConfig], config: DemoConfig, clock: Clock, views: Views) -> list[Point]:
    """GRPO in the dream until the time is up; the evaluations in between, none after the last update."""
    from .grpo import learn_from
    from .logs import MetricsLog
    from .loop import train_once

    points, sizes = list[Point](), config.sizes
    with MetricsLog(run.folder) as log, views.training() as tell:
        while run.update < config.max_updates:
            due = run.update > 0 and run.update % sizes.curve_every == 0
            if run.update > 0 and not clock.room(due):
                break
            if due:
                points.append(evaluate(run, sizes.curve_episodes, sizes.dream_episodes).point)
            begun = time.monotonic()
            metrics = train_once(run, learn_from, None, run.config.tasks_per_update)
            log.write(run.update, metrics)
            clock.update = max(clock.update, time.monotonic() - begun)
            tell(run.update, metrics, points[-1] if points else None, clock.elapsed())
    return points


def main(config: DemoConfig) -> None:
    """The whole demo; writes `report.html`, `demo.json`, `metrics.jsonl` and `policy/` into `config.out`."""
    check_assets(config)
    sizes = config.sizes
    clock = Clock(sizes.minutes, time.monotonic())
    views = Views(sizes.minutes)
    views.stage(f"Loading the experience model, the starting policy and the real {config.place.title}")
    quieten()
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    from .checkpoint import save_final_policy
    from .run import prepare

    run = prepare(grpo_config(config))
    views.stage("One dreamed episode of the starting policy: nothing here but a language model")
    views.episode(dream_one(run))
    views.stage("Can this dream be trusted? Its audit")
    source, audit = audited(config, run)
    views.audit(source, audit)
    views.stage(f"The starting policy on {sizes.episodes} held-out tasks, dreamed and real")
    begun = time.monotonic()
    before = evaluate(run, sizes.episodes, sizes.dream_episodes)
    clock.evaluation = time.monotonic() - begun
    views.evaluation(before.point)
    views.stage(f"GRPO in the dream, without a single step in the real {config.place.title}")
    points = train(run, config, clock, views)
    views.stage("The trained policy on the same tasks")
    after = evaluate(run, sizes.episodes, sizes.dream_episodes)
    with run.as_delivered():
        save_final_policy(config.out / "policy", run.model.model, run.model.tokenizer, kept=None)
    points = [before.point, *points, after.point]
    told = choose_episodes_to_tell(before.dreamed, after.dreamed, config.place)
    report = make_report(config, run, clock, points, (source, audit_rows(audit)), told)
    page = write(config, run, report, clock)
    views.result(report, page)
    run.close()


def make_report(
    config: DemoConfig,
    run: Run[GRPOConfig],
    clock: Clock,
    points: Sequence[Point],
    audit: tuple[str, Any],
    told: Sequence[Any],
) -> Report:
    """The report's content."""
    minutes = clock.elapsed() / 60
    return Report(
        title=f"Trained in a dream, tested in the real {config.place.title}",
        lead=(
            f"{run.update} GRPO updates of {run.config.tasks_per_update} tasks x {config.group_size} dreamed episodes. "
            f"The real environment was used to evaluate ({run.real_steps['eval']:,} steps) and audit, never to learn."
        ),
        points=points,
        audit_source=audit[0],
        audit=audit[1],
        episodes=told,
        facts={
            "real interactions used by the RL": f"{run.real_steps['train']:,}",
            "minutes in all": f"{minutes:.1f}",
        },
        settings={"demo": asdict(config), "grpo": asdict(run.config)},
        versions=versions(),
    )


def write(config: DemoConfig, run: Run[GRPOConfig], report: Report, clock: Clock) -> Path:
    """Writes `report.html` and `demo.json`; the page's path."""
    record = {
        "points": [asdict(point) for point in report.points],
        "real_steps": run.real_steps,
        "updates": run.update,
        "seconds": clock.elapsed(),
        "settings": report.settings,
        "versions": dict(report.versions),
    }
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "demo.json").write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")
    page = config.out / "report.html"
    page.write_text(render(report), encoding="utf-8")
    return page


if __name__ == "__main__":
    import tyro

    main(tyro.cli(DemoConfig, description=__doc__))
