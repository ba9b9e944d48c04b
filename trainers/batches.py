"""Whole episodes as padded tensors: packing by length, the response mask, and one forward pass over a batch.

Letters as in `losses.py`, and K: the columns of a batch at which any sequence predicts a response token. Logits are
computed at these columns only, since most tokens of an episode are the environment's.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .agent import Rollout


@dataclass(frozen=True)
class Batch:
    """B episodes, padded on the right.

    No attention mask is needed: every bundled architecture is causal, so that padding behind a token cannot reach it.
    """

    ids_BT: Tensor
    columns_K: Tensor
    """Indices t, ascending, where some sequence's token t + 1 is a response token."""
    targets_BK: Tensor
    mask_BK: Tensor
    """True where the target is a response token to learn from."""

    def select(self, rows: Sequence[Sequence[float]]) -> Tensor:
        """One value per token of each episode to the columns of their predictions, (B, K), 0.0 in the padding."""
        length = self.ids_BT.shape[1]
        padded = torch.tensor([[*row, *[0.0] * (length - len(row))] for row in rows], device=self.ids_BT.device)
        return padded[:, self.columns_K + 1]


def make_batch(rollouts: Sequence[Rollout], device: torch.device | str = "cpu") -> Batch:
    """Episodes as one batch. Padding is token 0: its targets are masked."""
    rows, masks = [rollout.token_ids for rollout in rollouts], [rollout.response_mask for rollout in rollouts]
    length = max(len(row) for row in rows)
    ids_BT = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], device=device)
    mask_BT = torch.tensor([[*mask, *[False] * (length - len(mask))] for mask in masks], device=device)
    columns_K = mask_BT[:, 1:].any(0).nonzero().squeeze(1)
    return Batch(ids_BT, columns_K, ids_BT[:, columns_K + 1], mask_BT[:, columns_K + 1])


def response_logits(model: Any, batch: Batch) -> Tensor:
    """The model's logits at the batch's columns, (B, K, V), from one forward pass over whole episodes."""
    return logits_at(model, batch.ids_BT, batch.columns_K)


def logits_at(model: Any, ids_BT: Tensor, columns_K: Tensor) -> Tensor:
    """The model's logits at some columns, (B, K, V)."""
    inner = getattr(model, "module", model)
    inner = inner.get_base_model() if hasattr(inner, "peft_config") else inner
    if "logits_to_keep" in inspect.signature(inner.forward).parameters:
        logits: Tensor = model(input_ids=ids_BT, logits_to_keep=columns_K, use_cache=False).logits
        return logits
    logits = model(input_ids=ids_BT, use_cache=False).logits
    return logits[:, columns_K]


def pack_by_length(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices in batches of similar length, longest first, each with rows x longest <= `token_budget`.

    A sequence longer than the budget gets a batch of its own.

    Raises:
        ValueError: `token_budget` < 1.
    """
    if token_budget < 1:
        raise ValueError(f"`token_budget` must be >= 1 token, got {token_budget}")
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= token_budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Share of padding among all tokens computed, in [0, 1)."""
    computed = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    return 1 - sum(lengths[index] for batch in batches for index in batch) / computed if computed else 0.0
