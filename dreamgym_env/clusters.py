"""Clusters of similar tasks in embedding space, where an algorithm has no groups of its own (Section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dreamgym_env.encoders import Encoder, state_action_text
from dreamgym_env.hashed_encoder import Vectors, unit
from dreamgym_env.types import Task


def cluster_tasks(tasks: Sequence[Task], encoder: Encoder, size: int) -> list[list[int]]:
    """Indices of tasks in clusters of about `size` with similar instructions, each cluster in ascending order.

    No cluster has a single member where there are two tasks or more: one outcome has no variance.

    Raises:
        ValueError: `size` < 2.
    """
    if size < 2:
        raise ValueError(f"`size` must be >= 2: one outcome has no variance, got {size}")
    if not tasks:
        return []
    vectors = encoder.encode([state_action_text("", task.instruction) for task in tasks])
    labels, centres = k_means(vectors, max(1, round(len(tasks) / size)))
    for index in range(len(tasks)):
        if len(centres) > 1 and (labels == labels[index]).sum() == 1:
            closeness = centres @ vectors[index]
            closeness[[label for label in range(len(centres)) if label == labels[index] or label not in labels]] = -2
            labels[index] = closeness.argmax()
    clusters = [np.flatnonzero(labels == label).tolist() for label in range(len(centres))]
    return [cluster for cluster in clusters if cluster]


def k_means(vectors: Vectors, k: int, rounds: int = 50) -> tuple[np.ndarray, Vectors]:
    """Spherical k-means of unit vectors [n, d]: each one's label in 0, ..., k - 1 and the unit centres [k, d].

    Deterministic: the first centre is the first vector, each further one the vector least like any centre before.

    Raises:
        ValueError: not 1 <= k <= n.
    """
    if not 1 <= k <= len(vectors):
        raise ValueError(f"`k` must be in [1, {len(vectors)}], got {k}")
    chosen = [0]
    while len(chosen) < k:
        chosen.append(int((vectors @ vectors[chosen].T).max(axis=1).argmin()))
    centres, labels = vectors[chosen].copy(), np.full(len(vectors), -1)
    for _ in range(rounds):
        nearest = (vectors @ centres.T).argmax(axis=1)
        if (nearest == labels).all():
            break
        labels = nearest
        for label in set(labels.tolist()):
            centres[label] = unit(vectors[labels == label].sum(axis=0, keepdims=True))[0]
    return labels, centres
