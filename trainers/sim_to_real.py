"""`dreamgym sim-to-real`: GRPO in the dream, then GRPO for real under a hard budget of real interactions (Section 4.3).

Both worlds speak the same state text, so the policy of the first phase is the start of the second. Each phase is a GRPO
run of its own (`OUTPUT/dream`, `OUTPUT/real`), with checkpoints, metrics and evaluation in both worlds; `--resume` goes
on wherever it stopped. Run: `python -m dreamgym_env.trainers.sim_to_real --real-budget 1400 --output runs/sim-to-real`.

`--dream-updates 0` is real-only RL from the same start, to hold it against: `--compare runs/real-only` draws both over
the real interactions used (`OUTPUT/success.png`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .grpo_config import PRESETS, GRPOConfig
from .plot import Mark, PlotConfig, Run, draw, grouped, read_run, read_runs


@dataclass(frozen=True)
class SimToRealConfig:
    """Settings of `dreamgym sim-to-real`; what is not here is the preset's."""

    preset: str = "small"
    """The GRPO preset of both phases."""
    policy: str = "embedded"
    """Starting policy: "embedded", a checkpoint folder or a hub name (ORG/NAME or hf:ORG/NAME)."""
    dream_env: str = "DreamGym-WebShop-v0"
    """Gymnasium id of the dream."""
    dream_settings: tuple[str, ...] = ()
    """Keywords of `gym.make` for the dream, as name=value, over those of the preset."""
    real_env: str = "Real-WebShop-v0"
    """Gymnasium id of the real environment, which speaks the same state text."""
    real_settings: tuple[str, ...] = ()
    """Keywords of `gym.make` for the real environment, as name=value, over the preset's `horizon`, where it has one."""
    dream_updates: int = 12
    """Rounds in the dream, >= 0; 0 starts for real at once, which is real-only RL."""
    real_budget: int = 1400
    """Interactions with the real environment that learning may use, >= 0; the second phase ends when they are spent."""
    real_tasks_per_update: int = 8
    """Most groups of a real round, >= 1: smaller rounds than in the dream make more of few interactions. The budget is
    spread evenly over the rounds that it lasts for."""
    real_share: float = 1.0
    """Share of real groups in a round of the second phase, in (0, 1]; below 1 dreamed groups come on top of the real
    ones."""
    compare: tuple[str, ...] = ()
    """Folders of earlier runs of this command, drawn beside this one; NAME=FOLDER gives one a name, and runs of one
    name are seeds of one curve."""
    eval_every: int = 4
    """Updates between evaluations, >= 1; also before the first and after the last of each phase."""
    eval_episodes: int = 300
    """Held-out episodes per evaluation and environment."""
    output: Path = Path("runs/sim-to-real")
    """Folder for the runs of both phases, `sim_to_real.json` and `success.png`."""
    resume: bool = False
    """Goes on where an earlier run in `output` stopped."""
    seed: int = 0
    """Seed of both phases."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"`preset` must be one of {sorted(PRESETS)}, got {self.preset!r}")
        for name, least in (("dream_updates", 0), ("real_budget", 0), ("real_tasks_per_update", 1), ("eval_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be >= {least}, got {getattr(self, name)}")
        if not 0 < self.real_share <= 1:
            raise ValueError(f"`real_share` must be in (0, 1], got {self.real_share}")


def phases(config: SimToRealConfig) -> tuple[GRPOConfig | None, GRPOConfig]:
    """The settings of the dream phase (None without one) and of the real one."""
    preset = PRESETS[config.preset][1]
    dream_settings = (*preset.settings, *config.dream_settings)
    real_settings = (*preset.horizon_setting, *config.real_settings)
    shared = replace(
        preset,
        eval_every=config.eval_every,
        eval_episodes=config.eval_episodes,
        resume=config.resume,
        seed=config.seed,
    )
    dream = replace(
        shared,
        policy=config.policy,
        env_id=config.dream_env,
        settings=dream_settings,
        eval_envs=(config.real_env,),
        eval_settings=real_settings,
        updates=max(1, config.dream_updates),
        output=str(config.output / "dream"),
    )
    real = replace(
        dream if config.real_share < 1 else shared,
        policy=str(config.output / "dream" / "policy") if config.dream_updates else config.policy,
        updates=max(1, config.real_budget),  # a round takes at least one interaction: the budget ends the run
        tasks_per_update=round(config.real_tasks_per_update / config.real_share),
        real_budget=config.real_budget,
        output=str(config.output / "real"),
    )
    if config.real_share < 1:
        real = replace(real, real_env=config.real_env, real_settings=real_settings, real_share=config.real_share)
    else:
        real = replace(
            real,
            env_id=config.real_env,
            settings=real_settings,
            eval_envs=(config.dream_env,),
            eval_settings=dream_settings,
        )
    return (dream if config.dream_updates else None), real


def main(config: SimToRealConfig) -> dict[str, Any]:
    """Both phases; success before, between and after, and what it cost, also in `OUTPUT/sim_to_real.json`. Of several
    processes (`accelerate launch`) the main one writes.

    Raises:
        DataError: a folder of `compare` holds no run; nothing is trained then.
    """
    from accelerate import PartialState

    from .grpo import train

    others = compared(config)
    dream, real = phases(config)
    if dream is not None and not (config.resume and (config.output / "dream" / "policy").exists()):
        train(dream)
    train(real)
    report = {"config": json.loads(json.dumps(asdict(config), default=str)), **summary(config)}
    if PartialState().is_main_process:
        (config.output / "sim_to_real.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        own = read_runs(PlotConfig((f"{config.output.name}={config.output / 'real'}",), envs=(config.real_env,)))
        draw(grouped([*own, *others]), "real-steps", config.output / "success.png")
    return report


def compared(config: SimToRealConfig) -> list[Run]:
    """The real phases of the runs to compare with."""
    named = [text.rpartition("=") for text in config.compare]
    runs = tuple(f"{name or Path(folder).name}={Path(folder) / 'real'}" for name, _, folder in named)
    return read_runs(PlotConfig(runs, envs=(config.real_env,)))


def summary(config: SimToRealConfig) -> dict[str, Any]:
    """Real success (rate, 95% interval, n) at the start, after the dream and after the real phase; steps used."""

    def told(mark: Mark) -> dict[str, float]:
        return {"success": mark.rate, "low": mark.low, "high": mark.high, "n": mark.n}

    real = read_run(config.output / "real")
    marks = real.curves[config.real_env]
    found = {"start": told(marks[0])}
    if config.dream_updates:
        start = read_run(config.output / "dream").curves[config.real_env][0]
        found = {"start": told(start), "after the dream": told(marks[0])}
    found["after the real phase"] = told(marks[-1])
    return {"real success": found, "real interactions used": real.real_steps}


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(SimToRealConfig, description=__doc__)), indent=2))
