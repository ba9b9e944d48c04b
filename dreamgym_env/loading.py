"""Plain values to objects: what `gym.make(id, experience_model="embedded", ...)` means."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from dreamgym_env.domain import Assets, Domain, load_domain
from dreamgym_env.experience_model import ExperienceConfig, ExperienceModel, Retriever
from dreamgym_env.trajectories import read_trajectories
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


def starting_policy(domain: Domain) -> str:
    """The policy that "embedded" means: that of the domain's own file, or the bundled one.

    Raises:
        ValueError: a world file that names none.
    """
    policy = assets_of(domain).policy
    if policy is None:
        raise ValueError(f"`policy` must be given: the world file of {domain.name!r} has no key `policy`")
    return policy


def embedded_trajectories_path(domain: str) -> Path:
    """The offline trajectories that the embedded replay buffer is seeded from."""
    return ASSETS / domain / "trajectories.jsonl.gz"


def assets_of(domain: Domain | str) -> Assets:
    """What belongs to a domain: what its own file names (`domain.assets`), or what is bundled under its name."""
    own = getattr(domain, "assets", None)
    if isinstance(own, Assets):
        return own
    name = domain if isinstance(domain, str) else domain.name
    return Assets(
        ASSETS / name / "tasks.jsonl.gz",
        embedded_trajectories_path(name),
        str(embedded_model_path(name)),
        str(embedded_policy_path(name)),
    )


@lru_cache(maxsize=8)
def load_tasks(path: Path | str, domain: str = "") -> tuple[Task, ...]:
    """Tasks from a JSON-lines file (`.gz` by name), one object a line with the fields of `Task`.

    `domain` is that of lines that name none.

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
                if line.strip():
                    tasks.append(Task(**({"domain": domain} if domain else {}) | json.loads(line)))
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}, line {number}: not a task ({error})") from error
    return tuple(tasks)


def choose_tasks(
    tasks: Sequence[Task] | Path | str | None, domain: Domain | str, split: Split | None
) -> tuple[Task, ...]:
    """The tasks given, or the seed tasks of the domain; of one split where `split` is not None."""
    name = domain if isinstance(domain, str) else domain.name
    source = seed_tasks(domain) if tasks is None else tasks
    found = load_tasks(source, name) if isinstance(source, str | Path) else tuple(source)
    chosen = tuple(task for task in found if split is None or task.split == split)
    if not chosen:
        raise ValueError(f"`tasks` must hold at least one task of split {split!r}, got {len(found)} tasks, none of it")
    return chosen


def seed_tasks(domain: Domain | str) -> Sequence[Task] | Path:
    """The domain's file of seed tasks, or, where it has none, the tasks of its trajectories, each once.

    Raises:
        ValueError: it has neither.
    """
    assets = assets_of(domain)
    if assets.tasks is not None:
        return assets.tasks
    if assets.trajectories is None:
        name = domain if isinstance(domain, str) else domain.name
        raise ValueError(f"`tasks` must be given: the world {name!r} has neither tasks.jsonl nor trajectories.jsonl")
    return tuple({one.task.task_id: one.task for one in read_trajectories(assets.trajectories)}.values())


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
        path = _own_model(world) if experience_model == "embedded" else experience_model
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


def _own_model(domain: Domain) -> str:
    model = assets_of(domain).experience_model
    if model is None:
        raise ValueError(
            f"`experience_model` must be given: the world file of {domain.name!r} has no key `model`; a checkpoint "
            "folder of `dreamgym train-experience`, 'hf:org/name' or 'openai:MODEL@URL'"
        )
    if model == str(embedded_model_path(domain.name)) and not Path(model).is_dir():
        raise ValueError(
            f"no experience model is bundled for {domain.name}; give `experience_model` a checkpoint folder or "
            "'openai:MODEL@URL'"
        )
    return model


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
    return _seeded(load_domain(domain))


@lru_cache(maxsize=2)
def _own_buffer(domain: Domain) -> Retriever:
    return _seeded(domain)


def _seeded(domain: Domain) -> Retriever:
    from dreamgym_env.progress import ProgressBar
    from dreamgym_env.replay_buffer import ReplayBuffer

    trajectories = assets_of(domain).trajectories
    if trajectories is None or not trajectories.exists():
        raise ValueError(
            f"`replay_buffer` must be given: the world {domain.name!r} has no trajectories.jsonl to fill one from; "
            "None goes without (with `top_k=0`)"
        )
    buffer = ReplayBuffer("memory", domain=domain)
    episodes = list(read_trajectories(trajectories))
    with ProgressBar(transient=True) as bar:
        buffer.add(bar.track(episodes, description=f"filling the replay buffer of {domain.name}"), held_out="skip")
    return buffer


def forget_grown_buffers() -> None:
    """The next dream gets the embedded replay buffer as it is bundled, without the dreams that others have added."""
    _embedded_buffer.cache_clear()
    _own_buffer.cache_clear()


def _buffer(uri: str, domain: Domain) -> Retriever:
    if uri == "embedded":
        own = hasattr(domain, "assets")
        return _own_buffer(domain) if own else _embedded_buffer(domain.name)  # type: ignore[arg-type]
    from dreamgym_env.replay_buffer import ReplayBuffer

    return ReplayBuffer(uri, domain=domain)
