"""Clusters of similar tasks: who belongs together, that nobody is alone, and the rules of k-means."""

from __future__ import annotations

import numpy as np
import pytest

from dreamgym_env.clusters import cluster_tasks, k_means
from dreamgym_env.encoders import HashedEncoder
from dreamgym_env.hashed_encoder import unit
from dreamgym_env.types import Task


def tasks(*instructions: str) -> list[Task]:
    return [Task(f"t{number}", "webshop", text, "page") for number, text in enumerate(instructions)]


def test_similar_tasks_are_put_together() -> None:
    found = cluster_tasks(
        tasks(
            "Buy a red cotton shirt in size large",
            "Put a clean apple in the fridge",
            "Buy a blue cotton shirt in size small",
            "Put a clean tomato in the fridge",
            "Put a hot apple in the fridge",
            "Buy a green cotton shirt in size medium",
        ),
        HashedEncoder(),
        3,
    )
    assert sorted(found) == [[0, 2, 5], [1, 3, 4]]


def test_nobody_is_alone_and_nobody_is_lost() -> None:
    words = ["shirt", "apple", "lamp", "fridge", "sofa", "knife", "phone"]
    many = tasks(*(f"find the {words[n % 7]} number {n * n % 11}" for n in range(40)), "etwas ganz anderes")
    for size in (2, 5, 8, 100):
        found = cluster_tasks(many, HashedEncoder(), size)
        assert sorted(index for cluster in found for index in cluster) == list(range(41))
        assert min(map(len, found)) >= 2
        assert found == cluster_tasks(many, HashedEncoder(), size)
    assert cluster_tasks(many[:1], HashedEncoder(), 8) == [[0]]
    assert cluster_tasks([], HashedEncoder(), 8) == []
    assert cluster_tasks(tasks(*["the same"] * 20), HashedEncoder(), 4) == [list(range(20))]
    with pytest.raises(ValueError, match="`size` must be >= 2"):
        cluster_tasks(many, HashedEncoder(), 1)


def test_k_means_by_hand() -> None:
    angles = np.radians([0, 10, 90, 100, 200])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    labels, centres = k_means(vectors, 3)
    # The first centre is the vector at 0 degrees, the next the one least like it (200), then 90 (or 100).
    assert labels.tolist() == [0, 0, 2, 2, 1]
    assert np.degrees(np.arctan2(centres[:, 1], centres[:, 0])) % 360 == pytest.approx([5, 200, 95], abs=1e-3)


def test_k_means_ends_where_each_vector_is_nearest_to_its_own_centre() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32))
    labels, centres = k_means(vectors, 7)
    assert ((vectors @ centres.T).argmax(1) == labels).all()
    for label in range(7):
        np.testing.assert_allclose(centres[label], unit(vectors[labels == label].mean(0, keepdims=True))[0], atol=1e-5)
    with pytest.raises(ValueError, match=r"`k` must be in \[1, 200\], got 0"):
        k_means(vectors, 0)
