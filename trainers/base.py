"""`dreamgym train-base`: pretrains a small base model on micro-worlds, the start of experience models and policies.

Run: `python -m dreamgym_env.trainers.base --out runs/base --million-tokens 10`. Each chat is drawn fresh; the tokenizer
is fitted to the names that worlds are made of. Held-out measures: exact answers by family on worlds of largest size.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .microworlds import FAMILIES, Names, draw_chat
from .progress import show_progress
from .scratch import END, SmallConfig, build_model, build_tokenizer, fit_vocabulary
from .supervised import Example, SupervisedConfig, Trainer, answer_spans, batches, collate, encode_chat
from .supply import RandomSupply


@dataclass(frozen=True)
class BaseConfig:
    """Settings of `dreamgym train-base`."""

    out: Path = Path("runs/base")
    """Folder of the checkpoint."""
    million_tokens: float = 10.0
    """Training tokens, padding included, in millions."""
    max_minutes: float | None = None
    """Stops earlier, with the learning rate decayed by then."""
    held_out: int = 60
    """Worlds of each family to measure on."""
    resume: bool = False
    """Goes on from the newest checkpoint in `out`/checkpoints, if there is one."""
    seed: int = 0
    """Seed of the first weights, the invented names and the micro-worlds."""
    threads: int | None = None
    """CPU threads; None leaves torch's choice."""
    model: SmallConfig = field(default_factory=SmallConfig)
    training: SupervisedConfig = field(default_factory=lambda: SupervisedConfig(learning_rate=2e-3))

    def __post_init__(self) -> None:
        if self.million_tokens <= 0:
            raise ValueError(f"`million_tokens` must be > 0, got {self.million_tokens}")


def main(config: BaseConfig) -> dict[str, float]:
    """Trains, saves and returns the held-out measures (share of exact answers by family)."""
    import torch

    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    names = Names.from_seed(config.seed)
    rng = random.Random(config.seed + 1)
    corpus = (END.join(message["content"] for message in draw_chat(rng, names, 1.0)) for _ in range(6000))
    tokenizer = build_tokenizer(fit_vocabulary(corpus))
    trainer = Trainer(build_model(config.model, tokenizer), tokenizer, config.training)
    max_tokens = int(config.million_tokens * 1e6)

    def pool(tokens: int) -> list[Example]:
        level = min(1.0, 2.0 * tokens / max_tokens)
        return [encode_chat(tokenizer, draw_chat(rng, names, level)) for _ in range(200)]

    if config.resume:
        trainer.resume(config.out / "checkpoints")
    shown = trainer.processes.is_main
    with show_progress("micro-worlds", config.out / "metrics.jsonl", trainer.steps, shown) as on_log:
        seconds = config.max_minutes and config.max_minutes * 60
        trainer.run(RandomSupply(pool, rng), max_tokens, seconds, on_log, config.out / "checkpoints")
    measures = measure(trainer, names, config)
    card = {"kind": "base", "config": json.loads(json.dumps(asdict(config), default=str)), "measures": measures}
    trainer.save(config.out, card)
    return measures


def measure(trainer: Trainer, names: Names, config: BaseConfig) -> dict[str, float]:
    """Share of assistant turns whose every token is the argmax given what came before, by family."""
    rng = random.Random(987_654_321)
    found: dict[str, float] = {}
    for family in FAMILIES:
        examples = [
            encode_chat(trainer.tokenizer, draw_chat(rng, names, 1.0, [family])) for _ in range(config.held_out)
        ]
        hits: Counter[bool] = Counter(exact_answers(trainer.model, trainer.tokenizer, examples))
        found[family] = hits[True] / max(1, hits.total())
    return found


def predictions(
    model: Any, tokenizer: Any, examples: Sequence[Example], batch_tokens: int = 8192
) -> Iterator[tuple[Example, np.ndarray]]:
    """Each example with the argmax token at every position given the true tokens before it, int64 [T].

    Position 0 is never predicted and holds -1.
    """
    import torch

    model.eval()
    for indices in batches(examples, batch_tokens, random.Random(0)):
        rows = [examples[index] for index in indices]
        ids_BT, _ = collate(rows, tokenizer.pad_token_id)
        with torch.no_grad():
            best_BT = model(input_ids=ids_BT.to(model.device), use_cache=False).logits.argmax(-1).cpu().numpy()
        for number, row in enumerate(rows):
            yield row, np.concatenate(([-1], best_BT[number, : len(row) - 1]))


def exact_answers(model: Any, tokenizer: Any, examples: Sequence[Example]) -> Iterator[bool]:
    """For every assistant turn whether all its tokens are predicted, teacher-forced."""
    for example, best in predictions(model, tokenizer, examples):
        for start, end in answer_spans(example.weights):
            yield bool((best[start:end] == example.ids[start:end]).all())


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(BaseConfig, description=__doc__)), indent=2))
