"""The critic of PPO: values of states from hidden states, on the policy's backbone or on one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .batches import logits_at


class Critic(nn.Module):
    """A linear head on hidden states, (B, K, H) to (B, K), that starts with the value 0 for every state.

    Args:
        hidden_size: H.
        backbone: a `transformers` model without its language head (`base_model` of any causal one); None for a head
            that stands on the policy's hidden states.
    """

    def __init__(self, hidden_size: int, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, hidden_BKH: Tensor) -> Tensor:
        """Values in float32, whatever the precision of the hidden states."""
        with torch.autocast(hidden_BKH.device.type, enabled=False):
            values: Tensor = self.head(hidden_BKH.float()).squeeze(-1)
        return values


class ActorCritic(nn.Module):
    """Policy and critic as one module, so that processes share the gradients of both."""

    def __init__(self, policy: Any, critic: Critic) -> None:
        super().__init__()
        self.policy, self.critic = policy, critic

    def forward(self, ids_BT: Tensor, columns_K: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K, V) and values (B, K) at the given columns: the value at t is that of the state in which token
        t + 1 is chosen."""
        if self.critic.backbone is not None:
            return logits_at(self.policy, ids_BT, columns_K), self.values(ids_BT, columns_K)
        with head_inputs(self.policy) as seen:
            logits_BKV = logits_at(self.policy, ids_BT, columns_K)
        hidden = seen[-1]  # of the columns alone, where the policy makes logits for these alone
        return logits_BKV, self.critic(hidden if hidden.shape[1] == len(columns_K) else hidden[:, columns_K])

    def values(self, ids_BT: Tensor, columns_K: Tensor) -> Tensor:
        """Values alone, (B, K); a critic with a backbone of its own then needs no pass of the policy."""
        if self.critic.backbone is None:
            return self.forward(ids_BT, columns_K)[1]
        hidden_BTH = self.critic.backbone(input_ids=ids_BT, use_cache=False).last_hidden_state
        values: Tensor = self.critic(hidden_BTH[:, columns_K])
        return values


@contextmanager
def head_inputs(model: Any) -> Iterator[list[Tensor]]:
    """What the language head of a causal model is given in each pass: the last hidden states, of the columns for which
    logits are made."""
    seen: list[Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def head_size(model: Any) -> int:
    """The width of the hidden states that a causal model's language head is given."""
    return int(model.get_output_embeddings().weight.shape[-1])
