"""What an ALFWorld instruction asks for, and whether what an episode has said so far meets it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dreamgym_env.domains.alfworld_room import Room
from dreamgym_env.domains.alfworld_things import ABLE, ACCEPTS, LAMPS, kind_of

_CHANGES = {"hot": "heat", "cool": "cool", "clean": "clean"}
_FORMS = (
    re.compile(r"put (?:a|some) (?:(?P<is>hot|cool|clean) )?(?P<thing>\w+) (?:in|on) (?P<target>\w+)"),
    re.compile(r"(?P<verb>heat|cool|clean) some (?P<thing>\w+) and put it in (?P<target>\w+)"),
    re.compile(r"put (?P<two>two) (?P<thing>\w+) in (?P<target>\w+)"),
    re.compile(r"find (?P<two>two) (?P<thing>\w+) and put them in (?P<target>\w+)"),
    re.compile(r"look at (?P<thing>\w+) under the (?P<lamp>\w+)"),
    re.compile(r"examine the (?P<thing>\w+) with the (?P<lamp>\w+)"),
)


@dataclass(frozen=True)
class Goal:
    """`count` objects of type `thing`, after `change` ("heat", "cool", "clean" or ""), in or on a `target`.

    With a `lamp` instead of a target: to hold the thing by a lamp of that type that is on.
    """

    thing: str
    target: str = ""
    change: str = ""
    count: int = 1
    lamp: str = ""


def read_goal(instruction: str) -> Goal | None:
    """The goal behind one of ALFWorld's own sentences, or None for any other (people's words, say)."""
    text = " ".join(instruction.lower().split()).removesuffix(".")
    for form in _FORMS:
        if match := form.fullmatch(text):
            parts = match.groupdict()
            change = parts.get("verb") or _CHANGES.get(parts.get("is") or "", "")
            count = 2 if parts.get("two") else 1
            return Goal(parts["thing"], parts.get("target") or "", change, count, parts.get("lamp") or "")
    return None


def met(goal: Goal, room: Room) -> bool | None:
    """Whether the goal is reached; None where what the episode has said does not decide it."""
    if goal.lamp:
        holds = room.held is not None and kind_of(room.held) == goal.thing
        return holds and any(map(room.in_reach, room.lit(goal.lamp)))
    for place in [place for place in room.contents if kind_of(place) == goal.target]:
        fitting = [
            thing
            for thing in room.content(place)
            if kind_of(thing) == goal.thing and (not goal.change or (goal.change, thing) in room.marks)
        ]
        if len(fitting) >= goal.count:
            return True
        if fitting and place not in room.seen:
            return None
    return False


def goal_problem(goal: Goal | None, initial_state: str) -> str | None:
    """Why a generated task is none of ALFWorld's, or cannot be done in its room; None where it can."""
    if goal is None:
        return "must be one of ALFWorld's sentences, such as `put a hot apple in fridge`"
    if goal.change and goal.thing not in ABLE[goal.change]:
        return f"{goal.thing} is nothing that one can {goal.change}"
    if goal.lamp:
        return None if goal.lamp in LAMPS else f"{goal.lamp} is no lamp"
    if goal.thing not in ACCEPTS.get(goal.target, frozenset()):
        return f"{goal.thing} cannot be put in or on a {goal.target}"
    room = Room.after(initial_state, ())
    if room.places and goal.target not in {kind_of(place) for place in room.places}:
        return f"this room has no {goal.target}"
    return None
