"""`dreamgym publish`: turns a trained checkpoint into a bundled asset: half-size weights, its reports, and a card.

Run: `python -m dreamgym_env.trainers.publish --model runs/experience --out dreamgym_env/assets/webshop/experience_model
--reports runs/measure.json runs/audit.json --commands "dreamgym collect ..." "dreamgym train-experience ..."`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dreamgym_env.loading import SETTINGS_FILE

from .checkpoint import save_policy_into
from .pools import read_settings


@dataclass(frozen=True)
class PublishConfig:
    """Settings of `dreamgym publish`."""

    model: Path
    """Trained checkpoint."""
    out: Path
    """Folder of the asset; files of the same name are replaced."""
    title: str = "A small model"
    """First line of the card."""
    commands: tuple[str, ...] = ()
    """The commands that made it, in order."""
    reports: tuple[Path, ...] = ()
    """JSON files of `measure`, `audit` or `evaluate`, kept in the card by their file names."""
    settings: tuple[str, ...] = ()
    """How the dream of an experience model asks it by default, as name=value (fields of `ExperienceConfig`)."""
    licence: str = "Apache-2.0"
    """The licence that the card states."""
    dtype: str = "bfloat16"
    """Type of the stored weights: "bfloat16", "float16" or "float32"."""


def main(config: PublishConfig) -> dict[str, Any]:
    """Writes the asset; returns its size in bytes and parameters."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(config.model, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(config.model)
    card = _card(config, sum(parameter.numel() for parameter in model.parameters()))
    files = {SETTINGS_FILE: json.dumps(card, indent=1) + "\n", "README.md": card_text(config.title, card)}
    save_policy_into(config.out, model.to(getattr(torch, config.dtype)), tokenizer, files, kept=None)
    return {"bytes": sum(file.stat().st_size for file in config.out.iterdir()), "parameters": card["parameters"]}


def _card(config: PublishConfig, parameters: int) -> dict[str, Any]:
    """What the training left beside the checkpoint, with reports, commands and versions."""
    made = config.model / SETTINGS_FILE
    card: dict[str, Any] = json.loads(made.read_text(encoding="utf-8")) if made.exists() else {}
    card["parameters"] = parameters
    if config.settings:
        card["experience"] = {**card.get("experience", {}), **read_settings(config.settings)}
    card["commands"] = list(config.commands)
    card["licence"] = config.licence
    card["versions"] = {name: version(name) for name in ("torch", "transformers", "dreamgym-env")}
    card["reports"] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in config.reports}
    bare: dict[str, Any] = without_folders(card)
    return bare


def without_folders(value: Any) -> Any:
    """The value with every absolute path in it cut to its last part: a card travels, this machine's folders do not.

    A setting such as `experience_model=/home/me/runs/experience` keeps its name.
    """
    if isinstance(value, Mapping):
        return {name: without_folders(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(one) for one in value]
    if isinstance(value, str):
        return re.sub(r"(?<![\w.:/])/(?:[\w.+-]+/)+([\w.+-]+)", r"\1", value)
    return value


def card_text(title: str, card: Mapping[str, Any]) -> str:
    """The card for people, in Markdown."""
    lines = [f"# {title}", "", f"{card['parameters']:,} parameters, licence {card['licence']}.", ""]
    lines += ["Trained from scratch by this project on data that it generates itself; no third-party text.", ""]
    if card["commands"]:
        lines += ["Made by:", "", "```", *card["commands"], "```", ""]
    lines += ["Versions: " + ", ".join(f"{name} {number}" for name, number in card["versions"].items()), ""]
    for name, report in card["reports"].items():
        lines += [f"## {name}", "", "| figure | value |", "|---|---|", *figures(report), ""]
    return "\n".join(lines)


def figures(report: Mapping[str, Any], prefix: str = "") -> Sequence[str]:
    """Table rows of every number and share in a report; lists of policies are told apart by name."""
    rows: list[str] = []
    for name, value in report.items():
        label = f"{prefix}{name}".replace("_", " ")
        if name == "config":
            continue
        if isinstance(value, Mapping) and set(value) == {"count", "n"}:
            share = f"{value['count'] / value['n']:.3f}" if value["n"] else "-"
            rows.append(f"| {label} | {share} ({value['count']} of {value['n']}) |")
        elif isinstance(value, Mapping):
            rows += figures(value, f"{label}: ")
        elif isinstance(value, list):
            for item in value:
                rows += figures(item, f"{item.get('policy', label)}: ") if isinstance(item, Mapping) else []
        elif isinstance(value, bool | int | float | str):
            rows.append(f"| {label} | {value} |")
    return rows


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(PublishConfig, description=__doc__)), indent=2))
