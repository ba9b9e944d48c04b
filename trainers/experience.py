"""`dreamgym train-experience`: fine-tunes the experience model on annotated offline trajectories (Eq. 5).

    L = E[ -log p(R* | s, a, H, D_k) - log p(s' | s, a, R*, H, D_k) ]          (Eq. 5, arXiv:2511.03773)

Trace, next state and outcome are one answer, so both terms are one token sum; history H, demonstrations D_k and
recalled lines are context and carry no loss. A whole trajectory is one sequence. From a base checkpoint (a small one of
`dreamgym train-base`, whose vocabulary is exchanged for one fitted to the corpus, or any pretrained causal LM, fully or
by LoRA) or from scratch. Run: `python -m dreamgym_env.trainers.experience --data runs/train.jsonl --base runs/base`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import Trajectory

from .corpus import Corpus, format_words, permuted
from .experience_config import ExperienceTrainingConfig
from .scratch import END, build_model, build_tokenizer, fit_vocabulary, graft, name_classes, widened
from .supervised import Example, Trainer, answer_spans, encode_chat, show_progress


def load_model(config: ExperienceTrainingConfig, corpus: Corpus) -> tuple[Any, Any, dict[str, int]]:
    """The model to train, its tokenizer, and how many pieces a graft moved each way."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if config.vocabulary == "keep":
        if config.base is None:
            raise ValueError("`vocabulary='keep'` needs `base`, a pretrained checkpoint")
        model = AutoModelForCausalLM.from_pretrained(config.base, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(config.base)
        model = widened(model, config.widen) if config.widen else model
        return (_with_adapters(model, config.lora_rank) if config.lora_rank else model), tokenizer, {}
    fitted = build_tokenizer(fit_vocabulary(texts_of(corpus), phrases=config.phrases))
    if config.base is None:
        return build_model(config.model, fitted), fitted, {}
    model = AutoModelForCausalLM.from_pretrained(config.base, use_safetensors=True)
    ways = graft(model, AutoTokenizer.from_pretrained(config.base), fitted, config.seed)
    return model, fitted, ways


def texts_of(corpus: Corpus) -> Iterator[str]:
    """Up to 3,000 conversations as text, each with the agent's and M_task's instructions, so that one vocabulary
    serves the policy too."""
    domain = corpus.domain
    extra = [domain.agent_instruction, domain.task_instruction]
    for chat in corpus.draw(min(3000, 3 * len(corpus.trajectories))):
        yield END.join([*(message["content"] for message in chat), *extra])


def _with_adapters(model: Any, rank: int) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )


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


def longest_answer(sample: Sequence[Example]) -> int:
    """Tokens that an answer may take in a dream: a quarter more than the longest of the sample, at least 400."""
    longest = max((end - start for one in sample for start, end in answer_spans(one.weights)), default=0)
    return max(400, longest + longest // 4)


def main(config: ExperienceTrainingConfig) -> dict[str, Any]:
    """Trains and saves; returns what is written to the card."""
    import torch

    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    trajectories = read_training_data(config)
    corpus = Corpus(config, trajectories)
    model, tokenizer, ways = load_model(config, corpus)
    rng = random.Random(config.seed + 1)
    sample = [encode_chat(tokenizer, chat) for chat in corpus.draw(min(400, len(trajectories)))]
    fixed = format_words(tokenizer, sample, [one.task.instruction for one in trajectories])
    classes = name_classes(tokenizer, fixed) if config.permute_share else []

    def exchange(example: Example) -> Example:
        chosen = rng.random() < config.permute_share
        return permuted(example, classes, len(tokenizer), rng) if chosen else example

    def supply(_: int) -> list[Example]:
        return corpus.examples(tokenizer, 128, exchange)

    trainer = Trainer(model, tokenizer, config.training)
    checkpoints = config.out / "checkpoints"
    if config.resume:
        trainer.resume(checkpoints)
    seconds = config.max_minutes and config.max_minutes * 60
    with show_progress("experience model", config.out / "metrics.jsonl") as on_log:
        trainer.run(supply, int(config.million_tokens * 1e6), seconds, on_log, checkpoints)
    card = {
        "kind": "experience",
        "experience": {
            "top_k": config.top_k,
            "max_tokens": longest_answer(sample),
            "brief_known": config.brief_share > 0,
        },
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trajectories": len(trajectories),
        "transitions": sum(len(trajectory.transitions) for trajectory in trajectories),
        "tokens": trainer.tokens,
        "mean_example_tokens": float(np.mean([len(example) for example in sample])),
        "graft": ways,
    }
    trainer.save(config.out, card)
    return card


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(ExperienceTrainingConfig, description=__doc__)), indent=2))
