"""`dreamgym fit-vocabulary`: gives a small base model the words of a world, before experience model and policy part.

Run: `python -m dreamgym_env.trainers.vocabulary --base runs/base --data runs/train.jsonl --out runs/webshop-base`. A
pretrained LLM needs none of this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checkpoint import save_policy_into
from .corpus import corpora_of
from .experience import load_model, read_training_data
from .experience_config import ExperienceTrainingConfig, Names
from .scratch import SmallConfig


@dataclass(frozen=True)
class VocabularyConfig:
    """Settings of `dreamgym fit-vocabulary`."""

    data: tuple[Path, ...]
    """Trajectory files of the world."""
    base: str | None = None
    """Small checkpoint of `dreamgym train-base`; None makes a random one of the sizes in `model`."""
    out: Path = Path("runs/world-base")
    """Folder of the checkpoint."""
    domain: tuple[str, ...] = ("webshop",)
    """The world, or several for one model of them all."""
    phrases: int = 0
    """Most joins of words that occur together into one token, >= 0; for worlds whose texts are templates."""
    plain_forms: bool = False
    """Whether each capitalised word has a token for its form without the capital too (`Comment`, `comment`), where
    tasks speak of what pages show with a capital. SFT's `label_share` exchanges both."""
    names: Names = "rare"
    """With "copied", a word that agents copy from tasks is no part of a longer token, so that trainings with the same
    `names` can exchange it."""
    seed: int = 0
    """Seed of the weights that are not taken over from `base`."""
    model: SmallConfig = field(default_factory=SmallConfig)


def main(config: VocabularyConfig) -> dict[str, Any]:
    """Fits, grafts, saves; returns the size of the vocabulary and how many pieces came from where."""
    import torch

    torch.manual_seed(config.seed)
    settings = ExperienceTrainingConfig(
        data=config.data,
        base=config.base,
        domain=config.domain,
        phrases=config.phrases,
        plain_forms=config.plain_forms,
        names=config.names,
        seed=config.seed,
        model=config.model,
    )
    model, tokenizer, ways = load_model(settings, corpora_of(settings, read_training_data(settings)))
    save_policy_into(config.out, model, tokenizer, kept=None)
    return {"out": str(config.out), "vocabulary": len(tokenizer), "graft": ways}


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(VocabularyConfig, description=__doc__)), indent=2))
