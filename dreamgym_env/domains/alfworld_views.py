"""First views of an ALFWorld place: why a text cannot be one, given what the episode has told, and how it is mended."""

from __future__ import annotations

import re

from dreamgym_env.domains.alfworld_room import OPEN, PLAIN, Room
from dreamgym_env.domains.alfworld_things import APPLIANCES, kind_of, listed_things, names_in, read_list


def view_problem(room: Room, place: str, text: str) -> str | None:
    """Why a text cannot be the first view of a place, given what is known of all others; None where it can."""
    if text == f"The {place} is closed.":
        return None
    match = OPEN.fullmatch(text) or PLAIN.fullmatch(text)
    if not match or match[1] != place:
        return f"must say what is in or on the {place}, got {text!r}"
    try:
        names = read_list(match[2])
    except ValueError as error:
        return str(error)
    if twice := [name for name in names if names.count(name) > 1]:
        return f"{twice[0]} stands twice in one list"
    for name in names:
        if reason := _not_here(room, place, name):
            return reason
    if place in room.seen and sorted(names) != sorted(room.content(place)):
        return f"must list {listed_things(sorted(room.content(place)))}"
    return None


def without_misplaced(room: Room, place: str, text: str) -> str | None:
    """A first view of a place without what cannot be there, in the game's order; None where it lists nothing."""
    match = re.fullmatch(r"(.*, you see )(.*)\.", text)
    names = dict.fromkeys(names_in(match[2])) if match else {}
    if not match or not names:
        return None
    return f"{match[1]}{listed_things([name for name in names if not _not_here(room, place, name)])}."


def _not_here(room: Room, place: str, name: str) -> str | None:
    """Why this thing cannot be shown newly at the place: the episode has told where it is."""
    others = [room.source] if name == room.held else [each for each in room.places_of(name) if each != place]
    if others and not {kind_of(each) for each in (*others, place)} & APPLIANCES:
        return f"{name} is {'in your hand' if name == room.held else 'at the ' + others[0]}, so not here"
    return f"{name} is a piece of furniture" if name in room.places else None
