"""`Unicode`: the Gymnasium space of all strings."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Space


class Unicode(Space[str]):
    """Every `str` is a member. `sample()` draws short printable strings; `gymnasium.spaces.Text` would refuse `""`,
    accents and new lines with its defaults."""

    def __init__(self, max_sample_length: int = 32, seed: int | np.random.Generator | None = None) -> None:
        self.max_sample_length = max_sample_length
        super().__init__(shape=None, dtype=None, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        length = int(self.np_random.integers(0, self.max_sample_length + 1))
        return "".join(chr(code) for code in self.np_random.integers(32, 127, length))

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unicode)

    def __repr__(self) -> str:
        return "Unicode()"
