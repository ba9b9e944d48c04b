"""What is trained, shared out among processes (FSDP2: `torch.distributed.fsdp.fully_shard`), and whole again where a
sampler or a checkpoint needs it.

All functions that make something whole talk to all processes, so that each of them has to call them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Whole:
    """A state with whole tensors, for those who ask a module or an optimizer for it."""

    state: Mapping[str, Any]

    def state_dict(self) -> Mapping[str, Any]:
        return self.state


@dataclass(frozen=True)
class WholeModel:
    """A model that is shared out, with whole weights for those who save it."""

    model: Any
    weights: Mapping[str, Any]

    def save_pretrained(self, folder: Path) -> None:
        """As the model's own."""
        self.model.save_pretrained(folder, state_dict=dict(self.weights))


class WithLoss(nn.Module):
    """A model whose forward pass is a loss, so that what is shared out is made whole for all of the pass."""

    def __init__(self, model: Any, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *inputs: Any) -> Any:
        return self.loss(self.model, *inputs)


def share_out(network: nn.Module, device: torch.device, processes: int) -> None:
    """Splits every weight among the processes, in place: each layer of a `transformers` model by itself, so that only
    one has to be whole at a time, and the rest together."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (processes,))
    names = {name for module in network.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    for layer in [module for module in network.modules() if type(module).__name__ in names]:
        fully_shard(layer, mesh=mesh)
    fully_shard(network, mesh=mesh)
    for module in network.modules() if device.type == "cpu" else ():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no mean
    if hasattr(network, "values"):  # the critic's, asked for without the policy's
        register_fsdp_forward_method(network, "values")


def whole(tensor: Tensor) -> Tensor:
    """The tensor with the shares of all processes; itself where it is not shared out."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(module: nn.Module) -> Whole:
    """A module's weights."""
    return Whole({name: whole(tensor.detach()) for name, tensor in module.state_dict().items()})


def whole_optimizer(optimizer: torch.optim.Optimizer) -> Whole:
    """An optimizer's state."""
    saved = optimizer.state_dict()
    state = {
        index: {key: whole(value) if isinstance(value, Tensor) else value for key, value in values.items()}
        for index, values in saved["state"].items()
    }
    return Whole({**saved, "state": state})


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Gives a whole module the weights of one that is shared out."""
    places = target.state_dict()
    with torch.no_grad():
        for name, tensor in source.state_dict().items():
            places[name].copy_(whole(tensor))


def take_weights(target: nn.Module, source: Mapping[str, Tensor]) -> None:
    """Gives a module that is shared out whole weights by their names; of tied ones the source has one name."""
    with torch.no_grad():
        for name, tensor in target.state_dict().items():
            if name in source:
                tensor.copy_(_share_of(source[name], tensor))


@dataclass(frozen=True)
class SharedOptimizer:
    """Takes over whole states for an optimizer whose parameters are shared out, or not."""

    optimizer: torch.optim.Optimizer

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Raises: ValueError, as the optimizer does, where the state is of other parameters."""
        parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        state = {
            index: {key: _share_of(value, parameters[index]) for key, value in values.items()}
            for index, values in saved["state"].items()
            if index < len(parameters)
        }
        self.optimizer.load_state_dict({**saved, "state": state})


def _share_of(value: Any, parameter: Tensor) -> Any:
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
