"""Exact cosine search over unit vectors in memory: one matrix product for a batch of queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class ExactIndex:
    """Ids and their unit vectors. Beside HNSW it is exact and repeatable: the same rows in the same order always give
    the same answer (rows of equal cosine: the older one first)."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._vectors: Vectors = np.empty((0, 0), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Appends rows [len(ids), d] of length 1, whose ids are new."""
        if not ids:
            return
        used, needed = len(self._ids), len(self._ids) + len(ids)
        if needed > len(self._vectors):
            grown = np.empty((max(needed, 2 * used, 1024), vectors.shape[1]), dtype=np.float32)
            if used:
                grown[:used] = self._vectors[:used]
            self._vectors = grown
        self._vectors[used:needed] = vectors
        self._ids += ids

    def delete(self, ids: Sequence[str]) -> None:
        """Removes rows; ids that are not there do not matter."""
        gone = set(ids)
        keep = [row for row, one in enumerate(self._ids) if one not in gone]
        self._vectors = self._vectors[keep]
        self._ids = [self._ids[row] for row in keep]

    def query(self, vectors: Vectors, n: int) -> list[list[tuple[str, float]]]:
        """For each row of `vectors` [b, d] the n nearest (id, cosine), best first; fewer where there are fewer.

        Cosines are rounded to 6 places.
        """
        size = len(self._ids)
        n = min(n, size)
        if n == 0:
            return [[] for _ in vectors]
        cosines = vectors @ self._vectors[:size].T
        # The last bits depend on how the product is blocked; rounded, they cannot decide an order.
        np.rint(np.multiply(cosines, 1e6, out=cosines), out=cosines)
        best = np.argpartition(cosines, size - n, axis=1)[:, size - n :]
        best.sort(axis=1)  # with the stable sort below: ties in the order of insertion
        values = np.take_along_axis(cosines, best, axis=1) / 1e6
        order = np.argsort(-values, axis=1, kind="stable")
        rows, sorted_values = np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)
        return [
            [(self._ids[row], value) for row, value in zip(*pair, strict=True)]
            for pair in zip(rows.tolist(), sorted_values.tolist(), strict=True)
        ]
