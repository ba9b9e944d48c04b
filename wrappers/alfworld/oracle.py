"""`AlfworldOracle`: solves any game from what is true now, so that it recovers from whatever happened before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .engine import Engine
from .games import Goal

APPLIANCES = {
    "pick_clean_then_place_in_recep": ("clean", "sinkbasin", "isclean"),
    "pick_heat_then_place_in_recep": ("heat", "microwave", "ishot"),
    "pick_cool_then_place_in_recep": ("cool", "fridge", "iscool"),
}
"""The verb, the receptacle and the fact of each task type that changes its object."""


@dataclass(frozen=True)
class Situation:
    """The true facts of a game, by the names of things; types in lower case."""

    here: str
    place_of: dict[str, str]
    """Location of each receptacle; several may share one."""
    inside: dict[str, str]
    """Receptacle of each object that is not held."""
    shut: frozenset[str]
    held: str | None
    kind_of: dict[str, str]
    """Type of each receptacle and each object."""
    accepts: frozenset[tuple[str, str]]
    """(receptacle type, object type) pairs that go together."""
    changed: frozenset[tuple[str, str]]
    """(fact, object) pairs: isclean, ishot, iscool, istoggled."""

    @classmethod
    def of(cls, engine: Engine) -> Situation:
        facts = engine.facts()

        def pairs(*names: str) -> Iterable[tuple[str, str]]:
            return ((each[0], each[1]) for name in names for each in facts.get(name, ()))

        def ones(name: str) -> set[str]:
            return {each[0] for each in facts.get(name, ())}

        return cls(
            here=next(place for _, place in pairs("atlocation")),
            place_of=dict(pairs("receptacleatlocation")),
            inside=dict(pairs("inreceptacle")),
            shut=frozenset(ones("openable") - ones("opened")),
            held=next((thing for _, thing in pairs("holds")), None),
            kind_of={one: _type(kind) for one, kind in pairs("receptacletype", "objecttype")},
            accepts=frozenset((_type(one), _type(other)) for one, other in pairs("cancontain")),
            changed=frozenset(
                (name, one) for name in ("isclean", "ishot", "iscool", "istoggled") for one in ones(name)
            ),
        )

    def all_of(self, kind: str, among: Iterable[str]) -> list[str]:
        return sorted(one for one in among if self.kind_of[one] == kind)


def _type(name: str) -> str:
    """`appletype`, as the facts have it, without its ending."""
    return name.removesuffix("type")


class AlfworldOracle:
    """Looks for nothing: it knows where everything is. One action at a time, from the facts alone."""

    name = "oracle"

    def act(self, env: Any) -> str:
        """The next action in `env` (an `AlfworldEnv`, wrapped or not)."""
        unwrapped = env.unwrapped
        return next_action(Situation.of(unwrapped.engine), unwrapped.goal)


def next_action(now: Situation, goal: Goal) -> str:
    """The first action of a short plan; `look` where the game cannot be won.

    `pick_two_obj_and_place` counts what is already in one receptacle, and everything else needs the object in hand.
    """
    if now.held is not None and now.kind_of[now.held] != goal.thing:
        return _put_away(now)
    target = _target(now, goal)
    if now.held is None:
        wanted = _wanted(now, goal, target)
        return _reach(now, now.inside[wanted], f"take {wanted} from {now.inside[wanted]}") if wanted else "look"
    if goal.kind == "look_at_obj_in_light":
        lamp = next(iter(now.all_of(goal.target, now.inside)), None)
        return _walk(now, now.inside[lamp], f"use {lamp}") if lamp else "look"
    if goal.kind in APPLIANCES:
        verb, kind, fact = APPLIANCES[goal.kind]
        machine = next(iter(now.all_of(kind, now.place_of)), None)
        if (fact, now.held) not in now.changed:
            return _walk(now, machine, f"{verb} {now.held} with {machine}") if machine else "look"
    return _reach(now, target, f"move {now.held} to {target}") if target else "look"


def _target(now: Situation, goal: Goal) -> str | None:
    """The receptacle to fill: one that holds most of what is wanted, of those an open or near one."""
    found = now.all_of(goal.target, now.place_of)
    things = now.all_of(goal.thing, now.inside)
    filled = {one: sum(now.inside[thing] == one for thing in things) for one in found}
    return max(found, key=lambda one: (filled[one], one not in now.shut), default=None)


def _wanted(now: Situation, goal: Goal, target: str | None) -> str | None:
    """The object to take next: one that is ready, then one in plain sight, never one that lies where it belongs."""
    things = now.all_of(goal.thing, now.inside)
    if goal.kind == "pick_two_obj_and_place":
        things = [one for one in things if now.inside[one] != target]
    fact = APPLIANCES[goal.kind][2] if goal.kind in APPLIANCES else ""
    return min(
        things,
        key=lambda one: (
            (fact, one) not in now.changed,
            now.place_of[now.inside[one]] != now.here,
            now.inside[one] in now.shut,
        ),
        default=None,
    )


def _put_away(now: Situation) -> str:
    """Frees the hands: here if anything takes the object, else at the first place that does."""
    kind = now.kind_of[str(now.held)]
    takers = [one for one in sorted(now.place_of) if (now.kind_of[one], kind) in now.accepts]
    best = min(takers, key=lambda one: (now.place_of[one] != now.here, one in now.shut), default=None)
    return _reach(now, best, f"move {now.held} to {best}") if best else "look"


def _reach(now: Situation, receptacle: str, action: str) -> str:
    """The action, after going there and opening what is shut."""
    if now.place_of[receptacle] == now.here and receptacle in now.shut:
        return f"open {receptacle}"
    return _walk(now, receptacle, action)


def _walk(now: Situation, receptacle: str, action: str) -> str:
    return action if now.place_of[receptacle] == now.here else f"go to {receptacle}"
