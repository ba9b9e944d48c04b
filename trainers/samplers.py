"""Processes that play, each on a device of its own, all of them at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from dreamgym_env.types import DreamGymError

Job = Callable[..., Any]
RunJobs = Callable[[Job, Sequence[tuple[Any, ...]]], Iterator[Any]]
"""Calls a job with each of several lists of arguments, wherever a process is free; the results as they come."""


@contextmanager
def processes_on(devices: Sequence[str]) -> Iterator[RunJobs]:
    """A process for each device, that sees no other; none where there is only one device: jobs run in this one then.

    Raises:
        DreamGymError: one of them died, as where memory runs out.
    """
    if len(devices) == 1:
        yield lambda job, all_arguments: (job(*arguments) for arguments in all_arguments)
        return
    context = get_context("spawn")
    free = context.Queue()
    for device in devices:
        free.put(device)
    executor = ProcessPoolExecutor(len(devices), context, _take_device, (free, tuple(devices)))

    def run_jobs(job: Job, all_arguments: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        try:
            for future in as_completed([executor.submit(job, *arguments) for arguments in all_arguments]):
                yield future.result()
        except BrokenProcessPool as error:
            raise DreamGymError(
                f"one of {len(devices)} processes that play ended before its time, for want of memory perhaps; what "
                "the others wrote is kept: go on with `resume`, with fewer `samplers` or smaller `num_envs`"
            ) from error

    try:
        yield run_jobs
    finally:
        executor.shutdown(cancel_futures=True)


def _take_device(free: Any, names: Sequence[str]) -> None:
    """Shows this process its own device alone, for the policy and for the dream, before torch looks for devices, and
    leaves others their share of it."""
    device = free.get()
    os.environ.update(visible(device, os.environ.get("CUDA_VISIBLE_DEVICES", "")))
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(0.9 / list(names).count(device))
    else:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // len(names))))


def visible(device: str, seen: str) -> dict[str, str]:
    """The environment variable that shows a process one device alone; `seen` is what it says until now ("" for all).

    Raises:
        ValueError: `device` is none.
    """
    kind, _, number = device.partition(":")
    if device in ("auto", "cuda"):
        return {}
    if device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    if kind != "cuda" or not number.isdecimal():
        raise ValueError(f'`samplers` must be "auto", "cpu", "cuda", "cuda:0", "cuda:1", ..., got {device!r}')
    numbers = seen.split(",") if seen else []
    return {"CUDA_VISIBLE_DEVICES": numbers[int(number)] if int(number) < len(numbers) else number}
