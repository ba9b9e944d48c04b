"""Where supervised training gets its sequences from, so that a resumed run gets what it would have got."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .supervised import Example


class Supply(Protocol):
    """Pools of training sequences, one after another."""

    def draw(self, tokens: int) -> Sequence[Example]:
        """The next pool, whose sequences are used once each; `tokens` have been trained on so far."""
        ...

    def state(self) -> Any:
        """All that decides what is drawn next, as JSON values."""
        ...

    def restore(self, state: Any) -> None:
        """Takes over what `state` gave."""
        ...


@dataclass(frozen=True)
class StatelessSupply:
    """Pools that depend on nothing but the tokens trained on so far: the same episodes again and again, for example."""

    pool: Callable[[int], Sequence[Example]]

    def draw(self, tokens: int) -> Sequence[Example]:
        return self.pool(tokens)

    def state(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        """There is nothing to take over."""


@dataclass(frozen=True)
class RandomSupply:
    """Pools that a function draws with a generator of its own."""

    pool: Callable[[int], Sequence[Example]]
    rng: random.Random
    """The generator that `pool` draws with."""

    def draw(self, tokens: int) -> Sequence[Example]:
        return self.pool(tokens)

    def state(self) -> Any:
        return random_state(self.rng)

    def restore(self, state: Any) -> None:
        set_random_state(self.rng, state)


def random_state(rng: random.Random) -> list[Any]:
    """The state of a generator as JSON values."""
    version, numbers, gauss = rng.getstate()
    return [version, list(numbers), gauss]


def set_random_state(rng: random.Random, state: Sequence[Any]) -> None:
    """Takes over what `random_state` gave."""
    version, numbers, gauss = state
    rng.setstate((version, tuple(numbers), gauss))
