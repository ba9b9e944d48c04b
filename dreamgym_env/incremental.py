"""`IncrementalDecoder`: exact decoding of ragged rows over a `transformers` model's own weights, past tokens kept.

It serves LFM2 (short convolution and attention) and the Llama family. Each layer keeps one value per position: keys
and values where it attends, the convolution's input where it convolves. So any prefix of a row can be taken up again,
and rows of different lengths need no padding. Letters: S tokens fed, R rows (slots), T positions, H width, D head
width, N heads, K key-value heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamgym_env.decoder_weights import Layer, fuses, matrix, obstacle, read_layers

if TYPE_CHECKING:
    import torch

    Attend = Callable[[Layer, torch.Tensor], torch.Tensor]

PREFILL_TOKENS, GPU_PREFILL_TOKENS = 512, 4096
"""Tokens fed at once while reading: bounds the working memory without costing speed."""


class IncrementalDecoder:
    """Reads and extends rows, each in its slot. Not thread-safe; call it under `torch.inference_mode()`.

    `lengths` (R,) counts the positions that each slot holds; set it lower to go back to a prefix.
    """

    def __init__(self, model: Any) -> None:
        problem = obstacle(model)
        if problem:
            raise ValueError(f"`model` must be an LFM2 or Llama-like model without extras, got {problem}")
        self.model = model
        self.lengths = np.zeros(0, dtype=np.int64)
        self.capacity = 0
        config, decoder = model.config, model.get_decoder()
        self.device = decoder.embed_tokens.weight.device
        self.dtype = decoder.embed_tokens.weight.dtype
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads or self.heads
        self.head_width = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.layers: list[Layer] = []
        self.embedding: torch.Tensor = decoder.embed_tokens.weight.detach()
        self.read_weights()

    def read_weights(self) -> None:
        """Take the model's weights as they are now. Kept values stay: set `lengths` to 0 if the weights changed."""
        decoder = self.model.get_decoder()
        pasts = [layer.past for layer in self.layers] or [None] * len(decoder.layers)
        self.layers = read_layers(self.model)
        for layer, past in zip(self.layers, pasts, strict=True):
            layer.past = past
        self.embedding = decoder.embed_tokens.weight.detach()
        self.norm_out = getattr(decoder, "embedding_norm", None) or decoder.norm
        self.eps = self.norm_out.variance_epsilon
        self.norm_out = self.norm_out.weight.detach()
        self.head = matrix(self.model.lm_head.weight, fuses(self.model))
        self.rope: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def bytes_per_token(self) -> int:
        """What one kept position costs, in bytes."""
        attended = sum(layer.taps is None for layer in self.layers)
        numbers = attended * 2 * self.kv_heads * self.head_width
        numbers += (len(self.layers) - attended) * self.embedding.shape[1]
        return int(numbers * self.embedding.element_size())

    def resize(self, rows: int, positions: int) -> None:
        """Room for `rows` slots of `positions` tokens each. What fits in both the old and the new room is kept."""
        import torch

        kept = min(rows, len(self.lengths))
        for layer in self.layers:
            old = layer.past
            if layer.taps is None:
                shape: tuple[int, ...] = (2, rows, self.kv_heads, positions, self.head_width)
            else:
                shape = (rows, len(layer.taps) - 1 + positions, layer.taps.shape[1])
            layer.past = torch.zeros(shape, device=self.device, dtype=self.dtype)
            if old is not None and kept:
                span = min(self.capacity, positions)
                _region(layer, layer.past, slice(0, kept), span).copy_(_region(layer, old, slice(0, kept), span))
        lengths = np.zeros(rows, dtype=np.int64)
        lengths[:kept] = np.minimum(self.lengths[:kept], positions)
        self.lengths, self.capacity = lengths, positions

    def copy(self, source: int, target: int, length: int) -> None:
        """Make the first `length` positions of slot `target` those of slot `source`."""
        for layer in self.layers:
            rows = slice(target, target + 1), slice(source, source + 1)
            _region(layer, layer.past, rows[0], length).copy_(_region(layer, layer.past, rows[1], length))
        self.lengths[target] = length

    def swap(self, one: int, other: int) -> None:
        """Exchange what two slots hold."""
        length = int(max(self.lengths[one], self.lengths[other]))
        for layer in self.layers:
            first = _region(layer, layer.past, slice(one, one + 1), length)
            second = _region(layer, layer.past, slice(other, other + 1), length)
            spare = first.clone()
            first.copy_(second)
            second.copy_(spare)
        self.lengths[[one, other]] = self.lengths[[other, one]]

    def extend(self, slots: Sequence[int], tails: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read a non-empty tail of token ids into each (distinct) slot; logits (len(slots), V) after each last token.

        The room must suffice: see `resize`.
        """
        import torch

        last = torch.empty(len(slots), self.embedding.shape[1], device=self.device, dtype=self.dtype)
        budget = GPU_PREFILL_TOKENS if self.device.type == "cuda" else PREFILL_TOKENS
        for pieces in _chunks(slots, tails, self.lengths, budget):
            ids = torch.tensor([token for piece in pieces for token in piece.ids], device=self.device)
            rows = np.concatenate([np.full(len(piece.ids), piece.slot) for piece in pieces])
            positions = np.concatenate([np.arange(piece.start, piece.start + len(piece.ids)) for piece in pieces])
            ends = torch.from_numpy(np.cumsum([len(piece.ids) for piece in pieces]) - 1).to(self.device)
            with _without_plans():
                hidden = self._forward(ids, rows, positions, self._attend_pieces(pieces), ends)
            last[[piece.index for piece in pieces]] = hidden
            for piece in pieces:
                self.lengths[piece.slot] = piece.start + len(piece.ids)
        return self._logits(last)

    def step(self, first: int, tokens: torch.Tensor) -> torch.Tensor:
        """Feed as many tokens to each of the slots `first`, `first + 1`, ...: tokens (n, k) to logits (n, k, V).

        Where only the first of the k turn out to be wanted, set `lengths` back to them.
        """
        count, new = tokens.shape
        positions = self.lengths[first : first + count, None] + np.arange(new)
        rows = np.arange(first, first + count).repeat(new)
        attend = self._attend_window(first, positions)
        with _without_plans():
            hidden = self._forward(tokens.flatten(), rows, positions.reshape(-1), attend)
        self.lengths[first : first + count] += new
        return self._logits(hidden).view(count, new, -1)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        import torch

        hidden = torch.nn.functional.rms_norm(hidden, hidden.shape[-1:], self.norm_out, self.eps)
        return hidden @ self.head

    def _forward(
        self, ids: torch.Tensor, rows: Any, positions: Any, attend: Attend, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Hidden states (S, H) of tokens (S,) at the given slots and positions, both (S,); their values are kept.

        With `wanted`, indices into S, only those tokens go through the last layer's second half and come back.
        """
        import torch

        rms_norm, silu = torch.nn.functional.rms_norm, torch.nn.functional.silu
        where = torch.from_numpy(rows).to(self.device), torch.from_numpy(positions).to(self.device)
        cos, sin = self._rotations(where[1], int(positions.max()) + 1)
        hidden = self.embedding[ids]
        width = hidden.shape[-1:]
        for layer in self.layers:
            mixed = _apply(rms_norm(hidden, width, layer.norm_in, self.eps), layer.entry, layer.entry_bias)
            if layer.taps is None:
                mixed = self._attention(layer, mixed, where, cos, sin, attend)
            else:
                mixed = _convolution(layer, layer.taps, mixed, where)
            if wanted is not None and layer is self.layers[-1]:
                mixed, hidden = mixed[wanted], hidden[wanted]
            hidden = hidden + _linear(mixed, layer.exit, layer.exit_bias)
            gates = _apply(rms_norm(hidden, width, layer.norm_mid, self.eps), layer.gate_up, layer.gate_up_bias)
            gate, up = gates.chunk(2, dim=-1)
            hidden = hidden + _linear(silu(gate).mul_(up), layer.down, layer.down_bias)
        return hidden

    def _attention(
        self, layer: Layer, mixed: torch.Tensor, where: Any, cos: torch.Tensor, sin: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        import torch

        heads = mixed.view(len(mixed), -1, self.head_width)  # (S, N + 2K, D)
        turned = heads[:, : self.heads + self.kv_heads]
        if layer.head_norm is not None:
            turned = torch.nn.functional.rms_norm(turned, turned.shape[-1:], None, self.eps) * layer.head_norm
        turned = torch.addcmul(turned * cos, turned.roll(self.head_width // 2, -1), sin)
        rows, positions = where
        values = heads[:, self.heads + self.kv_heads :]
        layer.past[:, rows, :, positions] = torch.stack([turned[:, self.heads :], values], 1)
        return attend(layer, turned[:, : self.heads])

    def _rotations(self, positions: torch.Tensor, needed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and signed sines, (S, 1, D): rotating is then `x * cos + roll(x, D / 2) * sin`."""
        import torch

        if self.rope is None or len(self.rope[0]) < needed:
            every = torch.arange(max(needed, self.capacity), device=self.device)[None]
            cos, sin = self.model.get_decoder().rotary_emb(self.embedding[:1], every)
            half = sin.shape[-1] // 2
            signed = torch.cat([-sin[..., :half], sin[..., half:]], -1)
            self.rope = cos[0, :, None], signed[0, :, None]
        return self.rope[0][positions], self.rope[1][positions]

    def _attend_window(self, first: int, positions: Any) -> Attend:
        """Attention of the new tokens of neighbouring slots, at `positions` (n, k). A group's heads act as queries."""
        import torch

        (count, new), longest = positions.shape, int(positions.max()) + 1
        group = self.heads // self.kv_heads
        mask = None
        if int(positions.min()) + 1 < longest:
            ends = torch.from_numpy(positions).to(self.device)[..., None]
            seen = torch.arange(longest, device=self.device) <= ends
            mask = torch.zeros(seen.shape, device=self.device, dtype=self.dtype).masked_fill_(~seen, float("-inf"))
            mask = mask[:, None, None].expand(-1, 1, group, -1, -1).flatten(2, 3)  # (n, 1, group * k, longest)

        def attend(layer: Layer, query: torch.Tensor) -> torch.Tensor:
            keys, values = layer.past[:, first : first + count, :, :longest]
            query = query.reshape(count, new, self.kv_heads, group, self.head_width).permute(0, 2, 3, 1, 4)
            query = query.flatten(2, 3)  # (n, K, group * k, D)
            mixed = torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            mixed = mixed.reshape(count, self.heads, new, self.head_width).transpose(1, 2)
            return mixed.reshape(count * new, -1)

        return attend

    def _attend_pieces(self, pieces: Sequence[_Piece]) -> Attend:
        """Causal attention of several new tokens per row, row by row, so that no length is padded."""
        import torch

        group = self.heads // self.kv_heads
        masks = []
        for piece in pieces:
            new, total = len(piece.ids), piece.start + len(piece.ids)
            mask = torch.full((new, total), float("-inf"), device=self.device, dtype=self.dtype).triu_(piece.start + 1)
            masks.append(mask.repeat(group, 1))  # (group * new, total)

        def attend(layer: Layer, query: torch.Tensor) -> torch.Tensor:
            mixed, begin = [], 0
            for piece, mask in zip(pieces, masks, strict=True):
                new = len(piece.ids)
                keys, values = layer.past[:, piece.slot : piece.slot + 1, :, : mask.shape[1]]
                part = query[begin : begin + new].view(new, self.kv_heads, group, self.head_width)
                part = part.permute(1, 2, 0, 3).reshape(1, self.kv_heads, group * new, self.head_width)
                part = torch.nn.functional.scaled_dot_product_attention(part, keys, values, attn_mask=mask)
                part = part.reshape(self.heads, new, self.head_width).transpose(0, 1)
                mixed.append(part.reshape(new, -1))
                begin += new
            return torch.cat(mixed)

        return attend


@contextmanager
def _without_plans() -> Iterator[None]:
    """Attention by other kernels than cuDNN's, which makes a plan for every new length: here each call has one."""
    import torch

    allowed = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(allowed)


@dataclass(frozen=True)
class _Piece:
    """Part of a tail: the `index` of its row in the call, its slot, where it starts and its ids."""

    index: int
    slot: int
    start: int
    ids: Sequence[int]


def _chunks(slots: Sequence[int], tails: Sequence[Sequence[int]], lengths: Any, budget: int) -> Iterator[list[_Piece]]:
    pieces: list[_Piece] = []
    room = budget
    for index, (slot, tail) in enumerate(zip(slots, tails, strict=True)):
        start, begin = int(lengths[slot]), 0
        while begin < len(tail):
            ids = tail[begin : begin + room]
            pieces.append(_Piece(index, slot, start + begin, ids))
            begin, room = begin + len(ids), room - len(ids)
            if not room:
                yield pieces
                pieces, room = [], budget
    if pieces:
        yield pieces


def _convolution(layer: Layer, taps: torch.Tensor, mixed: torch.Tensor, where: Any) -> torch.Tensor:
    """LFM2's gated short convolution: the inputs of the last positions come from what was kept. (S, 3H) to (S, H)."""
    rows, positions = where
    before, after, value = mixed.chunk(3, dim=-1)
    value = before * value
    reach = len(taps) - 1
    layer.past[rows, positions + reach] = value
    total = value * taps[reach]
    for tap in range(reach):
        total.addcmul_(layer.past[rows, positions + tap], taps[tap])
    if layer.taps_bias is not None:
        total += layer.taps_bias
    return after * total


def _region(layer: Layer, past: torch.Tensor, rows: slice, length: int) -> torch.Tensor:
    if layer.taps is None:
        return past[:, rows, :, :length]
    return past[rows, : len(layer.taps) - 1 + length]


def _linear(x: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return x @ matrix if bias is None else x @ matrix + bias


def _apply(x: torch.Tensor, matrices: tuple[torch.Tensor, ...], biases: tuple[torch.Tensor, ...]) -> torch.Tensor:
    import torch

    parts = [_linear(x, matrix, biases[i] if biases else None) for i, matrix in enumerate(matrices)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
