"""`dreamgym train-experience`: fine-tunes the experience model on annotated offline trajectories (Eq. 5).

    L = E[ -log p(R* | s, a, H, D_k) - log p(s' | s, a, R*, H, D_k) ]          (Eq. 5, arXiv:2511.03773)

Trace, next state and outcome are one answer, so both terms are one token sum; history H, demonstrations D_k and
recalled lines are context and carry no loss. A whole trajectory is one sequence. From a base checkpoint (a small one of
`dreamgym train-base`, whose vocabulary is exchanged for one fitted to the corpus, or any pretrained causal LM, fully or
by LoRA) or from scratch. Run: `python -m dreamgym_env.trainers.experience --data runs/train.jsonl --base runs/base`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import Trajectory

from .adapters import with_adapters
from .agent import state_message, write_response
from .checkpoint import check_start
from .corpus import Corpus, corpora_of
from .corpus_supply import open_supply
from .experience_config import ExperienceTrainingConfig
from .names import copied_words, exchange_classes, read_in, said_in
from .processes import join
from .progress import show_progress
from .scratch import END, build_model, build_tokenizer, deepened, fit_vocabulary, graft, widened
from .supervised import Example, Trainer, answer_spans, encode_chat


def load_model(config: ExperienceTrainingConfig, corpora: Sequence[Corpus]) -> tuple[Any, Any, dict[str, int]]:
    """The model to train, its tokenizer, and how many pieces a graft moved each way.

    Its weights are float32 whatever they are stored in: what bfloat16 rounds away, small steps never learn.

    Raises:
        ModelError: `base` cannot be loaded.
    """
    from dreamgym_env.checkpoints import load_checkpoint

    if config.vocabulary == "keep":
        if config.base is None:
            raise ValueError("`vocabulary='keep'` needs `base`, a pretrained checkpoint")
        model, tokenizer = load_checkpoint(config.base, "float32", "cpu")
        _lengthen(model, config.longest)
        model = widened(model, config.widen) if config.widen else model
        model = deepened(model, config.deepen) if config.deepen else model
        return (with_adapters(model, config.lora_rank) if config.lora_rank else model), tokenizer, {}
    known_names = [copied_words(one.trajectories) for one in corpora if config.names == "copied"]
    names = frozenset[str]().union(*known_names)
    texts = texts_of(corpora)
    fitted = build_tokenizer(fit_vocabulary(texts, phrases=config.phrases, plain_forms=config.plain_forms, names=names))
    if config.base is None:
        return build_model(config.model, fitted), fitted, {}
    model, known = load_checkpoint(config.base, "float32", "cpu")
    ways = graft(model, known, fitted, config.seed)
    return model, fitted, ways


def _lengthen(model: Any, longest: int) -> None:
    """A model that tells places by rotation reads as many tokens as it is trained on, whatever its base was."""
    text = model.config.get_text_config()
    if getattr(text, "rope_parameters", None):
        text.max_position_embeddings = max(text.max_position_embeddings, longest)


def texts_of(corpora: Sequence[Corpus]) -> Iterator[str]:
    """Up to 3,000 conversations of each world as text, with the agent's and M_task's instructions and what agents
    said, so that one vocabulary serves the policy too."""
    for corpus in corpora:
        extra = [corpus.domain.agent_instruction, corpus.domain.task_instruction]
        for chat in corpus.draw(min(3000, 3 * len(corpus.trajectories))):
            yield END.join([*(message["content"] for message in chat), *extra])
        for trajectory in corpus.trajectories[:3000]:
            said = [write_response(step.action, step.thought) for step in trajectory.transitions]
            yield END.join([state_message(""), *said])


def names_of(
    config: ExperienceTrainingConfig, tokenizer: Any, sample: Sequence[Example], trajectories: Sequence[Trajectory]
) -> list[list[tuple[int, ...]]]:
    """The names to exchange, by these examples and what agents said; "copied" ones by those that succeeded."""
    some = trajectories if config.names == "rare" else [one for one in trajectories if one.success]
    instructions = [one.task.instruction for one in some]
    said, read = [said_in(one) for one in some], [read_in(one) for one in some]
    return exchange_classes(tokenizer, sample, instructions, said, read, config.names)


def longest_answer(examples: Sequence[Example]) -> int:
    """Tokens of the longest answer in the examples."""
    return max((end - start for one in examples for start, end in answer_spans(one.weights)), default=0)


def check_lengths(examples: Sequence[Example], longest: int) -> int:
    """How many of the examples are longer than `longest` tokens and so never learned; a warning says it.

    Raises:
        ValueError: all of them.
    """
    long = [len(one) for one in examples if len(one) > longest]
    if len(long) == len(examples):
        raise ValueError(f"`longest` must be above {min(long)} tokens, the shortest episode, got {longest}")
    if long:
        told = f"{len(long)} of {len(examples)} episodes are longer than `longest` = {longest} tokens and left out"
        warnings.warn(f"{told}; the longest has {max(long)}", stacklevel=3)
    return len(long)


def read_training_data(config: ExperienceTrainingConfig) -> list[Trajectory]:
    """Trajectories of training tasks that did not break.

    Raises:
        ValueError: none is left.
    """
    found = [trajectory for path in config.data for trajectory in read_trajectories(path)]
    kept = [t for t in found if t.task.split == "train" and t.transitions and not t.broken]
    if not kept:
        raise ValueError(
            f"`data` must hold trajectories of training tasks, got {len(found)} in {config.data}, none usable"
        )
    return kept


def main(config: ExperienceTrainingConfig) -> dict[str, Any]:
    """Trains and saves; returns what is written to the card."""
    import torch

    check_start(config.out, config.resume)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    trajectories = read_training_data(config)
    corpora = corpora_of(config, trajectories)
    model, tokenizer, ways = load_model(config, corpora)
    drawn = min(400, len(trajectories)) // len(corpora)
    sample = [encode_chat(tokenizer, chat) for corpus in corpora for chat in corpus.draw(drawn)]
    too_long = check_lengths(sample, config.longest)
    classes = names_of(config, tokenizer, sample, trajectories) if config.permute_share else []
    trainer = Trainer(model, tokenizer, config.training)
    checkpoints = config.out / "checkpoints"
    if config.resume:
        trainer.resume(checkpoints)
    is_main = trainer.processes.is_main
    drawing = config if is_main else replace(config, workers=0)  # the main process draws for all
    seconds = config.max_minutes and config.max_minutes * 60
    with (
        open_supply(drawing, corpora, tokenizer, classes) as supply,
        show_progress("experience model", config.out / "metrics.jsonl", trainer.steps, is_main) as on_log,
    ):
        trainer.run(supply, int(config.million_tokens * 1e6), seconds, on_log, checkpoints)
    card = {
        "kind": "experience",
        "experience": {
            "top_k": config.top_k,
            "max_tokens": max(400, 2 * longest_answer(sample)),  # WebShop's longest page is about 250 tokens
            "brief_known": config.brief_share > 0,
        },
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trajectories": len(trajectories),
        "transitions": sum(len(trajectory.transitions) for trajectory in trajectories),
        "tokens": trainer.tokens,
        "too_long": too_long / len(sample),
        "mean_example_tokens": float(np.mean([len(example) for example in sample])),
        "graft": ways,
    }
    trainer.save(config.out, card)
    return card


if __name__ == "__main__":
    import tyro

    told = main(tyro.cli(ExperienceTrainingConfig, description=__doc__))
    if join("auto").is_main:
        print(json.dumps(told, indent=2))
