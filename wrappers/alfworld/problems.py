"""New ALFWorld problems: a room, things in it and a goal that can be reached, as PDDL; the same for the same seed."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

import alfworld.gen.constants as alfred
import alfworld.gen.goal_library as goals

from .floor_plans import AFFORDANCES, COUNTS, LAMP, LAMP_STANDS, FloorPlan, accepts, floor_plan, portable, rooms
from .games import Kind, OfficialSplit

MACHINES: dict[str, tuple[str, str]] = {
    "pick_clean_then_place_in_recep": ("cleanable", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("heatable", "Microwave"),
    "pick_cool_then_place_in_recep": ("coolable", "Fridge"),
}
"""What the object must be, and the receptacle type that does it."""


@dataclass(frozen=True)
class Wish:
    """What a game asks for and where, before its room is furnished. `target` is a receptacle's type or the lamp's."""

    kind: Kind
    thing: str
    target: str
    room: int

    @property
    def folder(self) -> str:
        """ALFRED's name for it: `pick_heat_then_place_in_recep-Potato-None-SinkBasin-14`."""
        return f"{self.kind}-{self.thing}-None-{self.target}-{self.room}"


@dataclass(frozen=True)
class Problem:
    """A furnished room with its goal. `instruction` is one of ALFRED's templates, filled in."""

    wish: Wish
    pddl: str
    instruction: str


@dataclass(frozen=True)
class _Thing:
    """A receptacle or an object: its PDDL id, type and location; `inside` is an object's receptacle."""

    key: str
    kind: str
    location: str
    inside: str = ""


def draw_wish(kind: Kind, split: OfficialSplit, rng: random.Random) -> Wish:
    """A goal that some room of the split can meet; train and valid_seen share rooms and never a goal in a room."""
    while True:
        plan = floor_plan(rng.choice(rooms(kind, split)))
        needed, machine = MACHINES.get(kind, ("", ""))
        things = [each for each in portable(plan) if not needed or each in AFFORDANCES[needed]]
        targets = [LAMP] if kind == "look_at_obj_in_light" else list(plan.receptacle_types)
        if not things or (machine and machine not in plan.receptacle_types):
            continue
        if kind == "look_at_obj_in_light" and (
            LAMP not in plan.types or not set(LAMP_STANDS) & set(plan.receptacle_types)
        ):
            continue
        wish = Wish(kind, rng.choice(things), rng.choice(targets), plan.number)
        if _fits(wish, plan) and (split == "valid_unseen" or (split == "valid_seen") == _kept_for_seen(wish)):
            return wish


def _fits(wish: Wish, plan: FloorPlan) -> bool:
    """The object may lie in the target, and somewhere else to begin with."""
    if wish.target == LAMP:
        return True
    elsewhere = [kind for kind in plan.receptacle_types if kind != wish.target and wish.thing in accepts(kind)]
    return wish.thing in accepts(wish.target) and bool(elsewhere)


def _kept_for_seen(wish: Wish) -> bool:
    return zlib.crc32(wish.folder.encode()) % 5 == 0


def furnish(wish: Wish, name: str, rng: random.Random) -> Problem:
    """Puts receptacles and things into the room; the wanted ones lie outside the target, each where its type may."""
    plan, room = floor_plan(wish.room), _Room(rng)
    places = [room.receptacle(kind, key) for key, kind in plan.named]
    named = {kind for _, kind in plan.named}
    for kind in plan.receptacle_types:
        if kind not in named:
            places += [room.receptacle(kind) for _ in range(rng.randint(*COUNTS.get(kind, (1, 1))))]
    objects = []
    for kind in sorted({*portable(plan), wish.thing}):
        spots = [place for place in places if kind in accepts(place.kind)]
        count = rng.randint(1, alfred.MAX_NUM_OF_OBJ_INSTANCES)
        if kind == wish.thing:
            spots = [place for place in spots if place.kind != wish.target]
            count = max(count, 2) if wish.kind == "pick_two_obj_and_place" else count
        objects += [room.thing(kind, rng.choice(spots)) for _ in range(count)]
    if LAMP in plan.types and (stands := [place for place in places if place.kind in LAMP_STANDS]):
        objects.append(room.thing(LAMP, rng.choice(stands)))
    template = rng.choice(goals.gdict[wish.kind]["templates"])
    lower = {"obj": wish.thing.lower(), "recep": wish.target.lower(), "toggle": wish.target.lower(), "mrecep": ""}
    return Problem(wish, _pddl(wish, name, places, objects, room.location()), template.format(**lower))


class _Room:
    """Draws ids and locations, none twice. Every receptacle has a location of its own."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._used: set[str] = set()

    def receptacle(self, kind: str, key: str = "") -> _Thing:
        """A receptacle with the id that the layout file gives, or with a new one."""
        basin = kind.removesuffix("Basin") if kind.endswith("Basin") else ""
        fresh = self._key(basin or kind, f"|{kind}" if basin else "")
        return _Thing(_mangled(key or fresh), kind, self.location())

    def thing(self, kind: str, place: _Thing) -> _Thing:
        return _Thing(_mangled(self._key(kind)), kind, place.location, place.key)

    def location(self) -> str:
        x, y, turn = self.rng.randint(-12, 12), self.rng.randint(-12, 12), self.rng.randint(0, 3)
        found = _mangled(f"loc|{x}|{y}|{turn}|{self.rng.choice([-30, 0, 30, 45, 60])}")
        return found if self._new(found) else self.location()

    def _key(self, kind: str, ending: str = "") -> str:
        x, y, z = self.rng.uniform(-5, 5), self.rng.uniform(0, 2), self.rng.uniform(-5, 5)
        found = f"{kind}|{x:+06.2f}|{y:+06.2f}|{z:+06.2f}{ending}"
        return found if self._new(found) else self._key(kind, ending)

    def _new(self, text: str) -> bool:
        fresh = text not in self._used
        self._used.add(text)
        return fresh


def _mangled(key: str) -> str:
    """An AI2-THOR id as a PDDL name, as ALFRED spells it."""
    for mark, word in (("|", "_bar_"), ("+", "_plus_"), ("-", "_minus_"), (".", "_dot_"), (",", "_comma_")):
        key = key.replace(mark, word)
    return key


def _pddl(wish: Wish, name: str, places: list[_Thing], objects: list[_Thing], start: str) -> str:
    kinds = sorted({each.kind for each in objects} | {"Knife", "ButterKnife"})  # the domain's actions name these types
    holders = sorted({each.kind for each in places} | {"SinkBasin", "Microwave", "Fridge"})
    declared = [
        "agent1 - agent",
        *(f"{kind}Type - otype" for kind in kinds),
        *(f"{kind}Type - rtype" for kind in holders),
        *(f"{location} - location" for location in sorted({*(each.location for each in places), start})),
        *(f"{each.key} - receptacle" for each in places),
        *(f"{each.key} - object" for each in objects),
    ]
    facts = [f"(canContain {one}Type {kind}Type)" for one in holders for kind in kinds if kind in accepts(one)]
    for place in places:
        facts += [
            f"(receptacleType {place.key} {place.kind}Type)",
            f"(receptacleAtLocation {place.key} {place.location})",
        ]
        facts += [f"(openable {place.key})"] if place.kind in alfred.OPENABLE_CLASS_SET else []
    for thing in objects:
        facts += [f"({fact} {thing.key})" for fact in _abilities(thing.kind)]
        facts += [f"(objectType {thing.key} {thing.kind}Type)", f"(inReceptacle {thing.key} {thing.inside})"]
        facts.append(f"(objectAtLocation {thing.key} {thing.location})")
    facts.append(f"(atLocation agent1 {start})")
    goal: str = goals.gdict[wish.kind]["pddl"].format(obj=wish.thing, recep=wish.target, toggle=wish.target, mrecep="")
    head = f"(define (problem plan_{name})\n(:domain alfred)\n(:objects\n    "
    body = "\n    ".join(declared) + "\n)\n(:init\n    " + "\n    ".join(facts) + "\n)\n"
    return head + body + goal.replace("#", "-").strip() + "\n"


def _abilities(kind: str) -> list[str]:
    able = [
        name for name in ("cleanable", "heatable", "coolable", "sliceable", "toggleable") if kind in AFFORDANCES[name]
    ]
    able += [] if kind in AFFORDANCES["toggleable"] else ["pickupable"]
    return able + (["isReceptacleObject"] if kind in alfred.MOVABLE_RECEPTACLES_SET else [])
