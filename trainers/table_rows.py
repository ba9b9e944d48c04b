"""The rows of both tables: what each does, as jobs that the other commands know, one after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dreamgym_env.domain import load_domain
from dreamgym_env.loading import read_card, starting_policy
from dreamgym_env.types import Source

from .collect import CollectConfig
from .grpo_config import PRESETS as GRPO_PRESETS
from .grpo_config import GRPOConfig
from .offline import OfflineConfig
from .ppo_config import PRESETS as PPO_PRESETS
from .ppo_config import PPOConfig
from .run_config import RunConfig
from .sft import SFTConfig
from .table_config import Algorithm, Table1Config, Table2Config, TableConfig

DATA_FILE = "trajectories.jsonl"
WHOLE_TOKENS = 16384
"""Tokens that a whole conversation may have where the preset shows the agent windows of it, and bounds only these."""
TITLES = {
    "start": "starting policy",
    "sft": "SFT on N real transitions",
    "dpo": "DPO on N real transitions",
    "grpo-real": "GRPO, N real transitions",
    "ppo-real": "PPO, N real transitions",
    "grpo-dream": "GRPO in the dream",
    "ppo-dream": "PPO in the dream",
    "grpo-sim-to-real": "GRPO, sim-to-real",
    "ppo-sim-to-real": "PPO, sim-to-real",
    "no-replay": "without replay buffer",
    "no-reasoning": "without reasoning traces",
    "no-task-generation": "without task generation",
}
"""What a row is called in the table."""


@dataclass(frozen=True)
class Stage:
    """One job on the way to a row's policy. Rows that share a stage (one `folder`) do it once."""

    folder: Path
    job: str
    """"offline", "collect", "sft", "dpo", "grpo" or "ppo"."""
    config: Any
    """The job's config; it writes into `folder`."""
    source: Source
    """Where its environment steps, if it takes any, are taken."""

    @property
    def policy(self) -> Path:
        """The policy that a learning job leaves."""
        return self.folder / "policy"


def stages_of(config: TableConfig, row: str, seed: int) -> list[Stage]:
    """What has to be done for a row, in order; the last one leaves its policy. Nothing for the starting policy.

    Raises:
        ValueError: the row needs a setting that is missing or wrong.
    """
    if row == "start":
        return []
    if row in ("sft", "dpo"):
        assert isinstance(config, Table1Config)
        data = offline_stage(config, seed)
        return [data, (sft_stage if row == "sft" else dpo_stage)(config, seed, data.folder / DATA_FILE)]
    algorithm, _, way = row.partition("-")
    if algorithm in ("grpo", "ppo"):
        kind: Algorithm = "grpo" if algorithm == "grpo" else "ppo"
        dream = dream_stage(config, kind, row_folder(config, f"{kind}-dream", seed), seed)
        if way == "dream":
            return [dream]
        assert isinstance(config, Table1Config)
        folder = row_folder(config, row, seed)
        if way == "real":
            groups, budget = config.tasks_per_update, config.real_transitions
            return [real_stage(config, kind, folder, seed, config.policy, groups, budget)]
        groups, budget = config.real_tasks_per_update, config.sim_to_real_budget
        return [dream, real_stage(config, kind, folder, seed, str(dream.policy), groups, budget, after=dream)]
    assert isinstance(config, Table2Config)
    return [ablated_stage(config, row, row_folder(config, row, seed), seed)]


def row_folder(config: TableConfig, row: str, seed: int) -> Path:
    """Where a cell's files are."""
    return config.folder / row / f"seed-{seed}"


def offline_stage(config: Table1Config, seed: int) -> Stage:
    """The real episodes that SFT and DPO learn from."""
    folder, rl = row_folder(config, "offline-data", seed), preset_of(config, "grpo")
    if config.demonstrators:
        collect = CollectConfig(
            env=config.place.real,
            out=folder / DATA_FILE,
            episodes=config.real_transitions,  # more than fit: the transitions are the bound
            transitions=config.real_transitions,
            policies=config.demonstrators,
            settings=config.all_real_settings,
            annotate=False,
            resume=True,
            seed=seed,
        )
        return Stage(folder, "collect", collect, "real")
    offline = OfflineConfig(
        output=str(folder),
        env_id=config.place.real,
        settings=real_settings(config, rl),
        policy=config.policy,
        transitions=config.real_transitions,
        tasks=config.tasks_per_update,
        group_size=config.group_size,
        temperature=rl.temperature,
        max_tokens=rl.max_tokens,
        context_tokens=rl.context_tokens,
        history=rl.history,
        device=rl.device,
        seed=seed,
    )
    return Stage(folder, "offline", offline, "real")


def sft_stage(config: Table1Config, seed: int, data: Path) -> Stage:
    """SFT of the starting policy on the episodes that succeeded."""
    folder, rl = row_folder(config, "sft", seed), preset_of(config, "grpo")
    sft = SFTConfig(
        **offline_settings(config, folder, seed, data),
        history=rl.history,
        max_tokens=rl.context_tokens,
        epochs=config.sft_epochs,
        learning_rate=config.sft_learning_rate,
        save_every=50,
    )
    return Stage(folder, "sft", sft, "real")


def dpo_stage(config: Table1Config, seed: int, data: Path) -> Stage:
    """DPO of the starting policy on pairs of a success and a failure at one task: whole conversations, since the
    windows of two episodes are no pairs."""
    from .dpo import DPOConfig

    folder = row_folder(config, "dpo", seed)
    dpo = DPOConfig(
        **offline_settings(config, folder, seed, data),
        max_tokens=whole_context(preset_of(config, "grpo")),
        epochs=config.dpo_epochs,
        learning_rate=config.dpo_learning_rate,
    )
    return Stage(folder, "dpo", dpo, "real")


def offline_settings(config: Table1Config, folder: Path, seed: int, data: Path) -> dict[str, Any]:
    """What SFT and DPO have alike: the same start, episodes and device."""
    rl = preset_of(config, "grpo")
    return {
        "model": start_of(config),
        "trajectories": (str(data),),
        "output": str(folder / "policy"),
        "device": rl.device,
        "resume": True,
        "seed": seed,
    }


def whole_context(rl: RunConfig) -> int:
    """Tokens of the longest whole conversation, also where the preset shows windows of it."""
    return rl.context_tokens if rl.history is None else max(rl.context_tokens, WHOLE_TOKENS)


def dream_stage(
    config: TableConfig, algorithm: Algorithm, folder: Path, seed: int, ablation: tuple[str, ...] = (), **changes: Any
) -> Stage:
    """RL in the dream, without a real step; `ablation`: further keywords of `gym.make`."""
    settings = {
        "policy": config.policy,
        "env_id": config.place.dream,
        "settings": (*preset_of(config, algorithm).settings, *config.dream_settings, *ablation),
        "updates": config.dream_updates,
        "lam": config.lam,
        "variations": config.variations,
        "grow_buffer": config.grow_buffer,
    }
    rl = learner(config, algorithm, config.tasks_per_update, folder, seed, **{**settings, **changes})
    return Stage(folder, algorithm, rl, "dream")


def real_stage(
    config: TableConfig,
    algorithm: Algorithm,
    folder: Path,
    seed: int,
    policy: str,
    groups: int,
    budget: int,
    after: Stage | None = None,
) -> Stage:
    """RL in the real environment, which refuses every step beyond the budget; `after` a phase in the dream."""
    settings = {
        "policy": policy,
        "env_id": config.place.real,
        "settings": real_settings(config, preset_of(config, algorithm)),
        "updates": max(1, budget),  # a round takes at least one step: the budget ends the run
        "real_budget": budget,
    }
    if after is not None and algorithm == "ppo":
        settings["critic_weights"] = str(after.folder / "critic.safetensors")
    return Stage(folder, algorithm, learner(config, algorithm, groups, folder, seed, **settings), "real")


def learner(
    config: TableConfig, algorithm: Algorithm, groups: int, folder: Path, seed: int, **changes: Any
) -> RunConfig:
    """The preset with the table's sizes; evaluation comes when all is done, the same for all rows."""
    shared: dict[str, Any] = {
        "output": str(folder),
        "eval_every": 0,
        "save_every": 1,
        "keep_last": 1,
        "resume": True,
        "seed": seed,
    }
    rl = preset_of(config, algorithm)
    if isinstance(rl, GRPOConfig):
        return replace(rl, tasks_per_update=groups, group_size=config.group_size, **shared, **changes)
    return replace(rl, tasks_per_update=groups * config.group_size, group_size=1, **shared, **changes)


def preset_of(config: TableConfig, algorithm: Algorithm) -> GRPOConfig | PPOConfig:
    """What the preset says to the algorithm."""
    return (GRPO_PRESETS if algorithm == "grpo" else PPO_PRESETS)[config.rl_preset][1]


def real_settings(config: TableConfig, rl: RunConfig) -> tuple[str, ...]:
    """Keywords of `gym.make` for real episodes to learn from: cut off after as many steps as the preset's dreams."""
    return (*rl.horizon_setting, *config.all_real_settings)


def ablated_stage(config: Table2Config, row: str, folder: Path, seed: int) -> Stage:
    """RL in a dream that lacks one part."""
    changes: dict[str, Callable[[], dict[str, Any]]] = {
        "no-replay": lambda: {"ablation": ("top_k=0",), "grow_buffer": False},
        "no-reasoning": lambda: {"ablation": (f"experience_model={model_without_traces(config)}",)},
        "no-task-generation": lambda: {"lam": 0.0},
    }
    return dream_stage(config, config.algorithm, folder, seed, **changes[row]())


def model_without_traces(config: Table2Config) -> str:
    """The experience model of the row no-reasoning.

    Raises:
        ValueError: none is given, or its card says that it learned from reasoning traces.
    """
    model = config.no_reasoning_model
    remedy = (
        "an experience model trained without reasoning traces (`dreamgym train-experience --trace-share 0 ...`) where "
        "the row no-reasoning is to be filled"
    )
    if model is None:
        others = " ".join(row for row in config.all_rows if row != "no-reasoning")
        raise ValueError(f"`no_reasoning_model` must be {remedy}, got none; or leave that row out: --rows {others}")
    if share := read_card(Path(model)).get("config", {}).get("trace_share", 0.0):
        raise ValueError(f"`no_reasoning_model` must be {remedy}, got {model} with a trace share of {share}")
    return model


def start_of(config: TableConfig) -> str:
    """What every row starts from, as a checkpoint folder or a hub name."""
    return starting_policy(load_domain(config.place.domain)) if config.policy == "embedded" else config.policy
