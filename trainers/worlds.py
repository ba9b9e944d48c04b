"""The bundled worlds by name: a dream, the real environment that it dreams of, and what the commands do there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WorldName = Literal["webshop", "alfworld", "web"]


@dataclass(frozen=True)
class DemoSizes:
    """What `dreamgym demo` takes on in a world. Two CPU cores are counted on."""

    minutes: float = 8.0
    """Time for everything."""
    episodes: int = 200
    """Held-out tasks of the first and the last evaluation for real."""
    dream_episodes: int = 80
    """At most so many of them are also evaluated in the dream."""
    curve_episodes: int = 60
    """Held-out tasks of the evaluations in between."""
    curve_every: int = 4
    """Updates between evaluations."""
    tasks_per_update: int = 8
    """Groups in each update."""


@dataclass(frozen=True)
class World:
    """One environment family as the commands know it."""

    title: str
    domain: str
    """Whose checkpoints and presets are taken."""
    dream: str
    """Gymnasium id of the dream."""
    real: str
    """Gymnasium id of the real environment."""
    real_settings: tuple[str, ...] = ()
    """Keywords of `gym.make` for the real one, as name=value."""
    demo: DemoSizes = DemoSizes()
    """Sizes of its demo."""


WORLDS: dict[str, World] = {
    "webshop": World("WebShop", "webshop", "DreamGym-WebShop-v0", "Real-WebShop-v0"),
    "alfworld": World(
        "ALFWorld",
        "alfworld",
        "DreamGym-ALFWorld-v0",
        "Real-ALFWorld-v0",
        ("games=100",),
        DemoSizes(minutes=15.0, episodes=100, dream_episodes=40, curve_episodes=40, curve_every=8),
    ),
    "web": World(
        "MiniWoB++",
        "miniwob",
        "DreamGym-MiniWoB-v0",
        "Real-MiniWoB-v0",
        ("task=plain",),
        DemoSizes(minutes=12.0, episodes=100, dream_episodes=80, curve_episodes=50, curve_every=8, tasks_per_update=48),
    ),
}
"""By name."""
