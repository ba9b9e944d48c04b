"""What an ALFWorld action rests on, check by check, and the reasoning trace made of it.

Every check stands right before its answer, since small models learn no others (`docs/experience-model.md`); what it
holds against each other are the action's own words and the lines that `recall` puts beside it.
"""

from __future__ import annotations

from dreamgym_env.domain import Action
from dreamgym_env.domains.alfworld_goals import Goal
from dreamgym_env.domains.alfworld_room import Room, pair
from dreamgym_env.domains.alfworld_things import ABLE, KNIVES, LAMPS, MACHINES, kind_of, takes

_STATES = {"heat": "hot", "cool": "cool", "clean": "clean", "slice": "sliced"}
Check = tuple[str, bool]
"""What is held against what, and whether it is as the action needs it."""


def recalled(room: Room, action: Action) -> list[str]:
    """The lines of the episode that `checks` and `goal_checks` read: where one is, what one holds, which lamps are on,
    where the thing lies, how the place looks; where that is not told yet, what stands elsewhere and so not there."""
    if action.name in ("look", "help"):
        return []
    thing, place = pair(action) if action.name in _PAIRS else (action.argument, action.argument)
    lines = []
    if action.name == "go to":
        lines.append(f"This room has {'a' if place in room.places else 'no'} {place}.")
    if action.name != "inventory":
        lines.append(f"You are at the {_near(room)}." if room.near else "You are in the middle of the room.")
    if action.name not in ("open", "close"):
        lines.append(f"You are carrying: a {room.held}." if room.held else "You are not carrying anything.")
    if action.name in _LIGHT:
        lines += [f"The {lamp} is on, at the {_where(room, lamp)}." for lamp in room.lit()]
    if action.name in ("take", "use", "slice"):
        lines += [f"{thing} is at the {_where(room, thing)}."] if room.places_of(thing) else []
    looked_at = (thing, place) if action.name in ("move", "heat", "clean", "cool") else (place,)
    for name in dict.fromkeys(looked_at):
        told = room.answer(Action("examine", name, "")) if name == room.held or name in room.places else None
        lines += [told] if told else []
    if action.name in _SHOW and place in room.places and room.answer(action) is None:
        there = [thing for thing in room.told_of() if _may_stand(place, thing) and place not in room.places_of(thing)]
        lines.append(f"Elsewhere: {', '.join(there) or 'nothing'}.")
    return lines


_PAIRS = ("take", "move", "heat", "clean", "cool", "slice")
_SHOW = ("go to", "open", "examine")
_LIGHT = ("go to", "take", "use")  # what can bring a thing under a lamp that is on


def checks(room: Room, action: Action) -> list[Check]:
    """What has to hold for the action to do anything, in the order in which it is looked at."""
    name = action.name
    if name in ("inventory", "look", "help"):
        return []
    if name == "go to":
        place = action.argument
        return [
            (f"room has {place}", place in room.places),
            (f"not here {_near(room)}, {place}", place not in room.near),
        ]
    if name in ("open", "close"):
        place, shut = action.argument, name == "open"
        door = {True: "open", False: "closed", None: "no door"}[room.doors.get(place)]
        return [_here(room, place), (f"{place} {door}", room.doors.get(place) is (not shut))]
    if name == "examine":
        is_place = action.argument in room.places
        return [_here(room, action.argument) if is_place else _in_hand(room, action.argument)]
    if name == "use":
        lamp = action.argument
        place = f"{lamp} at {_where(room, lamp)}, {_near(room)}"
        return [(f"{lamp} lamp", kind_of(lamp) in LAMPS), (place, room.in_reach(lamp))]
    thing, other = pair(action)
    if name == "slice":
        able = kind_of(thing) in ABLE["slice"] and kind_of(other) in KNIVES
        return [
            _in_hand(room, other),
            (f"{thing} at {_where(room, thing)}, {_near(room)}", room.in_reach(thing)),
            (f"slice {thing} {other}", able),
        ]
    if name == "take":
        empty = (f"hand {room.held or 'nothing'}", room.held is None)
        there = other in room.places_of(thing) and kind_of(thing) not in LAMPS
        return [
            _here(room, other),
            empty,
            *_door(room, other),
            (f"{thing} at {_where(room, thing)}, {other}", there),
        ]
    before = [_in_hand(room, thing), _here(room, other)]
    if name == "move":
        return [*before, *_door(room, other), (f"{other} takes {thing}", takes(other, thing))]
    able = kind_of(thing) in ABLE[name] and kind_of(other) == MACHINES[name]
    return [*before, (f"{name} {thing} {other}", able)]


def _may_stand(place: str, thing: str) -> bool:
    return takes(place, thing) or kind_of(thing) in LAMPS


def _near(room: Room) -> str:
    return ", ".join(room.near) or "nowhere"


def _where(room: Room, thing: str) -> str:
    return ", ".join(sorted(room.places_of(thing))) or "unseen"


def _here(room: Room, place: str) -> Check:
    return f"here {_near(room)}, {place}", place in room.near


def _in_hand(room: Room, thing: str) -> Check:
    return f"hand {room.held or 'nothing'}, {thing}", thing == room.held


def _door(room: Room, place: str) -> list[Check]:
    """Only of what has a door; that one is shut hides and keeps out."""
    return [(f"{place} open", room.doors[place])] if place in room.doors else []


def goal_checks(goal: Goal, room: Room, action: Action) -> list[Check]:
    """The goal's conditions; none where the action cannot reach the goal. `room` is as the action leaves it."""
    if goal.lamp:
        if action.name not in _LIGHT:
            return []
        lit = room.lit(goal.lamp)
        at = ", ".join(sorted({place for lamp in lit for place in room.places_of(lamp)})) or "nowhere"
        by = (f"{goal.lamp} on at {at}, {_near(room)}", any(map(room.in_reach, lit)))
        return [_same(goal.thing, kind_of(room.held or "nothing")), by]
    if action.name != "move":
        return []
    thing, place = pair(action)
    found = [_same(goal.thing, kind_of(thing)), _same(goal.target, kind_of(place))]
    if goal.change:
        found.append((_STATES[goal.change], (goal.change, thing) in room.marks))
    if goal.count > 1:
        there = sorted(one for one in room.content(place) if kind_of(one) == goal.thing)
        found.append((f"there {', '.join(there) or 'none'}: two", len(there) >= goal.count))
    return found


def _same(asked: str, shown: str) -> Check:
    return f"{asked} {shown}", asked == shown


def trace(room: Room, action: Action, goal: Goal | None, text: str, possible: bool, success: bool) -> str:
    """The reasoning trace of one step that the real game answered with `text`; takes the step into `room`.

    Where the texts so far do not explain what the game did (a neighbouring receptacle that nothing told of), the checks
    are left out.
    """
    found = checks(room, action)
    explained = all(holds for _, holds in found) == possible
    if not possible:
        failed = next((index for index, (_, holds) in enumerate(found) if not holds), -1)
        return f"{_said(found[: failed + 1]) if explained else action.text + ': '}so nothing happens"
    said = (_said(found) if explained else "") + _effect(room, action)
    room.hear(action, text)
    conditions = goal_checks(goal, room, action) if goal else []
    if not conditions and not success:
        return said
    return f"{said}; {_said(conditions)}so {'success' if success else 'continue'}"


def _said(found: list[Check]) -> str:
    return "".join(f"{text} {'yes' if holds else 'no'}; " for text, holds in found)


def _effect(room: Room, action: Action) -> str:
    match action.name:
        case "go to" | "open" | "examine":
            return "not told yet" if room.answer(action) is None else "told before"
        case "close":
            return "now closed"
        case "take":
            return "now in hand"
        case "move":
            return f"now at {pair(action)[1]}"
        case "use":
            return "now on"
        case "inventory":
            return f"{room.held or 'nothing'} in hand"
        case "look" | "help":
            return "nothing changes"
    return f"now {_STATES[action.name]}"
