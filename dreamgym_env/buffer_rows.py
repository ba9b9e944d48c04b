"""What the replay buffer knows of each transition beside its text, and how it chooses among neighbours; pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

from dreamgym_env.trajectories import transition_from_record, transition_record
from dreamgym_env.types import DataError, Transition


@dataclass(frozen=True)
class Added:
    """What an addition did, in transitions: `added`, and left out as `duplicates` (id already there), `held_out`,
    `uninformative` (a group that ended all alike) or `broken` (a model error in the episode); `pruned` were dropped
    afterwards to keep the capacity."""

    added: int = 0
    duplicates: int = 0
    held_out: int = 0
    uninformative: int = 0
    broken: int = 0
    pruned: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))


class Row(NamedTuple):
    """A transition without its text. `order` counts additions; `content` is a hash of (state, action, next state)."""

    trajectory_id: str
    task_id: str
    real: bool
    possible: bool
    priority: float
    order: int
    content: str


def metadata_of(trajectory_id: str, transition: Transition, priority: float, order: int) -> dict[str, Any]:
    """The metadata that Chroma keeps of a transition, the whole transition as JSON among it.

    Chroma's own place for text is its documents; there it indexes every three letters, which made adding three times
    slower and which nothing here uses. Each further key costs as well.
    """
    content = "\x00".join((transition.state, transition.action, transition.next_state))
    return {
        "trajectory_id": trajectory_id,
        "task_id": transition.task.task_id,
        "source": transition.source,
        "reward": transition.reward,
        "possible": transition.possible,
        "priority": float(priority),
        "order": order,
        "content": hashlib.blake2b(content.encode(errors="surrogatepass"), digest_size=12).hexdigest(),
        "transition": json.dumps(transition_record(transition)),
    }


def transition_of(transition_id: str, metadata: Mapping[str, Any], place: str) -> Transition:
    """The transition of `metadata_of`'s metadata, but for its `prompt`.

    Raises:
        DataError: there is none; the message names `place`, the store's URI.
    """
    try:
        return transition_from_record(json.loads(metadata["transition"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"row {transition_id!r} of the replay buffer in {place} holds no transition ({error}); delete the store "
            "and seed it again"
        ) from error


def row_of(transition_id: str, metadata: Mapping[str, Any] | None, place: str) -> Row:
    """The row of `metadata_of`'s metadata.

    Raises:
        DataError: a field is missing; the message names `place`, the store's URI.
    """
    try:
        data = metadata or {}
        ids = data["trajectory_id"], data["task_id"]
        return Row(*ids, data["source"] == "real", *(data[key] for key in ("possible", "priority", "order", "content")))
    except KeyError as error:
        raise DataError(
            f"row {transition_id!r} of the replay buffer in {place} has no {error}; this version did not write it: "
            "choose another place, or delete it and seed again"
        ) from error


def choose(neighbours: Iterable[tuple[str, float, bool]], k: int, quota: int) -> tuple[list[tuple[str, float]], bool]:
    """The k nearest of which at least `quota` are real.

    Args:
        neighbours: (id, cosine, real), the nearest first.
        k: at least 1.
        quota: 0 to k.

    Returns:
        Up to k (id, cosine), the nearest first, and whether these neighbours were enough: k chosen, quota met.
    """
    real: list[tuple[str, float]] = []
    others: list[tuple[str, float]] = []
    for one, similarity, is_real in neighbours:
        # Once the quota is full, real and dreamed ones compete alike.
        (real if is_real and len(real) < quota else others).append((one, similarity))
        if len(real) == quota and len(real) + len(others) >= k:
            break
    chosen = sorted(real + others[: k - len(real)], key=lambda pair: -pair[1])
    return chosen, len(real) == quota and len(chosen) == k
