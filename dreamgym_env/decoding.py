"""Drawing answers token by token: the sampler, and the two loops that feed it (kept prefixes, or `generate`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dreamgym_env.echo import Echo, guess, tokens_at_once
from dreamgym_env.kept_rows import KeptRows
from dreamgym_env.types import Completion, ModelError, Sampling

if TYPE_CHECKING:
    import torch

    from dreamgym_env.incremental import IncrementalDecoder


@dataclass
class TokenCounts:
    """Tokens so far: drawn (`generated`), read (`prefilled`), and not read again since they were kept (`reused`)."""

    generated: int = 0
    prefilled: int = 0
    reused: int = 0


class Answers:
    """Answers under way, one per prompt: draws their tokens and knows when each is done.

    `limits` are the tokens that each may have (>= 1); `decode` turns ids to text, for the stop strings.
    """

    def __init__(
        self,
        limits: Sequence[int],
        sampling: Sampling,
        stop_ids: frozenset[int],
        generator: torch.Generator,
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        self.limits, self.sampling, self.stop_ids = limits, sampling, stop_ids
        self.generator, self.decode = generator, decode
        self.ids: list[list[int]] = [[] for _ in limits]
        self.logprobs: list[list[float]] = [[] for _ in limits]
        self.reasons: list[Literal["stop", "length"] | None] = [None] * len(limits)
        self.uniforms: list[list[float]] = []
        self.tail = max((len(stop) for stop in sampling.stop), default=0) + 4

    @property
    def done(self) -> bool:
        """Whether every answer is complete."""
        return all(self.reasons)

    def draw(self, items: Sequence[int], logits: torch.Tensor, guesses: Sequence[Sequence[int]] = ()) -> list[int]:
        """Draw the next tokens of each of `items` from logits (n, k, V); how many of the k each was given, at least 1.

        `guesses` (n, k - 1) are the tokens that these logits take for granted: a row goes on as long as it draws them,
        so that each token is drawn from what was said before it. Answers that are done stay as they are. Every token
        uses up one uniform number of its prompt's, of as many as the longest answer has tokens: a seed gives the same
        answers however the rows are arranged and whatever was guessed.
        """
        import torch

        given = [0] * len(items)
        open_ = list(range(len(items)))
        while open_:
            at = given[open_[0]]
            rows = logits[:, at] if len(open_) == len(items) else logits[open_, at]
            scores = torch.log_softmax(rows.float() / (self.sampling.temperature or 1.0), dim=-1)
            if self.sampling.temperature == 0:
                tokens = scores.argmax(-1)
            else:
                uniforms = torch.tensor([self._uniform(items[row]) for row in open_], dtype=torch.float64)
                tokens = pick(scores, uniforms.to(logits.device), self.sampling.top_p)
            chosen = scores.gather(-1, tokens[:, None])[:, 0].tolist()
            going = []
            for row, token, logprob in zip(open_, tokens.tolist(), chosen, strict=True):
                given[row] += 1
                if self.reasons[items[row]] is None:
                    self._append(items[row], token, logprob)
                    if guesses and token in guesses[row][at : at + 1] and self.reasons[items[row]] is None:
                        going.append(row)
            open_ = going
        return given

    def _uniform(self, item: int) -> float:
        """The number in [0, 1) that draws the next token of an answer."""
        import torch

        at = len(self.ids[item]) if self.reasons[item] is None else 0
        while len(self.uniforms) <= at:
            self.uniforms.append(torch.rand(len(self.ids), generator=self.generator, dtype=torch.float64).tolist())
        return self.uniforms[at][item]

    def _append(self, item: int, token: int, logprob: float) -> None:
        if math.isnan(logprob):
            raise ModelError("the model's logits are not numbers: its weights have diverged or the file is damaged")
        ids = self.ids[item]
        ids.append(token)
        self.logprobs[item].append(logprob)
        if token in self.stop_ids or self._stopped_by_text(ids):
            self.reasons[item] = "stop"
        elif len(ids) >= self.limits[item] or is_looping(ids):
            self.reasons[item] = "length"

    def _stopped_by_text(self, ids: list[int]) -> bool:
        if not self.sampling.stop:
            return False
        text = self.decode(ids[-self.tail :])
        return any(stop in text for stop in self.sampling.stop)

    def completion(self, item: int) -> Completion:
        """The answer as a value: `text` without the end-of-turn token and from before the first stop string."""
        ids = self.ids[item]
        text = self.decode(ids[:-1] if ids and ids[-1] in self.stop_ids else ids)
        cut = min((at for stop in self.sampling.stop if (at := text.find(stop)) >= 0), default=len(text))
        return Completion(text[:cut], self.reasons[item] or "length", tuple(ids), tuple(self.logprobs[item]))


def is_looping(ids: Sequence[int], tokens: int = 96, period: int = 8) -> bool:
    """Whether the last `tokens` of an answer repeat the same `period` tokens or fewer; looked at once in 32 tokens.

    A small model that has lost its thread says one phrase until its answer is cut off, a thousand tokens later.
    """
    if len(ids) < tokens or len(ids) % 32:
        return False
    last = list(ids[-tokens:])
    return any(last[shift:] == last[:-shift] for shift in range(1, period + 1))


def pick(scores: torch.Tensor, uniforms: torch.Tensor, top_p: float = 1.0) -> torch.Tensor:
    """Tokens (B,) drawn from log-probabilities (B, V) by inverting the distribution at uniforms (B,) in [0, 1).

    With `top_p` below 1 only the likeliest tokens whose probabilities first reach `top_p` are drawn from.
    """
    import torch

    probabilities = scores.exp()
    if top_p < 1:
        ordered, order = probabilities.sort(-1, descending=True)
        ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= top_p, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter_(-1, order, ordered)
    steps = probabilities.cumsum(-1, dtype=torch.float64)
    at = torch.searchsorted(steps, uniforms[:, None] * steps[:, -1:], right=True)[:, 0]
    return at.clamp_(max=scores.shape[-1] - 1)


class PrefixEngine:
    """Answers prompts with an `IncrementalDecoder`, whose rows it keeps between calls within `cache_bytes`."""

    def __init__(self, decoder: IncrementalDecoder, cache_bytes: int, max_rows: int) -> None:
        self.decoder, self.cache_bytes, self.max_rows = decoder, cache_bytes, max_rows
        self.rows = KeptRows(decoder)
        self.most_tokens = tokens_at_once(decoder.model.num_parameters(), decoder.device.type)

    def batch_size(self, positions: int) -> int:
        """How many rows of `positions` tokens fit the cache, at least 1."""
        return max(1, min(self.max_rows, self.cache_bytes // (positions * self.decoder.bytes_per_token)))

    def run(self, prompts: Sequence[Sequence[int]], answers: Answers, counts: TokenCounts) -> None:
        """Fill in `answers` to the prompts (each of at least one token)."""
        import torch

        decoder = self.decoder
        self._make_room(max(map(len, prompts)) + 1, len(prompts))
        first, slots, kept = self.rows.place(prompts)
        decoder.lengths[slots] = kept
        logits = self._read(prompts, slots, kept)
        counts.reused += sum(kept)
        counts.prefilled += sum(map(len, prompts)) - sum(kept)
        order = sorted(range(len(prompts)), key=slots.__getitem__)  # the item in each slot of the window
        echoes = [Echo(prompt, limit) for prompt, limit in zip(prompts, answers.limits, strict=True)]
        answers.draw(order, logits[order][:, None])
        while not answers.done:
            self._compact(first, order, slots, answers)
            window = slice(first, first + len(order))
            guesses = guess(echoes, answers.ids, order, self.most_tokens)
            tokens = [[answers.ids[item][-1], *found] for item, found in zip(order, guesses, strict=True)]
            self._make_room(int(decoder.lengths[window].max()) + len(tokens[0]))
            before = decoder.lengths[window].copy()
            logits = decoder.step(first, torch.tensor(tokens, device=decoder.device))
            decoder.lengths[window] = before + answers.draw(order, logits, guesses)
        for item, (prompt, slot) in enumerate(zip(prompts, slots, strict=True)):
            self.rows.keep(slot, [*prompt, *answers.ids[item][:-1]], len(prompt))
        counts.generated += sum(map(len, answers.ids))

    def _read(self, prompts: Sequence[Sequence[int]], slots: list[int], kept: list[int]) -> torch.Tensor:
        """Read what is new in each prompt; logits (B, V). What prompts of one batch share is read once and copied."""
        import torch

        followers = self.rows.siblings(prompts, kept)
        leaders = [item for item in range(len(prompts)) if item not in followers]
        logits = self._extend(leaders, prompts, slots, kept)
        if not followers:
            return logits
        for item, (leader, length) in followers.items():
            self.decoder.copy(slots[leader], slots[item], length)
            kept[item] = length
        rest = self._extend(list(followers), prompts, slots, kept)
        order = sorted(range(len(prompts)), key=[*leaders, *followers].__getitem__)
        return torch.cat([logits, rest])[order]

    def _extend(
        self, items: list[int], prompts: Sequence[Sequence[int]], slots: list[int], kept: list[int]
    ) -> torch.Tensor:
        return self.decoder.extend([slots[item] for item in items], [prompts[item][kept[item] :] for item in items])

    def _compact(self, first: int, order: list[int], slots: list[int], answers: Answers) -> None:
        """Take the rows that are done out of the batch once they are a quarter of it.

        Until then they are fed along, which is cheaper than moving a row each time one ends.
        """
        going = [at for at, item in enumerate(order) if answers.reasons[item] is None]
        if 4 * (len(order) - len(going)) < len(order):
            return
        holes = [at for at in range(len(going)) if answers.reasons[order[at]] is not None]
        for hole, at in zip(holes, going[len(going) - len(holes) :], strict=True):
            self.decoder.swap(first + hole, first + at)
            order[hole], order[at] = order[at], order[hole]
            slots[order[hole]], slots[order[at]] = first + hole, first + at
        del order[len(going) :]

    def _make_room(self, positions: int, newcomers: int = 0) -> None:
        """Let every row hold `positions` tokens, and `newcomers` more rows fit beside those kept.

        Where that would take more than `cache_bytes`, kept rows are given up, the least recently used first. Both grow
        by half at least: new room means to copy all that is kept, which most calls must not do.
        """
        slots, capacity = len(self.rows.rows), self.decoder.capacity
        if positions > capacity:
            capacity = -(-max(positions + 128, capacity * 3 // 2) // 64) * 64
        if newcomers:
            affordable = min(self.max_rows, self.cache_bytes // (capacity * self.decoder.bytes_per_token))
            wanted = newcomers + len(self.rows)
            slots = max(newcomers, min(slots if wanted <= slots else max(wanted, slots * 3 // 2), affordable))
        if slots != len(self.rows.rows):
            self.rows.resize(slots)
        if slots != len(self.decoder.lengths) or capacity != self.decoder.capacity:
            self.decoder.resize(slots, capacity)

    def forget(self) -> None:
        """Give up every kept row."""
        self.rows.clear()

    def release(self) -> None:
        """Give up every kept row and the memory for them."""
        self.rows.resize(0)
        self.decoder.resize(0, 0)


def pads_exactly(model: Any) -> bool:
    """Whether padding on the left changes nothing: attention masks it out; a recurrent state or a biased convolution
    may have read it, so such models are given prompts of one length at a time."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["attention"])
    attends = getattr(config, "num_attention_heads", None) is not None and not hasattr(config, "state_size")
    recurrent = {kind for kind in kinds if "attention" not in kind or "linear" in kind}
    return attends and (not recurrent or (recurrent == {"conv"} and not getattr(config, "conv_bias", False)))


def run_generate(
    model: Any, prompts: Sequence[Sequence[int]], answers: Answers, counts: TokenCounts, pad_id: int
) -> None:
    """Fill in `answers` with the model's own `generate`, everything read again, prompts padded on the left."""
    import torch
    from transformers import GenerationConfig, StoppingCriteriaList
    from transformers.generation.logits_process import LogitsProcessorList

    width, items = max(map(len, prompts)), range(len(prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])

    def force(_: Any, logits: torch.Tensor) -> torch.Tensor:
        answers.draw(items, logits[:, None])
        tokens = torch.tensor([answers.ids[item][-1] for item in items], device=logits.device)
        return torch.full_like(logits, float("-inf")).scatter_(-1, tokens[:, None], 0.0)

    def finished(sequences: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.full((len(sequences),), answers.done, dtype=torch.bool, device=sequences.device)

    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, num_beams=1, repetition_penalty=1.0, max_new_tokens=max(answers.limits), pad_token_id=pad_id
    )
    training, defaults = model.training, model.generation_config
    model.eval()
    model.generation_config = config  # else the checkpoint's own sampling settings and stop tokens would join in
    try:
        model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList([force]),
            stopping_criteria=StoppingCriteriaList([finished]),
        )
    finally:
        model.generation_config = defaults
        model.train(training)
    counts.prefilled += sum(map(len, prompts))
    counts.generated += sum(map(len, answers.ids))
