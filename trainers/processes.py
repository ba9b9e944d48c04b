"""The processes of one training, as `accelerate launch` starts them: who each is, and what they share."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among `count`; what it does for all of them, all of them have to call."""

    index: int
    count: int
    device: str

    @property
    def is_main(self) -> bool:
        """Whether this is the one that draws the data and writes the files."""
        return self.index == 0

    def sum(self, value: float) -> float:
        """The values of all processes, added up."""
        if self.count == 1:
            return value
        import torch

        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return float(total)

    def sum_gradients(self, weights: Iterable[Any]) -> None:
        """Gives each weight the gradients of all processes, added up; one without a gradient adds nothing."""
        import torch

        weights = [one for one in weights if one.requires_grad]
        for one in weights:
            one.grad = torch.zeros_like(one) if one.grad is None else one.grad
        under_way = [torch.distributed.all_reduce(one.grad, async_op=True) for one in weights]
        for one in under_way:
            one.wait()

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` gives in the main process."""
        if self.count == 1:
            return make()
        import torch

        made = [make() if self.is_main else None]
        torch.distributed.broadcast_object_list(made, device=torch.device(self.device))
        return made[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            import torch

            torch.distributed.barrier()


def join(device: str) -> Processes:
    """This process among those that were launched with it; alone where nothing was launched.

    Raises:
        ValueError: torch knows no such device.
    """
    from dreamgym_env.checkpoints import device_named

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(0, 1, device_named(device))
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    leave_at_exit()
    return Processes(state.process_index, state.num_processes, str(state.device))


def leave_at_exit() -> None:
    """Has this process end the group of processes, where there is one, before it ends itself: the group's threads would
    else abort it (exit -6)."""
    atexit.register(_leave)


def _leave() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
