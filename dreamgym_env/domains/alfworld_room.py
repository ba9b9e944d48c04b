"""What an ALFWorld episode has said so far: where one stands, what was seen where, what is held, hot, cool or clean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from dreamgym_env.domain import Action
from dreamgym_env.domains.alfworld_things import (
    ABLE,
    KNIVES,
    LAMPS,
    MACHINES,
    VESSELS,
    kind_of,
    listed,
    listed_things,
    names_in,
    takes,
)
from dreamgym_env.types import Transition

NOTHING = "Nothing happens."
HELP = """Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""
_AROUND = re.compile(r"You are in the middle of a room\. Looking quickly around you, you see (.*)\.")
_FACING = re.compile(r"You are facing the (.*?)\. Next to it, you see (.*)\.")
OPEN = re.compile(r"The (.*?) is open\. In it, you see (.*)\.")
_SHUT = re.compile(r"The (.*?) is closed\.")
PLAIN = re.compile(r"On the (.*?), you see (.*)\.")
_ACTION = re.compile(
    r"(?P<verb>go to|open|close|examine|use) (?P<one>.+)"
    r"|(?P<pair>take|move|heat|clean|cool|slice) (?P<thing>.+?) (?P<word>from|to|with) (?P<other>.+)"
    r"|put (?P<put>.+?) (?:in/on|into|onto|inside|in|on) (?P<where>.+)"
    r"|(?P<alone>inventory|look|help)"
)
_WORDS = {"take": "from", "move": "to"}
_DEEPEST = 200  # calls of `_after` within one another


def parse(action: str) -> Action | None:
    """The action in ALFWorld's spelling, or None; `put X in/on Y` of older versions is read as `move X to Y`."""
    match = _ACTION.fullmatch(" ".join(action.lower().split()))
    if not match:
        return None
    if match["alone"]:
        return Action(match["alone"], "", match["alone"])
    if match["verb"]:
        return Action(match["verb"], match["one"], match[0])
    if match["put"]:
        return Action("move", f"{match['put']} to {match['where']}", f"move {match['put']} to {match['where']}")
    if match["word"] != _WORDS.get(match["pair"], "with"):
        return None
    return Action(match["pair"], f"{match['thing']} {match['word']} {match['other']}", match[0])


def pair(action: Action) -> tuple[str, str]:
    """Both names of `take X from Y`, `move X to Y` or `... X with Y`."""
    thing, _, other = action.argument.partition(f" {_WORDS.get(action.name, 'with')} ")
    return thing, other


@dataclass
class Room:
    """The episode's knowledge; every name is as the game spells it. It is read off texts, never off the engine."""

    places: tuple[str, ...] = ()
    """Receptacles in the order of the first look."""
    here: str | None = None
    """The receptacle that was gone to last."""
    contents: dict[str, set[str]] = field(default_factory=dict)
    """Receptacle to the objects seen or put there."""
    seen: set[str] = field(default_factory=set)
    """Receptacles whose whole content is known."""
    doors: dict[str, bool] = field(default_factory=dict)
    """Whether a receptacle that can be opened is open; one that cannot is missing, and so is one not yet visited."""
    held: str | None = None
    source: str = ""
    """Where the object held was taken from."""
    marks: set[tuple[str, str]] = field(default_factory=set)
    """("heat" | "cool" | "clean" | "slice" | "use", object): what has been done and still shows."""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Receptacle to all that one faces when one stands there, itself included, once the episode has told."""

    @classmethod
    def after(cls, state: str, history: Iterable[Transition]) -> Room:
        """The knowledge after these steps; `state` is the first state where there were none."""
        transitions = tuple(history)
        start = transitions[0].state if transitions else state
        steps = tuple((step.action, step.next_state) for step in transitions)
        for length in range(_DEEPEST, len(steps), _DEEPEST):
            _after(start, steps[:length])
        return _after(start, steps).copy()

    def copy(self) -> Room:
        """The same knowledge, to go on from."""
        contents = {place: set(things) for place, things in self.contents.items()}
        return replace(
            self, contents=contents, seen=set(self.seen), doors=dict(self.doors), marks=set(self.marks),
            groups=dict(self.groups),
        )  # fmt: skip

    def begin(self, state: str) -> None:
        """Reads the first state."""
        if match := _AROUND.fullmatch(state):
            self.places = names_in(match[1])
        elif match := _FACING.fullmatch(state):
            self._face(match[1])

    @property
    def near(self) -> tuple[str, ...]:
        """The receptacles in reach, as far as told."""
        return self.groups.get(self.here, (self.here,)) if self.here else ()

    def content(self, place: str) -> set[str]:
        return self.contents.setdefault(place, set())

    def places_of(self, thing: str) -> list[str]:
        """Where it lies as far as told; two places only where official games list it twice."""
        return [place for place, things in self.contents.items() if thing in things]

    def told_of(self) -> list[str]:
        """Every object that the episode has told of, sorted; also the one held."""
        return sorted({*(thing for things in self.contents.values() for thing in things), *filter(None, [self.held])})

    def lit(self, kind: str = "") -> list[str]:
        """The lamps that were turned on, of this type or of any, sorted."""
        return sorted(lamp for verb, lamp in self.marks if verb == "use" and kind in ("", kind_of(lamp)))

    def in_reach(self, thing: str) -> bool:
        """Whether it lies where one stands, as far as told."""
        return not set(self.places_of(thing)).isdisjoint(self.near)

    def hear(self, action: Action, text: str) -> None:
        """Takes in what a step said; a text that says nothing that can be read changes nothing but the action's own."""
        if text == NOTHING:
            if action.name == "go to" and action.argument in self.places and self.here:
                self._join(action.argument)  # one cannot go to where one is
            return
        if action.name in ("open", "close", "take", "move", "heat", "cool", "clean"):
            self._join(pair(action)[1] or action.argument)
        match action.name:
            case "go to":
                self.here = action.argument
                self._view(text.partition(". ")[2])
            case "open":
                self.doors[action.argument] = True
                self._view(text.partition(". ")[2])
            case "close":
                self.doors[action.argument] = False
            case "examine":
                self._view(text)
            case "look":
                if match := _FACING.fullmatch(text):
                    self._face(match[1])
            case "take":
                self.held, self.source = pair(action)
                self.content(self.source).discard(self.held)
            case "move":
                self.held = None
                self.content(pair(action)[1]).add(pair(action)[0])
            case "use":
                self.marks.add(("use", action.argument))
                if self.here and not self.places_of(action.argument):
                    self.content(self.here).add(action.argument)
            case "heat" | "cool" | "clean" | "slice":
                thing = pair(action)[0]
                self.marks.discard(({"heat": "cool", "cool": "heat"}.get(action.name, ""), thing))
                self.marks.add((action.name, thing))

    def available(self) -> list[str]:
        """Everything that can be done, sorted as the game sorts it; an impossible action is none of these."""
        found = {"help", "inventory", "look", *(f"go to {place}" for place in self.places if place not in self.near)}
        for place in self.near:
            found.add(f"examine {place}")
            shut = self.doors.get(place) is False
            if place in self.doors:
                found.add(f"{'open' if shut else 'close'} {place}")
            things = self.content(place)
            found |= {f"use {thing}" for thing in things if kind_of(thing) in LAMPS}
            if self.held is None and not shut:
                found |= {f"take {thing} from {place}" for thing in things if kind_of(thing) not in LAMPS}
            if self.held is not None:
                found |= self._with_held(self.held, place, things, shut)
        if self.held is not None:
            found.add(f"examine {self.held}")
        return sorted(found)

    def _with_held(self, held: str, place: str, things: set[str], shut: bool) -> set[str]:
        found = {f"{verb} {held} with {place}" for verb, machine in MACHINES.items() if kind_of(place) == machine}
        found = {each for each in found if kind_of(held) in ABLE[each.partition(" ")[0]]}
        if takes(place, held) and not shut:
            found.add(f"move {held} to {place}")
        if kind_of(held) in KNIVES:
            found |= {f"slice {thing} with {held}" for thing in things if kind_of(thing) in ABLE["slice"]}
        return found

    def answer(self, action: Action) -> str | None:
        """The game's text for a possible action where what was said determines it, else None."""
        match action.name:
            case "go to":
                view = self._told(action.argument)
                return f"You arrive at {action.argument}. {view}" if view else None
            case "open":
                inner = self._listing(action.argument)
                return (
                    f"You open the {action.argument}. The {action.argument} is open. In it, {inner}" if inner else None
                )
            case "close":
                return f"You close the {action.argument}."
            case "examine":
                return self._told(action.argument) if action.argument != self.held else self._about(action.argument)
            case "look":
                alone = self.here is not None and self.groups.get(self.here) == (self.here,)
                return f"You are facing the {self.here}. Next to it, you see nothing." if alone else None
            case "inventory":
                return f"You are carrying: a {self.held}." if self.held else "You are not carrying anything."
            case "help":
                return HELP
            case "use":
                return f"You turn on the {action.argument}."
        thing, other = pair(action)
        return {
            "take": f"You pick up the {thing} from the {other}.",
            "move": f"You move the {thing} to the {other}.",
            "slice": f"You sliced the {thing} with the {other}.",
        }.get(action.name, f"You {action.name} the {thing} using the {other}.")

    def _listing(self, place: str) -> str | None:
        return f"you see {listed_things(sorted(self.content(place)))}." if place in self.seen else None

    def _told(self, place: str) -> str | None:
        """How the place looks, where that is known."""
        if self.doors.get(place) is False:
            return f"The {place} is closed."
        listing = self._listing(place)
        if listing is None:
            return None
        return f"The {place} is open. In it, {listing}" if place in self.doors else f"On the {place}, {listing}"

    def _about(self, thing: str) -> str | None:
        """What looking at a held object says; of a vessel one cannot know what is in it."""
        if kind_of(thing) in VESSELS:
            return None
        marks = {verb for verb, marked in self.marks if marked == thing}
        warm = "hot" if "heat" in marks else "cool" if "cool" in marks else ""
        if "slice" in marks and marks & {"heat", "cool", "clean"}:
            words = [" and ".join(filter(None, [warm, "clean" if "clean" in marks else ""])), "sliced"]
        elif "clean" in marks:
            words = [" and ".join(filter(None, [warm, "clean"]))]
        else:
            words = [{"hot": "hot", "cool": "cold"}.get(warm, "sliced" if "slice" in marks else "")]
        return f"This is a {' '.join(words)} {thing}." if any(words) else f"There's nothing special about {thing}."

    def _view(self, text: str) -> None:
        """Takes in `On the ...`, `The ... is open. In it, ...` or `The ... is closed.`"""
        if match := _SHUT.fullmatch(text):
            self.doors[match[1]] = False
            return
        match = OPEN.fullmatch(text) or PLAIN.fullmatch(text)
        if not match:
            return
        if match.re is OPEN:
            self.doors[match[1]] = True
        self.contents[match[1]] = set(names_in(match[2]))
        self.seen.add(match[1])

    def _face(self, text: str) -> None:
        faced = tuple(part.removeprefix("and ") for part in text.split(", "))
        if listed(faced) == text:
            self.here = self.here or faced[0]
            self.groups |= dict.fromkeys(faced, faced)

    def _join(self, place: str) -> None:
        """Two receptacles turn out to stand together."""
        if self.here and place not in self.near:
            together = tuple(sorted({*self.near, *self.groups.get(place, (place,))}))
            self.groups |= dict.fromkeys(together, together)


@lru_cache(maxsize=2048)
def _after(start: str, steps: tuple[tuple[str, str], ...]) -> Room:
    """The knowledge after steps (action, text), from what is kept of one step less: a dream asks often at each step."""
    room = Room()
    if not steps:
        room.begin(start)
        return room
    room = _after(start, steps[:-1]).copy()
    if action := parse(steps[-1][0]):
        room.hear(action, steps[-1][1])
    return room
