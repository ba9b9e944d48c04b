"""Plain values to objects: what `gym.make(id, experience_model="embedded", ...)` means."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.experience_model import ExperienceConfig, ExperienceModel, Retriever
from dreamgym_env.types import DataError, LanguageModel, Split, Task

ASSETS = Path(__file__).parent / "assets"
SETTINGS_FILE = "dreamgym.json"
"""Beside a checkpoint: the `ExperienceConfig` values that it was trained for, and what made it."""


def embedded_model_path(domain: str) -> Path:
    """The checkpoint folder of the embedded experience model of a bundled domain."""
    return ASSETS / domain / "experience_model"


def embedded_policy_path(domain: str) -> Path:
    """The checkpoint folder of the bundled starting policy of a bundled domain."""
    return ASSETS / domain / "policy"


def embedded_trajectories_path(domain: str) -> Path:
    """The offline trajectories that the embedded replay buffer is seeded from."""
    return ASSETS / domain / "trajectories.jsonl.gz"


@lru_cache(maxsize=8)
def load_tasks(path: Path | str) -> tuple[Task, ...]:
    """Tasks from a JSON-lines file (`.gz` by name), one object a line with the fields of `Task`.

    Raises:
        DataError: the file is missing or a line is not a task; names file and line.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"no task file at {path}; give `tasks=` a list of Task or the path of a JSON-lines file")
    opener = gzip.open if path.suffix == ".gz" else open
    tasks = []
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                tasks.append(Task(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}, line {number}: not a task ({error})") from error
    return tuple(tasks)


def choose_tasks(tasks: Sequence[Task] | Path | str | None, domain: str, split: Split | None) -> tuple[Task, ...]:
    """The tasks given, or the bundled seed tasks of the domain; of one split where `split` is not None."""
    source = ASSETS / domain / "tasks.jsonl.gz" if tasks is None else tasks
    found = load_tasks(source) if isinstance(source, str | Path) else tuple(source)
    chosen = tuple(task for task in found if split is None or task.split == split)
    if not chosen:
        raise ValueError(f"`tasks` must hold at least one task of split {split!r}, got {len(found)} tasks, none of it")
    return chosen


def load_experience_model(
    domain: Domain | str = "webshop",
    experience_model: ExperienceModel | LanguageModel | str = "embedded",
    replay_buffer: Retriever | str | None = "embedded",
    **settings: Any,
) -> ExperienceModel:
    """An `ExperienceModel` from plain values.

    Args:
        experience_model: "embedded", a checkpoint folder, "hf:org/name", "openai:MODEL@URL", or an object.
        replay_buffer: "embedded" (the bundled trajectories, in memory), a folder, "http://host:port", None, an object.
        settings: fields of `ExperienceConfig`; they win over those saved beside the checkpoint.

    Raises:
        ValueError: a value is none of these, or a setting is unknown.
    """
    if isinstance(experience_model, ExperienceModel):
        return experience_model.with_config(**settings) if settings else experience_model
    world = load_domain(domain) if isinstance(domain, str) else domain
    card: dict[str, Any] = {}
    if isinstance(experience_model, str):
        path = str(embedded_model_path(world.name)) if experience_model == "embedded" else experience_model
        if experience_model == "embedded" and not Path(path).is_dir():
            raise ValueError(
                f"no experience model is bundled for {world.name}; give `experience_model` a checkpoint folder or "
                "'openai:MODEL@URL'"
            )
        card = read_card(Path(path))
        experience_model = _language_model(path)
    unknown = set(settings) - set(ExperienceConfig.__dataclass_fields__)
    if unknown:
        known = sorted(ExperienceConfig.__dataclass_fields__)
        raise ValueError(f"unknown settings {sorted(unknown)}; an experience model takes {known}")
    config = ExperienceConfig(**{**card.get("experience", {}), **settings})
    if config.top_k == 0:
        replay_buffer = None
    buffer = _buffer(replay_buffer, world) if isinstance(replay_buffer, str) else replay_buffer
    return ExperienceModel(experience_model, world, buffer, config, card)


def read_card(folder: Path) -> dict[str, Any]:
    """The card beside a checkpoint (`dreamgym.json`): its settings, how it was made, its reports; {} without one."""
    file = folder / SETTINGS_FILE
    if not file.exists():
        return {}
    card: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return card


@lru_cache(maxsize=2)
def _language_model(spec: str) -> LanguageModel:
    from dreamgym_env.language_model import load_language_model

    return load_language_model(spec)


@lru_cache(maxsize=2)
def _embedded_buffer(domain: str) -> Retriever:
    from dreamgym_env.replay_buffer import ReplayBuffer

    buffer = ReplayBuffer("memory", domain=load_domain(domain))
    buffer.seed_from(embedded_trajectories_path(domain))
    return buffer


def _buffer(uri: str, domain: Domain) -> Retriever:
    if uri == "embedded":
        return _embedded_buffer(domain.name)
    from dreamgym_env.replay_buffer import ReplayBuffer

    return ReplayBuffer(uri, domain=domain)
