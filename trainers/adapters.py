"""LoRA adapters (arXiv:2106.09685): frozen weights with a small trained change beside every linear layer."""

from __future__ import annotations

import copy
from typing import Any


def with_adapters(model: Any, rank: int, seed: int | None = None, task: str = "CAUSAL_LM") -> Any:
    """The model with adapters on all of its linear layers, alpha twice the rank; the adapters alone have gradients, and
    at first they change nothing. `seed` makes their beginning repeatable and leaves torch's own draws alone."""
    import torch
    from peft import get_peft_model

    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return get_peft_model(model, lora_config(rank, task))


def lora_config(rank: int, task: str = "CAUSAL_LM") -> Any:
    """What `peft` and TRL are told."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type=task)


def with_same_weights(model: Any) -> Any:
    """Another model on the very tensors of this one, so that adapters on the one leave the other as it is."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def merge_into(adapted: Any, whole: Any) -> None:
    """Gives a model without adapters the weights that the adapted one computes with."""
    import torch
    from peft.tuners.lora import LoraLayer

    places = whole.state_dict()
    with torch.no_grad():
        for name, layer in adapted.get_base_model().named_modules():
            if isinstance(layer, LoraLayer):
                adapter: Any = layer  # a linear layer with adapters; the class that all kinds share has no such method
                change = adapter.get_delta_weight("default")
                places[f"{name}.weight"].copy_(adapter.get_base_layer().weight + change)
