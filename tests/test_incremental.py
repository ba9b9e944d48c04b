"""The incremental decoder and its kept rows against the full forward pass of `transformers`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from dreamgym_env import decoder_weights, incremental
from dreamgym_env.decoder_weights import obstacle
from dreamgym_env.incremental import IncrementalDecoder
from dreamgym_env.kept_rows import KeptRows

VOCABULARY = 61
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
HYBRID = ["conv", "full_attention"] * 2
MODELS: dict[str, Callable[[], Any]] = {
    "lfm2": lambda: Lfm2ForCausalLM(Lfm2Config(**SIZES, layer_types=HYBRID)),
    "lfm2-biased-wide-conv": lambda: Lfm2ForCausalLM(
        Lfm2Config(**SIZES, layer_types=HYBRID, conv_bias=True, conv_L_cache=4)
    ),
    "llama-biased": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16)),
}


def build(name: str) -> Any:
    torch.manual_seed(0)
    model: Any = MODELS[name]()
    model.eval()
    for weight in model.parameters():  # far from the tiny defaults, so that every part matters
        torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.3)
    return model


def full_logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0, -1]
    return logits


def draw_ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(VOCABULARY) for _ in range(count)]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_ragged_rows_over_several_turns_equal_the_full_forward(
    name: str, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incremental, "PREFILL_TOKENS", 13)  # cuts tails in the middle
    monkeypatch.setattr(decoder_weights, "FUSE_BELOW", 10**9 if fused else 0)
    rng, model = random.Random(1), build(name)
    rows: list[list[int]] = [[] for _ in range(5)]
    with torch.inference_mode():
        decoder = IncrementalDecoder(model)
        decoder.resize(5, 4)
        for turn in range(3):
            slots = rng.sample(range(5), 3) if turn else list(range(5))
            tails = [draw_ids(rng, rng.choice([1, 4, 20])) for _ in slots]
            decoder.resize(5, 40 * (turn + 1))
            logits = decoder.extend(slots, tails)
            for number, (slot, tail) in enumerate(zip(slots, tails, strict=True)):
                rows[slot] += tail
                torch.testing.assert_close(logits[number], full_logits(model, rows[slot]), atol=1e-4, rtol=0)
            for width in (1, 3, 1):
                tokens = [draw_ids(rng, width) for _ in range(3)]
                logits = decoder.step(1, torch.tensor(tokens))
                for number, fed in enumerate(tokens):
                    for at, token in enumerate(fed):
                        rows[1 + number].append(token)
                        found = logits[number, at]
                        torch.testing.assert_close(found, full_logits(model, rows[1 + number]), atol=1e-4, rtol=0)
                decoder.lengths[2] -= width - 1  # what was fed after the first is taken back from one row
                rows[2] = rows[2][: len(rows[2]) - width + 1]
    assert decoder.lengths.tolist() == [len(row) for row in rows]


def test_attention_may_lay_its_output_out_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = torch.nn.functional.scaled_dot_product_attention

    def laid_out(*values: torch.Tensor, **options: Any) -> torch.Tensor:
        mixed: torch.Tensor = attend(*values, **options)
        return mixed.transpose(1, 2).contiguous().transpose(1, 2)  # heads innermost, as the kernels of GPUs write it

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", laid_out)
    test_ragged_rows_over_several_turns_equal_the_full_forward("llama-biased", True, monkeypatch)


@pytest.mark.parametrize("name", ["lfm2", "llama-biased"])
def test_going_back_copying_and_swapping_rows(name: str) -> None:
    rng, model = random.Random(2), build(name)
    first, second, tail = draw_ids(rng, 12), draw_ids(rng, 7), draw_ids(rng, 3)
    with torch.inference_mode():
        decoder = IncrementalDecoder(model)
        decoder.resize(3, 32)
        decoder.extend([0, 1], [first, second])
        decoder.copy(0, 2, 5)
        decoder.swap(0, 1)
        assert decoder.lengths.tolist() == [7, 12, 5]
        decoder.lengths[1] = 9
        logits = decoder.extend([0, 1, 2], [tail] * 3)
    for number, before in enumerate((second, first[:9], first[:5])):
        torch.testing.assert_close(logits[number], full_logits(model, before + tail), atol=1e-4, rtol=0)


def test_bytes_per_token_by_hand() -> None:
    # two attention layers with 2 x 2 heads x 8 numbers, two convolutions with 32, four bytes each
    assert IncrementalDecoder(build("lfm2")).bytes_per_token == (2 * 32 + 2 * 32) * 4


def test_what_is_not_served_says_why() -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_embd=8, n_layer=1, n_head=2))
    assert "gpt2" in str(obstacle(gpt2))
    windowed = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8))
    assert "sliding" in str(obstacle(windowed))
    dynamic = LlamaForCausalLM(
        LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    )
    assert "dynamic" in str(obstacle(dynamic))
    with pytest.raises(ValueError, match="LFM2 or Llama-like"):
        IncrementalDecoder(gpt2)


class Slots:
    """A store of token ids instead of values: shows what each slot really holds."""

    def __init__(self, count: int) -> None:
        self.held: list[list[int]] = [[] for _ in range(count)]

    def copy(self, source: int, target: int, length: int) -> None:
        self.held[target] = self.held[source][:length]

    def swap(self, one: int, other: int) -> None:
        self.held[one], self.held[other] = self.held[other], self.held[one]


def call(rows: KeptRows, store: Slots, prompts: list[list[int]], answers: list[list[int]]) -> list[int]:
    """One generate call on ids alone; checks that every slot held what was promised; the kept lengths."""
    first, slots, kept = rows.place(prompts)
    assert sorted(slots) == list(range(first, first + len(prompts)))
    for prompt, answer, slot, length in zip(prompts, answers, slots, kept, strict=True):
        assert store.held[slot][:length] == prompt[:length]
        assert length < len(prompt)
        store.held[slot] = prompt + answer
        rows.keep(slot, prompt + answer, len(prompt))
    return kept


def table(count: int) -> tuple[KeptRows, Slots]:
    store = Slots(count)
    rows = KeptRows(store)
    rows.resize(count)
    return rows, store


def test_a_conversation_that_grew_is_found() -> None:
    rows, store = table(4)
    assert call(rows, store, [[1, 2, 3], [1, 2, 4]], [[7], [8, 8]]) == [0, 0]
    assert call(rows, store, [[1, 2, 4, 8, 8, 5], [1, 2, 3, 7, 5]], [[], []]) == [5, 4]
    # same prompt again: all but its last token; an answer told otherwise: the prompt but its last token
    assert call(rows, store, [[1, 2, 3, 7, 5], [1, 2, 4, 8, 8, 6]], [[9], [9]]) == [4, 5]
    assert call(rows, store, [[2, 2, 3]], [[]]) == [0]


def test_siblings_share_what_only_one_row_holds() -> None:
    rows, store = table(4)
    text = list(range(40))
    call(rows, store, [text], [[5]])
    # the first goes on from the prompt but its last token, as a copy; the second from the whole row, which it takes
    assert call(rows, store, [[*text[:-1], 9], [*text, 5, 6], [*text[:-1], 8]], [[], [], []]) == [39, 41, 39]


def test_a_shared_beginning_is_copied_and_the_row_it_came_from_lives_on() -> None:
    rows, store = table(4)
    text = list(range(150))
    call(rows, store, [text], [[1]])
    assert call(rows, store, [[*text[:140], 7]], [[]]) == [128]  # two strides of 64
    assert call(rows, store, [[*text, 1, 1]], [[]]) == [151]


def test_siblings_of_one_batch() -> None:
    rows, _ = table(4)
    text = list(range(100))
    prompts = [text, [1, 2], text, [*text[:70], 5], [*text, 3], text]
    # 99 tokens of the same prompt; 64 of one that begins alike; the last has all but 10 already
    assert rows.siblings(prompts, [0, 0, 0, 0, 0, 90]) == {2: (0, 99), 3: (0, 64), 4: (0, 64)}


def test_the_least_recently_used_row_is_forgotten() -> None:
    rows, store = table(2)
    call(rows, store, [[1, 1, 1]], [[1]])
    call(rows, store, [[2, 2, 2]], [[2]])
    call(rows, store, [[1, 1, 1, 1, 5]], [[]])
    call(rows, store, [[3, 3, 3]], [[3]])
    assert len(rows) == 2
    assert call(rows, store, [[2, 2, 2, 2, 2]], [[]]) == [0]
    rows.clear()
    assert (len(rows), rows.index) == (0, {})


def test_random_traffic_keeps_its_promises() -> None:
    rng = random.Random(3)
    rows, store = table(6)
    openings = [draw_ids(rng, 70), draw_ids(rng, 140), []]
    talks = [rng.choice(openings) + draw_ids(rng, rng.randrange(1, 6)) for _ in range(12)]
    reused = 0
    for turn in range(90):
        if turn == 30:
            rows.resize(9)
            store.held += [[], [], []]
        if turn == 60:
            rows.resize(6)
        if turn % 9 == 8:  # a new episode
            talks[rng.randrange(12)] = rng.choice(openings) + draw_ids(rng, 3)
        chosen = rng.sample(range(12), rng.randrange(1, 6))
        answers = [draw_ids(rng, rng.randrange(3)) for _ in chosen]
        reused += sum(call(rows, store, [talks[one] for one in chosen], answers))
        for one, answer in zip(chosen, answers, strict=True):
            talks[one] = talks[one] + answer + draw_ids(rng, rng.randrange(1, 4))
        held = [row for row in rows.rows if row is not None]
        assert all(store.held[row.slot] == row.ids.tolist() for row in held)
        assert sum(map(len, rows.index.values())) == sum(len(row.keys) for row in held)
    assert reused > 500


def test_equal_hashes_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, store = table(2)
    monkeypatch.setattr(KeptRows, "_hashes", lambda self, ids: np.zeros(len(ids), dtype=np.uint64))
    call(rows, store, [[1, 2, 3]], [[4]])
    assert call(rows, store, [[9, 9, 9, 9, 9]], [[]]) == [0]
