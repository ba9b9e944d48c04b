"""The rooms that the `alfworld` package ships: what stands in each, and what goes where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import alfworld
import alfworld.gen.constants as alfred

from .games import Kind, OfficialSplit

LAYOUTS = Path(alfworld.__file__).parent / "gen" / "layouts"
AFFORDANCES = {key.lower(): frozenset(kinds) for key, kinds in alfred.VAL_ACTION_OBJECTS.items()}
"""Types that are heatable, coolable, cleanable, sliceable and toggleable."""
STATIC = frozenset(alfred.RECEPTACLES) - alfred.MOVABLE_RECEPTACLES_SET - {"PaintingHanger"}
"""Types of receptacles that one can stand before."""
LAMP = "DeskLamp"
LAMP_STANDS = ("SideTable", "Desk", "Dresser")
COUNTS = {
    "ArmChair": (1, 2),
    "Cabinet": (3, 6),
    "CounterTop": (2, 3),
    "Drawer": (3, 6),
    "HandTowelHolder": (1, 2),
    "Shelf": (2, 5),
    "SideTable": (1, 2),
    "StoveBurner": (4, 4),
}
"""How many of a type a room gets (fewest, most) where its layout file names none; one of every other type."""


@dataclass(frozen=True)
class FloorPlan:
    """One AI2-THOR room: its number, the types of things in it, and the receptacles that its layout file names."""

    number: int
    types: tuple[str, ...]
    named: tuple[tuple[str, str], ...]
    """(id, type), the id as in `Cabinet|+00.68|+00.50|-02.20`."""

    @property
    def receptacle_types(self) -> tuple[str, ...]:
        return tuple(sorted({kind for _, kind in self.named} | (STATIC & set(self.types))))


@lru_cache(maxsize=256)
def floor_plan(number: int) -> FloorPlan:
    """The room of that number.

    Raises:
        OSError: the installed `alfworld` lacks its layout files.
    """
    types = json.loads((LAYOUTS / f"FloorPlan{number}-objects.json").read_text(encoding="utf-8"))
    openable = json.loads((LAYOUTS / f"FloorPlan{number}-openable.json").read_text(encoding="utf-8"))
    named = tuple((key, key.partition("|")[0]) for key in sorted(openable) if key.partition("|")[0] in STATIC)
    return FloorPlan(number, tuple(sorted(set(types))), named)


@lru_cache(maxsize=32)
def rooms(kind: Kind, split: OfficialSplit) -> tuple[int, ...]:
    """Numbers of the floor plans that a task type uses in a split, by ALFRED's own division of its 120 rooms."""
    scenes = alfred.TEST_SCENE_NUMBERS if split == "valid_unseen" else alfred.TRAIN_SCENE_NUMBERS
    allowed = {number for room in alfred.GOALS_VALID[kind] for number in alfred.SCENE_TYPE[room]}
    return tuple(
        number
        for number in sorted(scenes)
        if number in allowed and (LAYOUTS / f"FloorPlan{number}-objects.json").exists()
    )


def accepts(receptacle: str) -> frozenset[str]:
    """The object types that may lie in or on a receptacle type."""
    return frozenset(alfred.VAL_RECEPTACLE_OBJECTS.get(receptacle, ()))


def portable(plan: FloorPlan) -> list[str]:
    """The types of things in a room that fit somewhere, lamps left out."""
    places = [accepts(kind) for kind in plan.receptacle_types]
    known = [kind for kind in plan.types if kind in alfred.OBJECTS_SET and kind not in STATIC]
    return [kind for kind in known if any(kind in fitting for fitting in places)]
