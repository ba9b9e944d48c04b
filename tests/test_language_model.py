"""`TransformersModel` on tiny real checkpoints, written and loaded through the real code."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from dreamgym_env import echo
from dreamgym_env.decoding import Answers, is_looping, pick
from dreamgym_env.echo import Echo, guess, tokens_at_once
from dreamgym_env.incremental import IncrementalDecoder
from dreamgym_env.language_model import TransformersModel, load_language_model
from dreamgym_env.types import LanguageModel, ModelError, Sampling

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, and the marks of a chat."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=plain,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE,
    )


def build(kind: str) -> Any:
    torch.manual_seed(0)
    size = len(tokenizer())
    if kind == "lfm2":
        model: Any = Lfm2ForCausalLM(Lfm2Config(**SIZES, vocab_size=size, layer_types=["conv", "full_attention"]))
    elif kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**SIZES, vocab_size=size))
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=512))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.1)
    return model


@pytest.fixture(scope="module", params=["lfm2", "qwen2", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    build(request.param).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def model_of(kind: str, **options: Any) -> TransformersModel:
    return TransformersModel(build(kind).eval(), tokenizer(), **options)


def score(model: TransformersModel, ids: list[int], temperature: float) -> torch.Tensor:
    with torch.no_grad():
        return torch.log_softmax(model.model(torch.tensor([ids])).logits[0] / temperature, -1)


def talk(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]


def test_completions_over_turns_agree_with_the_full_forward(folder: Path) -> None:
    model = TransformersModel.load(str(folder), device="cpu")
    assert isinstance(model, LanguageModel)
    assert model.model.dtype == torch.float32
    talks = [talk("hello"), talk("a much longer question about shoes"), talk("hi", "yes", "no")]
    for turn, temperature in enumerate((0.7, 1.3, 0.0)):
        prompts = [model.encode(one) for one in talks]
        for one, prompt, completion in zip(
            talks, prompts, model.complete(talks, Sampling(temperature, max_tokens=9 + turn)), strict=True
        ):
            ids = [*prompt, *completion.token_ids]
            expected = score(model, ids, temperature or 1.0)[len(prompt) - 1 : -1]
            drawn = torch.tensor(completion.token_ids)[:, None]
            found = torch.tensor(completion.logprobs)
            torch.testing.assert_close(found, expected.gather(1, drawn)[:, 0], atol=1e-4, rtol=0)
            if temperature == 0:
                assert (expected.max(-1).values - found).max() < 1e-4
            one += [{"role": "assistant", "content": completion.text}, {"role": "user", "content": "go on"}]
    assert model.counts.generated >= 9
    assert (model.counts.reused > 0) == model.keeps_prefixes == ("gpt2" not in folder.name)


def test_kept_prefixes_and_generate_draw_the_same_tokens() -> None:
    kept, plain = model_of("lfm2"), model_of("lfm2", keep_prefix=False)
    assert (kept.keeps_prefixes, plain.keeps_prefixes) == (True, False)
    rows = [[3, 4, 5], [9] * 30, [7, 8], [3, 4, 5]]
    for _ in range(3):
        ours, theirs = (model.generate(rows, Sampling(max_tokens=12)) for model in (kept, plain))
        assert [c.token_ids for c in ours] == [c.token_ids for c in theirs]
        rows = [[*row, *c.token_ids, 1, 2] for row, c in zip(rows, ours, strict=True)]
    assert plain.counts.reused == 0
    assert kept.counts.prefilled + kept.counts.reused == plain.counts.prefilled
    assert kept.counts.reused > kept.counts.prefilled


def test_groups_of_one_prompt_are_read_once() -> None:
    model = model_of("lfm2")
    prompt = [number % 200 for number in range(130)]
    answers = model.generate([prompt, prompt, [*prompt[:70], 5], prompt], Sampling(max_tokens=3))
    assert model.counts.prefilled == 130 + 1 + (71 - 64) + 1
    assert model.counts.reused == 129 + 64 + 129
    for ids, answer in zip([prompt, prompt, [*prompt[:70], 5], prompt], answers, strict=True):
        expected = score(model, [*ids, *answer.token_ids], 1.0)[len(ids) - 1 : -1]
        found = expected.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(answer.logprobs), found, atol=1e-4, rtol=0)


def test_room_is_made_now_and_then_not_for_every_newcomer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    resize = IncrementalDecoder.resize
    monkeypatch.setattr(IncrementalDecoder, "resize", lambda *given: (made.append(given[1]), resize(*given))[1])
    model = model_of("lfm2")
    prompts = [[number, *range(40)] for number in range(60)]
    for prompt in prompts:
        model.generate([prompt], Sampling(0.0, max_tokens=2))
    assert made == sorted(made)
    assert 60 <= made[-1] <= 90
    assert len(made) < 14
    read = model.counts.prefilled
    model.generate(prompts, Sampling(0.0, max_tokens=2))
    assert model.counts.prefilled == read + 60  # all were kept


def test_rows_that_leave_early_do_not_disturb_the_others() -> None:
    model = model_of("lfm2")
    probe = model.generate([[number, number + 1, 5] for number in range(12)], Sampling(0.0, max_tokens=20))
    stops = sorted({completion.token_ids[7] for completion in probe})
    prompts = [[number, number + 1, 5] for number in range(12)]
    for _ in range(2):
        early = model.generate(prompts, Sampling(0.0, max_tokens=20), stop_ids=stops[:2])
        for completion, whole in zip(early, probe, strict=True):
            ends = [at for at, token in enumerate(whole.token_ids) if token in stops[:2]]
            assert completion.token_ids == whole.token_ids[: ends[0] + 1 if ends else 20]
            assert completion.finish_reason == ("stop" if ends else "length")
        prompts = prompts[::-1]
        probe = probe[::-1]


def test_seed_repeats_and_batches_do_not_change_greedy_answers() -> None:
    model = model_of("qwen2", seed=5)
    prompts = [[number] * (number + 1) for number in range(9)]
    first = model.generate(prompts, Sampling(max_tokens=6))
    second = model.generate(prompts, Sampling(max_tokens=6))
    model.seed(5)
    model.forget()
    assert model.generate(prompts, Sampling(max_tokens=6)) == first != second
    one_by_one = model_of("qwen2", max_batch=1, cache_bytes=1).generate(prompts, Sampling(0.0, max_tokens=6))
    together = model.generate(prompts, Sampling(0.0, max_tokens=6))
    assert [c.token_ids for c in one_by_one] == [c.token_ids for c in together]


def test_end_of_turn_is_a_token_and_not_text() -> None:
    model = model_of("lfm2")
    end = model.tokenizer.eos_token_id
    assert model.stop_ids == {end}  # the config's default id 2 is a letter here
    bias = torch.nn.functional.one_hot(torch.tensor(end), model.model.config.vocab_size)
    model.model.lm_head.weight = torch.nn.Parameter(bias[:, None] * torch.ones(32))
    with torch.no_grad():
        model.model.model.embedding_norm.weight.fill_(0.0)
    (completion,) = model.generate([[1, 2]], Sampling(0.0, max_tokens=3), stop_ids=[])
    assert completion.finish_reason == "length"
    with torch.no_grad():
        model.model.lm_head.weight[:, 0] += bias * 1e3
        model.model.model.embedding_norm.weight[0] = 1.0
    texts = [model.generate([[one, 2]], Sampling(0.0, max_tokens=3))[0] for one in range(40)]
    stopped = [c for c in texts if c.finish_reason == "stop" and len(c.token_ids) == 1]
    assert stopped
    assert all((c.text, c.token_ids) == ("", (end,)) for c in stopped)


@pytest.mark.parametrize("kind", ["lfm2", "gpt2"])
def test_stop_strings_end_the_answer_and_are_cut_off(kind: str) -> None:
    model = model_of(kind)
    (whole,) = model.generate([[40, 41]], Sampling(0.0, max_tokens=30), stop_ids=[])
    stop = whole.text[4:6]
    (cut,) = model.generate([[40, 41]], Sampling(0.0, max_tokens=30, stop=(stop, "never")), stop_ids=[])
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]
    assert len(cut.token_ids) < 30


@pytest.mark.parametrize("kind", ["lfm2", "gpt2"])
def test_an_answer_that_the_context_cuts_is_an_overflow(kind: str) -> None:
    model = model_of(kind)
    model.max_context = 24
    rows = [[5] * 18, [5] * 10, [5] * 30, []]
    drawn = model.generate(rows, Sampling(max_tokens=8), stop_ids=[])
    assert [len(one.token_ids) for one in drawn] == [6, 8, 0, 0]
    assert [one.finish_reason for one in drawn] == ["length", "length", "error", "error"]
    assert [one.overflow for one in drawn] == [True, False, True, False]


def test_rows_without_room_are_error_values() -> None:
    model = model_of("lfm2", max_context=20)
    long, empty, tight, fine = model.generate([[1] * 20, [], [1] * 17, [2]], Sampling(max_tokens=5), stop_ids=[])
    assert (long.finish_reason, empty.finish_reason) == ("error", "error")
    assert "20 tokens" in long.error
    assert (tight.finish_reason, len(tight.token_ids)) == ("length", 3)
    assert len(fine.token_ids) == 5


@pytest.mark.parametrize("kind", ["lfm2", "qwen2"])
def test_training_in_place_is_noticed(kind: str) -> None:
    model = model_of(kind)
    prompt = [5, 6, 7, 8]
    before = model.generate([prompt], Sampling(0.0, max_tokens=1))[0]
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=0.1)
    model.model(torch.tensor([prompt]), labels=torch.tensor([prompt])).loss.backward()
    optimizer.step()
    after = model.generate([prompt], Sampling(0.0, max_tokens=1))[0]
    assert after.logprobs[0] == pytest.approx(score(model, prompt, 1.0)[-1].max().item(), abs=1e-4)
    assert after.logprobs != before.logprobs
    for weight in model.model.parameters():
        weight.data.mul_(0.5)
    model.weights_changed()
    (halved,) = model.generate([prompt], Sampling(0.0, max_tokens=1))
    assert halved.logprobs[0] == pytest.approx(score(model, prompt, 1.0)[-1].max().item(), abs=1e-4)


def test_draws_follow_the_distribution_and_top_p() -> None:
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    uniforms = torch.tensor([0.0, 0.49, 0.51, 0.79, 0.81, 0.94, 0.96], dtype=torch.float64)
    assert pick(scores.expand(7, -1), uniforms).tolist() == [0, 0, 1, 1, 2, 2, 3]
    # 0.5 + 0.3 first reach 0.6: two tokens stay, at 0.625 and 0.375
    assert pick(scores.expand(3, -1), torch.tensor([0.62, 0.63, 0.999], dtype=torch.float64), 0.6).tolist() == [0, 1, 1]
    assert pick(scores, torch.tensor([0.999], dtype=torch.float64), 1e-6).tolist() == [0]


def test_an_answer_that_repeats_itself_is_cut_off() -> None:
    def drawn(letters: str) -> tuple[str, int]:
        """What is kept of an answer whose likeliest tokens are these."""
        answers = Answers([400], Sampling(0.0, max_tokens=400), frozenset([0]), torch.Generator(), lambda _: "")
        for letter in letters:
            answers.draw([0], torch.nn.functional.one_hot(torch.tensor([[ord(letter)]]), 128).float())
        return str(answers.reasons[0]), len(answers.ids[0])

    assert drawn("said: " + "the " * 90) == ("length", 128)  # 96 of the last 128 repeat four
    assert drawn("ab" * 47 + "c" * 20 + "ab" * 40) == ("None", 194)
    assert drawn("".join(f"row {number} | cell | " for number in range(20))) == ("None", 310)  # a table is no loop
    assert drawn("x" * 95) == ("None", 95)
    assert is_looping(list(b"12345678" * 12))
    assert not is_looping(list(b"123456789" * 12)[:96])


@pytest.mark.parametrize("temperature", [0.0, 0.02])
def test_answers_are_the_same_whatever_is_guessed(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    prompts = [[rng.randrange(4, 60) for _ in range(rng.choice([2, 9, 30]))] for _ in range(5)]
    sampling, found, steps = Sampling(temperature, max_tokens=70), [], []
    for together in (0, 128):
        monkeypatch.setattr(echo, "TOGETHER", together)
        model = model_of("lfm2")
        with torch.no_grad():
            model.model.model.embed_tokens.weight.mul_(8)  # surer of itself, so that it repeats itself
        widths: list[int] = []
        step = IncrementalDecoder.step

        def counted(decoder: Any, first: int, tokens: Any, widths: Any = widths, step: Any = step) -> Any:
            widths.append(tokens.shape[1])
            return step(decoder, first, tokens)

        with monkeypatch.context() as patch:
            patch.setattr(IncrementalDecoder, "step", counted)
            answers = [model.generate(prompts, sampling) for _ in range(2)]  # the second takes kept prefixes up again
        found.append([one for row in answers for one in row] + [model.generate([prompts[0]], Sampling(1.0))[0]])
        steps.append(widths)
    plain, guessed = found
    assert [one.token_ids for one in plain] == [one.token_ids for one in guessed]
    assert [one.finish_reason for one in plain] == [one.finish_reason for one in guessed]
    for one, other in zip(plain, guessed, strict=True):
        assert other.logprobs == pytest.approx(one.logprobs, abs=2e-3)
    assert set(steps[0]) == {1}
    assert max(steps[1]) > 4
    assert len(steps[1]) < 0.7 * len(steps[0])


def test_an_echo_is_what_followed_the_last_time_the_same_was_said() -> None:
    heard = Echo([1, 2, 3, 4, 5, 1, 2, 3, 6, 7, 8], 20)
    assert heard.guess(4) == []
    heard.follow([1, 2, 3])
    assert heard.guess(2) == [6, 7]
    assert heard.guess(8) == [6, 7, 8, 1, 2, 3, 6, 7]
    heard.follow([1, 2, 3, 4])
    assert heard.guess(2) == [5, 1]
    found = guess([heard, Echo([9, 9], 4), Echo([1, 2], 1)], [[1, 2, 3, 4], [9, 9, 9], [7]], [1, 2, 0], 128)
    assert found == [[9] * 16, [0] * 16, [5, 1, 2, 3, 6, 7, 8, 1, 2, 3, 4, 5, 1, 2, 3, 6]]
    assert guess([Echo([1], 4)], [[2]], [0], 128) == [[]]
    assert [len(row) for row in guess([heard] * 9, [[1, 2, 3, 4]] * 9, range(9), 50)] == [4] * 9
    assert guess([heard] * 9, [[1, 2, 3, 4]] * 9, range(9), 17) == [[]] * 9


def test_a_gpu_guesses_for_more_answers_at_once_the_smaller_the_model() -> None:
    assert tokens_at_once(3_300_000, "cpu") == tokens_at_once(7_000_000_000, "cpu") == 128
    assert [tokens_at_once(size, "cuda") for size in (3_300_000, 10**8, 7 * 10**9)] == [8192, 2500, 512]


def test_diverged_weights_are_told() -> None:
    model = model_of("lfm2")
    with torch.no_grad():
        model.model.model.embed_tokens.weight.fill_(math.nan)
    with pytest.raises(ModelError, match="diverged"):
        model.generate([[1, 2]], Sampling(max_tokens=2))


def test_damaged_and_incomplete_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no folder"):
        TransformersModel.load(str(tmp_path / "missing"))
    build("lfm2").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="tokenizer"):
        TransformersModel.load(str(tmp_path), device="cpu")
    bare = tokenizer()
    bare.chat_template = None
    bare.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="chat template"):
        TransformersModel.load(str(tmp_path), device="cpu")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors is truncated or damaged"):
        TransformersModel.load(str(tmp_path), device="cpu")
    weights.unlink()
    with pytest.raises(ModelError, match=r"has no .*safetensors"):
        TransformersModel.load(str(tmp_path), device="cpu")
    with pytest.raises(ValueError, match="`dtype`"):
        TransformersModel.load(str(tmp_path), dtype="int3")


def test_lora_adapter_folder(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    build("qwen2").save_pretrained(base)
    tokenizer().save_pretrained(base)
    wrapped = peft.get_peft_model(
        Qwen2ForCausalLM.from_pretrained(base), peft.LoraConfig(target_modules=["q_proj", "down_proj"], r=2)
    )
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    wrapped.save_pretrained(adapter)
    merged = TransformersModel.load(str(adapter), device="cpu")
    going_on = TransformersModel.load(str(adapter), device="cpu", merge_adapter=False)
    plain = TransformersModel.load(str(base), device="cpu")
    assert (merged.keeps_prefixes, going_on.keeps_prefixes) == (True, False)
    first, second, third = (
        model.generate([[1, 2, 3]], Sampling(0.0, max_tokens=4))[0] for model in (merged, going_on, plain)
    )
    assert first.logprobs == pytest.approx(second.logprobs, abs=1e-4)
    assert first.logprobs != pytest.approx(third.logprobs, abs=1e-3)


def test_spec_of_a_folder(folder: Path) -> None:
    model = load_language_model(str(folder), device="cpu", max_context=100, seed=3)
    assert isinstance(model, TransformersModel)
    assert model.max_context == 100
    assert model.complete([], Sampling()) == []
