"""Supervised training: what is learned and what is not, how batches are cut, what the loss is, that it goes down."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamgym_env.trainers.base import exact_answers, predictions
from dreamgym_env.trainers.progress import show_progress
from dreamgym_env.trainers.scratch import SmallConfig, Vocabulary, build_model, build_tokenizer
from dreamgym_env.trainers.supervised import (
    Example,
    SupervisedConfig,
    Trainer,
    answer_spans,
    batches,
    collate,
    encode_chat,
    nll_sum,
    rate,
)
from dreamgym_env.trainers.supply import RandomSupply, StatelessSupply

WORDS = tuple(f" w{number}x" for number in range(12))
PLAIN = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
REWRITING = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if loop.last or m['role'] != 'assistant' %}{{ m['content'] }}{% endif %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CHAT = [
    {"role": "system", "content": " w0x"},
    {"role": "user", "content": " w1x w2x"},
    {"role": "assistant", "content": " w3x"},
    {"role": "user", "content": " w4x"},
    {"role": "assistant", "content": " w5x w6x"},
]


def make_tokenizer(template: str | None = None) -> Any:
    tokenizer = build_tokenizer(Vocabulary((), tuple((word, 5) for word in WORDS)))
    if template:
        tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


def make_model(tokenizer: Any, seed: int = 0) -> Any:
    import torch

    torch.manual_seed(seed)
    return build_model(
        SmallConfig(hidden_size=64, layers=3, attention=(1,), feed_forward=96, max_positions=128), tokenizer
    )


def example(length: int, learned: int = 1) -> Example:
    weights = np.zeros(length, np.float32)
    weights[length - learned :] = 1
    return Example(np.arange(length, dtype=np.int32), weights)


@pytest.mark.parametrize("template", [None, PLAIN], ids=["generation", "plain"])
def test_exactly_what_the_assistant_says_is_learned(template: str | None) -> None:
    tokenizer = make_tokenizer(template)
    found = encode_chat(tokenizer, CHAT)
    assert (found.ids.dtype, found.weights.dtype, len(found)) == (np.int32, np.float32, 17)
    text = "<|system|> w0x<|end|><|user|> w1x w2x<|end|><|assistant|> w3x<|end|>"
    text += "<|user|> w4x<|end|><|assistant|> w5x w6x<|end|>"
    assert tokenizer.decode(found.ids) == text
    learned = [tokenizer.decode([token]) for token, weight in zip(found.ids, found.weights, strict=True) if weight]
    assert learned == [" w3x", "<|end|>", " w5x", " w6x", "<|end|>"]
    assert [tokenizer.decode(found.ids[a:b]) for a, b in answer_spans(found.weights)] == [
        " w3x<|end|>", " w5x w6x<|end|>",
    ]  # fmt: skip


def test_both_kinds_of_template_agree() -> None:
    one, other = encode_chat(make_tokenizer(), CHAT), encode_chat(make_tokenizer(PLAIN), CHAT)
    assert np.array_equal(one.ids, other.ids)
    assert np.array_equal(one.weights, other.weights)


def test_a_template_that_rewrites_is_refused() -> None:
    with pytest.raises(ValueError, match="rewrites earlier turns"):
        encode_chat(make_tokenizer(REWRITING), CHAT)


def test_spans_at_the_edges() -> None:
    assert answer_spans(np.asarray([1, 0, 1, 1], np.float32)) == [(0, 1), (2, 4)]
    assert answer_spans(np.zeros(3, np.float32)) == []


@pytest.mark.parametrize("budget", [10, 64, 1000])
def test_batches_hold_every_index_once_within_the_budget(budget: int) -> None:
    lengths = [random.Random(1).randint(1, 30) for _ in range(5)] + list(range(1, 40))
    sequences = [example(length) for length in lengths]
    found = list(batches(sequences, budget, random.Random(0)))
    assert sorted(index for batch in found for index in batch) == list(range(len(sequences)))
    for batch in found:
        assert len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= budget
    assert found == list(batches(sequences, budget, random.Random(0)))
    assert found != list(batches(sequences, budget, random.Random(1)))
    assert list(batches([], budget, random.Random(0))) == []


def test_little_of_a_batch_is_padding() -> None:
    rng = random.Random(2)
    sequences = [example(rng.randint(10, 400)) for _ in range(500)]
    cut = list(batches(sequences, 4096, rng))
    padded = sum(max(len(sequences[i]) for i in batch) * len(batch) for batch in cut)
    assert sum(map(len, sequences)) / padded > 0.8


def test_collate_pads_on_the_right() -> None:
    ids, weights = collate([example(2), example(4, 2)], pad_id=9)
    assert ids.tolist() == [[0, 1, 9, 9], [0, 1, 2, 3]]
    assert weights.tolist() == [[0, 1, 0, 0], [0, 0, 1, 1]]


def test_the_loss_is_the_cross_entropy_of_the_learned_tokens(tokenizer: Any) -> None:
    """By hand from the model's own logits, and as `transformers` computes it from labels."""
    import torch

    model = make_model(tokenizer).eval()
    ids, weights = collate([encode_chat(tokenizer, CHAT), encode_chat(tokenizer, CHAT[:3])], tokenizer.pad_token_id)
    with torch.no_grad():
        total, count = nll_sum(model, ids, weights)
        logits = model(ids).logits
        labels = torch.where(weights > 0, ids, -100)
        reference = model(ids, labels=labels).loss
        by_hand = 0.0
        for row in range(2):
            alone = (
                logits[row] if row == 0 else model(ids[1:2, : int((ids[1] != tokenizer.pad_token_id).sum())]).logits[0]
            )
            for position in range(1, alone.shape[0]):
                if weights[row, position]:
                    scores = alone[position - 1].double()
                    by_hand -= float(scores[ids[row, position]] - torch.logsumexp(scores, 0))
    assert float(count) == 5 + 2
    assert float(total) == pytest.approx(by_hand, rel=1e-5)
    assert float(total / count) == pytest.approx(float(reference), rel=1e-5)
    doubled, twice = nll_sum(model, ids, weights * 2)
    assert (doubled.item(), twice.item()) == pytest.approx((2 * total.item(), 14.0), rel=1e-5)


def test_the_loss_and_its_gradient_reach_adapters_too(tokenizer: Any) -> None:
    peft = pytest.importorskip("peft")
    model = make_model(tokenizer)
    ids, weights = collate([encode_chat(tokenizer, CHAT)], tokenizer.pad_token_id)
    plain = nll_sum(model, ids, weights)[0].item()
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=True)
    )
    total, _ = nll_sum(adapted, ids, weights)
    assert total.item() == pytest.approx(plain, rel=1e-6)  # adapters begin at zero
    total.backward()
    gradients = {name for name, weight in adapted.named_parameters() if weight.grad is not None}
    assert gradients
    assert all("lora" in name for name in gradients)


def test_the_learning_rate_warms_up_and_decays() -> None:
    config = SupervisedConfig(learning_rate=0.1, warmup_steps=10)
    assert rate(0, 0.0, config) == pytest.approx(0.01)
    assert rate(9, 0.0, config) == pytest.approx(0.1)
    assert rate(50, 0.5, config) == pytest.approx(0.1 * (0.03 + 0.97 * 0.5))
    assert rate(50, 1.0, config) == rate(50, 7.0, config) == pytest.approx(0.003)


def copy_chats(tokenizer: Any, count: int, seed: int) -> list[Example]:
    """The user says three words, the assistant repeats them."""
    rng = random.Random(seed)
    texts = ["".join(rng.choices(WORDS, k=3)) for _ in range(count)]
    return [
        encode_chat(tokenizer, [{"role": "user", "content": text}, {"role": "assistant", "content": text}])
        for text in texts
    ]


def test_a_tiny_model_learns_to_copy_and_is_saved_whole(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    held_out = copy_chats(tokenizer, 60, seed=99)
    config = SupervisedConfig(learning_rate=3e-3, batch_tokens=640, warmup_steps=10, log_every=10)
    trainer = Trainer(make_model(tokenizer), tokenizer, config)
    before = sum(exact_answers(trainer.model, tokenizer, held_out)) / 60
    pools = iter(range(1000))
    with show_progress("copying", tmp_path / "logs" / "metrics.jsonl") as on_log:
        supply = StatelessSupply(lambda _: copy_chats(tokenizer, 256, next(pools)))
        trainer.run(supply, max_tokens=100_000, max_seconds=300, on_log=on_log)
    after = sum(exact_answers(trainer.model, tokenizer, held_out)) / 60
    assert before < 0.1
    assert after > 0.9
    reports = [json.loads(line) for line in (tmp_path / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert reports[-1]["loss"] < 0.3 < reports[0]["loss"]
    assert set(reports[0]) == {"step", "tokens", "loss", "tokens_per_second", "progress", "learning_rate"}
    assert reports[-1]["learning_rate"] < reports[0]["learning_rate"]
    assert not trainer.model.training
    trainer.save(tmp_path / "out", {"kind": "test"})
    assert json.loads((tmp_path / "out" / "dreamgym.json").read_text()) == {"kind": "test"}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", use_safetensors=True)
    assert sum(exact_answers(again, tokenizer, held_out)) / 60 == after


def test_training_is_repeatable_and_stops_at_its_budget(tokenizer: Any) -> None:
    import torch

    weights = []
    for _ in range(2):
        trainer = Trainer(make_model(tokenizer), tokenizer, SupervisedConfig(batch_tokens=256, warmup_steps=1))
        trainer.run(StatelessSupply(lambda tokens: copy_chats(tokenizer, 64, tokens)), max_tokens=2_000)
        assert 2_000 <= trainer.tokens < 2_000 + 256
        weights.append(torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()]))
    assert torch.equal(*weights)


def test_predictions_are_the_argmax_given_the_truth(tokenizer: Any) -> None:
    import torch

    model = make_model(tokenizer).eval()
    examples = [encode_chat(tokenizer, CHAT), encode_chat(tokenizer, CHAT[:3])]
    for row, best in predictions(model, tokenizer, examples):
        with torch.no_grad():
            expected = model(torch.from_numpy(row.ids[None].astype(np.int64))).logits[0].argmax(-1)
        assert best[0] == -1
        assert best[1:].tolist() == expected[:-1].tolist()


def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Weights, optimizer and counters come back; the run then ends where the whole run would."""
    import torch

    config = SupervisedConfig(save_every=2, batch_tokens=64, warmup_steps=1)
    tokenizer = build_tokenizer(Vocabulary((), tuple((f" w{i}a", 3) for i in range(20))))
    rows = [Example(np.arange(300, 312, dtype=np.int32), np.ones(12, np.float32)) for _ in range(8)]

    def trainer() -> Trainer:
        torch.manual_seed(0)
        return Trainer(
            build_model(SmallConfig(hidden_size=16, heads=2, layers=3, attention=(1,)), tokenizer), tokenizer, config
        )

    stopped = trainer()
    stopped.run(StatelessSupply(lambda _: rows), max_tokens=300, checkpoints=tmp_path)
    resumed = trainer()
    assert resumed.resume(tmp_path)
    assert (resumed.steps, resumed.tokens) == (6, 288)  # 5 and 3 rows of 12 tokens a pass
    assert resumed.seconds > 0
    before = [p.clone() for p in resumed.model.parameters()]
    resumed.run(StatelessSupply(lambda _: rows), max_tokens=500)
    assert resumed.tokens >= 500
    assert any(not torch.equal(a, b) for a, b in zip(before, resumed.model.parameters(), strict=True))
    assert not trainer().resume(tmp_path / "nothing")


def test_a_run_that_stops_within_a_pool_is_the_whole_run_bit_for_bit(tokenizer: Any, tmp_path: Path) -> None:
    import torch

    config = SupervisedConfig(batch_tokens=128, warmup_steps=3, save_every=5, log_every=4)

    def trained(folder: Path, stop_at: int | None = None) -> tuple[torch.Tensor, list[dict[str, Any]], int]:
        """Weights, reports, and the step that it went on from; interrupted after `stop_at` steps."""
        rng = random.Random(7)
        supply = RandomSupply(lambda _: copy_chats(tokenizer, 24, rng.randrange(10**6)), rng)
        torch.manual_seed(0)
        trainer = Trainer(make_model(tokenizer), tokenizer, config)
        trainer.resume(folder)
        started, step, lines = trainer.steps, trainer._step, list[dict[str, Any]]()

        def until(rows: Any, progress: float) -> float:
            if trainer.steps == stop_at:
                raise KeyboardInterrupt
            return step(rows, progress)

        trainer._step = until  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt) if stop_at else nullcontext():
            trainer.run(supply, 3_000, on_log=lines.append, checkpoints=folder)
        weights = torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
        return weights, [{**line, "tokens_per_second": 0} for line in lines], started

    whole, told, _ = trained(tmp_path / "whole")
    trained(tmp_path / "halves", stop_at=12)
    resumed, rest, started = trained(tmp_path / "halves")
    assert started == 10
    assert torch.equal(whole, resumed)
    assert rest == [line for line in told if line["step"] > 10]
    assert len(rest) > 2
