"""Preference pairs for DPO: of two episodes of one task, the one that succeeded is preferred to the one that failed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamgym_env.domain import load_domain
from dreamgym_env.types import DataError, Split, Trajectory

from .agent import AgentChat
from .sft_data import demonstration_rollout, example_of
from .supervised import Example


@dataclass(frozen=True)
class Pair:
    """Two whole episodes of one task as token ids, with weight 1 on the response tokens that count."""

    chosen: Example
    rejected: Example


@dataclass(frozen=True)
class Pairs:
    """Pairs of training and of held-out tasks, and what gave none. Held-out tasks are never trained on."""

    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    tasks: int = 0
    """Tasks with both a success and a failure."""
    never_succeeded: int = 0
    """Tasks whose episodes all failed."""
    never_failed: int = 0
    """Tasks whose episodes all succeeded."""
    broken: int = 0
    """Episodes left out because they say nothing of the policy (`types.BROKEN`) or have no step."""
    too_long: int = 0
    """Episodes left out because they have more than `max_tokens` tokens."""


@dataclass
class _Task:
    """A task's episodes: those that succeeded, those that failed."""

    split: Split
    successes: list[Example]
    failures: list[Example]


def load_pairs(
    tokenizer: Any,
    trajectories: Iterable[Trajectory],
    pairs_per_task: int,
    max_tokens: int,
    skip_impossible: bool,
    seed: int,
) -> Pairs:
    """Encodes the episodes and pairs each task's successes with its failures.

    Of all pairs of a task at most `pairs_per_task` are drawn, each at most once. `skip_impossible` takes responses with
    an impossible action out of the preferred episode's log-probability (they are shown, and still count against the
    rejected one).

    Raises:
        DataError: no training task has both a success and a failure.
    """
    tasks, chats, counts = dict[tuple[str, str], _Task](), dict[str, AgentChat](), {"broken": 0, "too_long": 0}
    for trajectory in trajectories:
        task = trajectory.task
        if trajectory.broken or not trajectory.transitions:
            counts["broken"] += 1
            continue
        if task.domain not in chats:
            chats[task.domain] = AgentChat(tokenizer, load_domain(task.domain).agent_instruction)
        skip = skip_impossible and trajectory.success
        example = example_of(demonstration_rollout(chats[task.domain], trajectory, skip))
        if len(example) > max_tokens:
            counts["too_long"] += 1
            continue
        found = tasks.setdefault((task.domain, task.task_id), _Task(task.split, [], []))
        (found.successes if trajectory.success else found.failures).append(example)
    rng = random.Random(seed)
    drawn = [(one.split, pair) for one in tasks.values() for pair in _draw(one, pairs_per_task, rng)]
    counts |= {
        "tasks": sum(bool(one.successes and one.failures) for one in tasks.values()),
        "never_succeeded": sum(not one.successes for one in tasks.values()),
        "never_failed": sum(not one.failures for one in tasks.values()),
    }
    train = tuple(pair for split, pair in drawn if split != "held_out")
    if not train:
        raise DataError(
            f"`trajectories` must hold a success and a failure of one and the same training task, got none; {counts}"
        )
    return Pairs(train, tuple(pair for split, pair in drawn if split == "held_out"), **counts)


def _draw(task: _Task, count: int, rng: random.Random) -> list[Pair]:
    """At most `count` different pairs of a success and a failure, none twice."""
    width = len(task.failures)
    possible = len(task.successes) * width
    numbers = rng.sample(range(possible), min(count, possible))
    return [Pair(task.successes[number // width], task.failures[number % width]) for number in numbers]


def rows(pairs: Sequence[Pair]) -> list[dict[str, list[int]]]:
    """The pairs as rows of a `datasets.Dataset`."""
    return [
        {
            "chosen_ids": pair.chosen.ids.tolist(),
            "chosen_mask": pair.chosen.weights.astype(np.int64).tolist(),
            "rejected_ids": pair.rejected.ids.tolist(),
            "rejected_mask": pair.rejected.weights.astype(np.int64).tolist(),
        }
        for pair in pairs
    ]


@dataclass(frozen=True)
class PairCollator:
    """Rows as the batch that TRL's `DPOTrainer` reads: the chosen episodes, then the rejected ones, padded behind.

    `input_ids`, `attention_mask` and `completion_mask` are int64 (2B, T). TRL's own collator marks all that follows one
    prompt as completion; here the mask has a run of ones for each response, so that what the environment says between
    them has no log-probability.
    """

    pad_token_id: int

    def __call__(self, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        kinds = ("chosen", "rejected")
        ids = [row[f"{kind}_ids"] for kind in kinds for row in found]
        masks = [row[f"{kind}_mask"] for kind in kinds for row in found]
        longest = max(map(len, ids))

        def padded(lists: Sequence[Sequence[int]], fill: int) -> Any:
            return torch.tensor([[*one, *[fill] * (longest - len(one))] for one in lists])

        batch = {
            "input_ids": padded(ids, self.pad_token_id),
            "attention_mask": padded([[1] * len(one) for one in ids], 0),
            "completion_mask": padded(masks, 0),
        }
        references = ("ref_chosen_logps", "ref_rejected_logps")
        return batch | {name: torch.tensor([row[name] for row in found]) for name in references if name in found[0]}
