"""A scripted agent that reads states and instruction only, so that it can act in a dream as well as for real."""

from __future__ import annotations

import random
from collections.abc import Sequence

from dreamgym_env.domains.alfworld_goals import Goal, read_goal
from dreamgym_env.domains.alfworld_room import Room
from dreamgym_env.domains.alfworld_things import LAMPS, MACHINES, kind_of, takes
from dreamgym_env.types import Task, Transition

LAMP_STANDS = ("sidetable", "desk", "dresser", "shelf", "coffeetable", "diningtable")
"""Where lamps are looked for first."""


class AlfworldReader:
    """Goes to where the thing may be, opens, looks, takes it, cleans, heats or cools it, and brings it to its place.

    It remembers what the episode has shown. With probability `slip` it does anything else instead, one time in six
    something impossible; `slip=1` is the random agent. With probability `stumble` it does its last action once more,
    where that is impossible now, and a quarter as often it believes what is not so. An orderly one looks for things in
    the order in which the places were told, where the other draws. `thought` is what it thought before its last action.
    """

    def __init__(self, slip: float, seed: int, stumble: float = 0.0, orderly: bool = False) -> None:
        self.slip, self.stumble, self.orderly = slip, stumble, orderly
        self.rng, self.thought = random.Random(seed), ""

    def act(self, task: Task, state: str, available: Sequence[str], history: Sequence[Transition]) -> str:
        """The next action, as text."""
        goal = read_goal(task.instruction)
        if history and history[-1].action not in available and self.rng.random() < self.stumble:
            return history[-1].action  # with the same thought
        self.thought = ""
        if available and (goal is None or self.rng.random() < self.slip):
            return self.wander(task, available)
        if goal is None:
            return "look"
        room = Room.after(state, history)
        if (
            room.here
            and self.rng.random() < self.stumble / 4
            and (action := self._mistake(goal, room)) not in available
        ):
            return action
        return self._pursue(goal, room)

    def wander(self, task: Task, available: Sequence[str]) -> str:
        """Anything that can be done, moving about no more than half of the time, or something impossible."""
        if self.rng.random() < 1 / 6:
            return impossible(task, available, self.rng)
        here = [action for action in available if not action.startswith("go to ")]
        return self.rng.choice(here if here and self.rng.random() < 0.5 else list(available))

    def _mistake(self, goal: Goal, room: Room) -> str:
        """What is done by who takes the place where one stands for the next one, or for one that has what is sought."""
        kind = goal.thing if room.held is None else goal.lamp or goal.target
        if self.rng.random() < 0.5:
            self.thought = f"{_at_hand(room)} {kind}: unseen; next {room.here}"
            return f"go to {room.here}"
        self.thought = f"{_at_hand(room)} {kind}: {kind} 1 at {room.here}"
        if room.held is None:
            return f"take {kind} 1 from {room.here}"
        return f"use {kind} 1" if goal.lamp else f"move {room.held} to {kind} 1"

    def _pursue(self, goal: Goal, room: Room) -> str:
        if room.held is not None and kind_of(room.held) != goal.thing:
            self.thought = f"{_at_hand(room)} not {goal.thing}"
            return self._bring(room, room.held, [place for place in room.places if takes(place, str(room.held))])
        targets = [place for place in room.places if kind_of(place) == goal.target]
        targets = sorted(targets, key=lambda place: -sum(kind_of(one) == goal.thing for one in room.content(place)))
        if room.held is None:
            return self._fetch(goal, room, targets[:1] if goal.count > 1 else [])
        if goal.lamp:
            return self._light(goal, room)
        if goal.change and (goal.change, room.held) not in room.marks:
            machines = [place for place in room.places if kind_of(place) == MACHINES[goal.change]]
            self.thought = f"{_at_hand(room)} {goal.change} it: {machines[0] if machines else 'nowhere'}"
            return _at(room, machines[0], f"{goal.change} {room.held} with {machines[0]}") if machines else "look"
        self.thought = f"{_at_hand(room)} {goal.target}: {targets[0] if targets else 'nowhere'}"
        return self._bring(room, room.held, targets)

    def _fetch(self, goal: Goal, room: Room, done: Sequence[str]) -> str:
        """Takes a wanted thing that was seen, one that is ready first, or looks for one."""
        spots = [
            (place, thing) for place, things in room.contents.items() for thing in sorted(things) if place not in done
        ]
        wanted = [(place, thing) for place, thing in spots if kind_of(thing) == goal.thing]
        if not wanted:
            return self._search(room, goal.thing)
        place, thing = min(
            wanted, key=lambda spot: ((goal.change, spot[1]) not in room.marks, spot[0] not in room.near)
        )
        self.thought = f"{_at_hand(room)} {goal.thing}: {thing} at {place}"
        return _reach(room, place, f"take {thing} from {place}")

    def _light(self, goal: Goal, room: Room) -> str:
        lamps = [
            (place, one)
            for place, things in room.contents.items()
            for one in sorted(things)
            if kind_of(one) == goal.lamp
        ]
        if not lamps:
            return self._search(room, goal.lamp)
        self.thought = f"{_at_hand(room)} {goal.lamp}: {lamps[0][1]} at {lamps[0][0]}"
        return _at(room, lamps[0][0], f"use {lamps[0][1]}")

    def _search(self, room: Room, kind: str) -> str:
        """The next place that was not looked into, likely ones first."""
        self.thought = f"{_at_hand(room)} {kind}: unseen"
        for place in room.near:
            if room.doors.get(place) is False and place not in room.seen:
                return f"open {place}"
        fresh = [place for place in room.places if place not in room.seen and place not in room.near]
        lamp = kind in LAMPS
        likely = [place for place in fresh if (kind_of(place) in LAMP_STANDS if lamp else takes(place, kind))]
        choice = likely or fresh or [place for place in room.places if place not in room.near]
        if not choice:
            return "look"
        if not self.orderly:
            return f"go to {self.rng.choice(choice)}"
        self.thought += f"; next {choice[0]}"
        return f"go to {choice[0]}"

    def _bring(self, room: Room, thing: str, targets: Sequence[str]) -> str:
        near = [place for place in targets if place in room.near]
        best = (near or list(targets) or [""])[0]
        return _reach(room, best, f"move {thing} to {best}") if best else "look"


def _at_hand(room: Room) -> str:
    """Where one is and what one holds: what a thought begins with, so that its next words can be looked up."""
    return f"at {room.here or 'the start'}; hand {room.held or 'nothing'};"


def impossible(task: Task, available: Sequence[str], rng: random.Random) -> str:
    """An action that may well not be possible: with a thing from elsewhere, or where one already is."""
    goal = read_goal(task.instruction)
    thing = f"{goal.thing if goal else 'apple'} {rng.randint(1, 3)}"
    place = f"{(goal.target if goal else '') or 'drawer'} {rng.randint(1, 3)}"
    forms = ["take {t} from {p}", "move {t} to {p}", "open {p}", "close {p}", "heat {t} with microwave 1", "use {t}"]
    forms += ["go to {p}", "clean {t} with sinkbasin 1", "examine {t}", "cool {t} with fridge 1", "put the {t} away"]
    drawn = [form.format(t=thing, p=place) for form in rng.sample(forms, len(forms))]
    return next(action for action in drawn if action not in available)


def _reach(room: Room, place: str, action: str) -> str:
    """The action, after going there and opening what is shut."""
    if place in room.near and room.doors.get(place) is False:
        return f"open {place}"
    return _at(room, place, action)


def _at(room: Room, place: str, action: str) -> str:
    return action if place in room.near else f"go to {place}"
