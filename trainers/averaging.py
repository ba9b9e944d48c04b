"""A moving average of a policy's weights over the updates of a run, which is steadier than the weights of any one of
them (Polyak and Juditsky, 1992; Izmailov et al., arXiv:1803.05407)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamgym_env.types import DataError

_UPDATES = "updates"
"""Where a checkpoint's file tells how many were taken in; no parameter is called so."""


@dataclass
class WeightAverage:
    """The mean of the weights after each update, until the window of 1 / (1 - `decay`) updates is full; from then on an
    exponential moving average of that window."""

    decay: float
    updates: int = 0
    """Updates taken in."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    """By the parameters' names, float32; empty before the first update."""

    def take_in(self, model: Any) -> None:
        """Adds the weights that the model has now."""
        share = max(1 - self.decay, 1 / (self.updates + 1))
        for name, parameter in model.named_parameters():
            now = parameter.detach().float()
            kept = self.weights.get(name, now).to(now.device)  # a checkpoint's is read to the CPU
            self.weights[name] = kept.lerp(now, share)
        self.updates += 1

    @contextmanager
    def put_into(self, model: Any) -> Iterator[None]:
        """Inside the block the model has the averaged weights; after it its own again, bit for bit."""
        places = dict(model.named_parameters())
        own = {name: place.detach().clone() for name, place in places.items()}
        _copy(self.weights, places)
        try:
            yield
        finally:
            _copy(own, places)

    def state_dict(self) -> Mapping[str, Tensor]:
        """What a checkpoint keeps."""
        return {**self.weights, _UPDATES: torch.tensor(self.updates)}

    def load(self, file: Path) -> None:
        """Goes on from what a checkpoint kept; begins here where it kept none.

        Raises:
            DataError: the file cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not file.exists():
            return
        try:
            self.weights = load_file(file)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{file} cannot be read: {error}") from error
        self.updates = int(self.weights.pop(_UPDATES))


def _copy(weights: Mapping[str, Tensor], places: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(weights[name])
