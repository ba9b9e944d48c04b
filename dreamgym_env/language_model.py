"""Language models that complete chats: `TransformersModel` here, `ChatModel` (any endpoint) beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dreamgym_env.chat_model import ChatModel
from dreamgym_env.checkpoints import load_checkpoint
from dreamgym_env.decoding import Answers, PrefixEngine, TokenCounts, pads_exactly, run_generate
from dreamgym_env.types import Completion, Conversation, LanguageModel, ModelError, Sampling

if TYPE_CHECKING:
    import torch

__all__ = ["ChatModel", "LanguageModel", "TransformersModel", "load_language_model"]

CACHE_BYTES = 2 << 30
MAX_BATCH, GPU_MAX_BATCH = 128, 1024
"""On a GPU a step of a small model takes as long for a thousand rows as for one."""


class TransformersModel:
    """A causal language model of `transformers` with a chat template.

    What has been read is kept between calls: a prompt that begins with an earlier prompt and its answer is read from
    there on. This needs LFM2 or a Llama-like architecture (`keeps_prefixes` tells); others re-read with `generate`.
    Not thread-safe.

    Args:
        model: the `transformers` model. It may be trained in place: kept values are dropped when its weights change.
        tokenizer: its tokenizer, with a chat template if conversations are to be completed.
        max_context: tokens of prompt and answer together; None is what the model's config says.
        keep_prefix: whether to keep what has been read.
        max_batch: prompts that are decoded together, at most; None is 128, or on a GPU 1,024.
        cache_bytes: memory for kept rows; None is 2 GiB, or on a GPU a third of what this process may still take there
            at the first call: policy and experience model keep as much each, and reading takes some too.
        max_cached_rows: rows kept, at most; None is twice `max_batch`.
        seed: of the model's own random numbers.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_context: int | None = None,
        keep_prefix: bool = True,
        max_batch: int | None = None,
        cache_bytes: int | None = None,
        max_cached_rows: int | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("max_batch", max_batch), ("max_cached_rows", max_cached_rows)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be >= 1 or None, got {value}")
        self._model, self._tokenizer = model, tokenizer
        self.max_context = max_context or _config_context(model)
        self.keep_prefix, self.cache_bytes = keep_prefix, cache_bytes
        self.max_batch = max_batch or (GPU_MAX_BATCH if self.device.type == "cuda" else MAX_BATCH)
        self.max_cached_rows = max_cached_rows or 2 * self.max_batch
        self.counts = TokenCounts()
        self.stop_ids = _stop_ids(model, tokenizer)
        self._engine: PrefixEngine | None = None
        self._versions: tuple[int, ...] = ()
        self.seed(seed)

    @classmethod
    def load(
        cls,
        path: str,
        *,
        dtype: str = "auto",
        device: str = "auto",
        device_map: Any = None,
        merge_adapter: bool = True,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> TransformersModel:
        """The checkpoint at `path`: a folder, a folder with a LoRA adapter, or on the hub. Safetensors only.

        Args:
            path: where it is; on the hub "org/name" or "hf:org/name".
            dtype: "auto" (bfloat16 on a GPU, float32 on a CPU), "float32", "bfloat16" or "float16".
            device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", ...
            device_map: given to `transformers` to spread a large model ("auto"); `device` is then ignored.
            merge_adapter: fold an adapter into the weights, which decodes faster; False to go on training it.
            trust_remote_code: run code that comes with the checkpoint.
            options: further arguments of `TransformersModel`.

        Raises:
            ModelError: it cannot be loaded; the message says which file and what to do.
        """
        model, tokenizer = load_checkpoint(path, dtype, device, device_map, merge_adapter, trust_remote_code)
        return cls(model, tokenizer, **options)

    @property
    def model(self) -> Any:
        """The `transformers` model."""
        return self._model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        """Where its first weights are."""
        device: torch.device = next(self._model.parameters()).device
        return device

    @property
    def keeps_prefixes(self) -> bool:
        """Whether this model is decoded with kept prefixes."""
        from dreamgym_env.decoder_weights import obstacle

        return self.keep_prefix and obstacle(self._model) is None

    def seed(self, seed: int) -> None:
        """Start the random numbers of sampling anew."""
        import torch

        self._generator = torch.Generator().manual_seed(seed)

    def encode(self, conversation: Conversation, add_generation_prompt: bool = True) -> list[int]:
        """The token ids of a conversation under the chat template."""
        return self._encode_all([conversation], add_generation_prompt)[0]

    def _encode_all(self, conversations: Sequence[Conversation], add_generation_prompt: bool = True) -> list[list[int]]:
        if not getattr(self._tokenizer, "chat_template", None):
            raise ModelError(
                "the tokenizer has no chat template: set `tokenizer.chat_template` (Jinja) or use a chat model"
            )
        texts = self._tokenizer.apply_chat_template(
            [[dict(message) for message in conversation] for conversation in conversations],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
        ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        """One completion for each conversation, in order, with token ids and log-probabilities."""
        return self.generate(self._encode_all(conversations), sampling) if conversations else []

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, stop_ids: Iterable[int] | None = None
    ) -> list[Completion]:
        """Answers to prompts of token ids, in order.

        The token that ended an answer is in its `token_ids` and not in its `text`. `logprobs` are taken at the
        sampling temperature (1 where greedy) before `top_p` cuts the distribution.

        Args:
            prompts: token ids. An empty prompt, or one that leaves no room in `max_context`, gives an error value.
            sampling: how to draw. `stop` strings end an answer and are cut off its text.
            stop_ids: tokens that end an answer; None is the model's end-of-turn tokens.
        """
        stops = self.stop_ids if stop_ids is None else frozenset(stop_ids)
        results: list[Completion | None] = [self._refusal(prompt) for prompt in prompts]
        open_ = [item for item, refusal in enumerate(results) if refusal is None]
        while open_:
            batch, open_ = self._split(prompts, open_, sampling)
            drawn = self._generate([prompts[item] for item in batch], sampling, stops)
            for item, completion in zip(batch, drawn, strict=True):
                results[item] = completion
        return [result for result in results if result is not None]

    def forget(self) -> None:
        """Drop everything that was kept of earlier prompts, and free its memory."""
        if self._engine is not None:
            self._engine.release()

    def weights_changed(self) -> None:
        """Read the weights anew before the next call.

        Optimizer steps and `load_state_dict` are noticed without it; writing through `weight.data` and the steps of
        fused optimizers are not.
        """
        self._versions = ()

    def _refusal(self, prompt: Sequence[int]) -> Completion | None:
        if 0 < len(prompt) < self.max_context:
            return None
        found = f"the prompt has {len(prompt)} tokens, the context holds {self.max_context} with the answer"
        return Completion("", "error", error=found, overflow=len(prompt) > 0)

    def _split(
        self, prompts: Sequence[Sequence[int]], items: list[int], sampling: Sampling
    ) -> tuple[list[int], list[int]]:
        """As many prompts as are decoded together, and the rest."""
        size = self.max_batch
        if self.keeps_prefixes:
            longest = max(len(prompts[item]) for item in items) + sampling.max_tokens
            size = min(size, self._prefix_engine().batch_size(min(longest, self.max_context)))
        elif not pads_exactly(self._model):
            length = len(prompts[items[0]])
            size = next((at for at, item in enumerate(items[:size]) if len(prompts[item]) != length), size)
        return items[:size], items[size:]

    def _generate(self, prompts: list[Sequence[int]], sampling: Sampling, stops: frozenset[int]) -> list[Completion]:
        import torch

        limits = [min(sampling.max_tokens, self.max_context - len(prompt)) for prompt in prompts]
        answers = Answers(limits, sampling, stops, self._generator, self.decode)
        with torch.inference_mode():
            if self.keeps_prefixes:
                self._prefix_engine().run(prompts, answers, self.counts)
            else:
                pad_id = self._tokenizer.pad_token_id or 0
                run_generate(self._model, prompts, answers, self.counts, pad_id)
        drawn = [answers.completion(item) for item in range(len(prompts))]
        return [
            replace(one, overflow=len(one.token_ids) == limit < sampling.max_tokens and one.finish_reason == "length")
            for one, limit in zip(drawn, limits, strict=True)
        ]

    def _prefix_engine(self) -> PrefixEngine:
        """The engine, with the weights as they are now."""
        import torch

        from dreamgym_env.incremental import IncrementalDecoder

        versions = tuple(number for weight in self._model.parameters() for number in (id(weight), weight._version))
        if self._engine is None:
            with torch.inference_mode():
                decoder = IncrementalDecoder(self._model)
            self._engine = PrefixEngine(decoder, self.cache_bytes or _cache_bytes(self.device), self.max_cached_rows)
        elif versions != self._versions:
            with torch.inference_mode():
                self._engine.decoder.read_weights()
            self._engine.forget()
        self._versions = versions
        return self._engine


def load_language_model(spec: str, **options: Any) -> LanguageModel:
    """The language model that `spec` names.

    Args:
        spec: "openai:MODEL@URL" or "openai:MODEL" (an endpoint), a folder (a checkpoint), or "hf:org/name" (the hub).
        options: arguments of `ChatModel` or of `TransformersModel.load`.

    Raises:
        ValueError: `spec` has none of these forms.
        ModelError: the model cannot be loaded.
    """
    kind, _, rest = spec.partition(":")
    if kind == "openai" and rest:
        named = re.fullmatch(r"(.+?)@(https?://.+)", rest)
        return ChatModel(named[1], named[2], **options) if named else ChatModel(rest, **options)
    if (kind == "hf" and rest) or os.path.isdir(spec):
        return TransformersModel.load(spec, **options)
    raise ValueError(
        "a language model must be named as 'openai:MODEL@URL', 'openai:MODEL', an existing folder with a checkpoint, "
        f"or 'hf:org/name', got {spec!r}"
    )


def _config_context(model: Any) -> int:
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20)


def _cache_bytes(device: torch.device) -> int:
    import torch

    if device.type != "cuda":
        return CACHE_BYTES
    free, total = torch.cuda.mem_get_info(device)
    mine = round(total * torch.cuda.get_per_process_memory_fraction(device)) - torch.cuda.memory_reserved(device)
    return max(0, min(free, mine)) // 3


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The end-of-turn tokens: the tokenizer's own, and those of the configs that are special tokens of it.

    A config that was never told keeps its class's default id, which may be any word of this vocabulary.
    """
    special = {number for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
    named = {tokenizer.eos_token_id} - {None}
    for config in (model.config, getattr(model, "generation_config", None)):
        ids = getattr(config, "eos_token_id", None)
        named |= special & set(ids if isinstance(ids, (list, tuple)) else [ids])
    return frozenset(named)
