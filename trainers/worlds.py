"""The bundled worlds by name: a dream, the real environment that it dreams of, and how the latter is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WorldName = Literal["webshop", "alfworld"]


@dataclass(frozen=True)
class World:
    """One environment family as the commands know it."""

    title: str
    dream: str
    """Gymnasium id of the dream."""
    real: str
    """Gymnasium id of the real environment."""
    real_settings: tuple[str, ...] = ()
    """Keywords of `gym.make` for the real one, as name=value."""


WORLDS: dict[str, World] = {
    "webshop": World("WebShop", "DreamGym-WebShop-v0", "Real-WebShop-v0"),
    "alfworld": World("ALFWorld", "DreamGym-ALFWorld-v0", "Real-ALFWorld-v0", ("games=100",)),
}
"""Name, which is the domain's too, to world."""
