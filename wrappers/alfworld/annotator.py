"""Rule-based reasoning traces R* for ALFWorld: what an action rests on, then the goal's conditions one by one.

All of it can be read off the episode's own texts: every check stands right before its answer, since small models learn
no others (`docs/experience-model.md`).
"""

from __future__ import annotations

from dataclasses import replace

from dreamgym_env.domain import Action
from dreamgym_env.domains.alfworld_goals import Goal, read_goal
from dreamgym_env.domains.alfworld_room import Room, pair, parse
from dreamgym_env.domains.alfworld_things import kind_of
from dreamgym_env.types import Trajectory, Transition

STATES = {"heat": "hot", "cool": "cool", "clean": "clean", "slice": "sliced"}


def fact(room: Room, action: Action) -> str:
    """What the action rests on and changes; `room` is as it was before."""
    thing, other = pair(action)
    match action.name:
        case "go to" | "open" | "examine":
            return f"{action.argument} {'not told yet' if room.answer(action) is None else 'told before'}"
        case "close":
            return f"{action.argument} now closed"
        case "take":
            return f"{thing} at {other}, now in hand"
        case "move":
            return f"{room.held} in hand, now at {other}"
        case "heat" | "cool" | "clean":
            return f"{room.held} in hand, now {STATES[action.name]}"
        case "slice":
            return f"{thing} now sliced"
        case "use":
            return f"{action.argument} now on"
        case "inventory":
            return f"{room.held or 'nothing'} in hand"
    return "nothing changes"


def goal_checks(goal: Goal, room: Room, action: Action) -> list[str]:
    """The goal's conditions, each before its answer; none where the action cannot reach the goal.

    `room` is as the action leaves it.
    """
    if goal.lamp:
        if action.name not in ("go to", "take", "use"):
            return []
        lit = [lamp for verb, lamp in room.marks if verb == "use" and kind_of(lamp) == goal.lamp]
        near = any(set(room.places_of(lamp)) & set(room.near) for lamp in lit)
        return [_same(goal.thing, kind_of(room.held or "nothing")), f"{goal.lamp} on {_yes(near)}"]
    if action.name != "move":
        return []
    thing, place = pair(action)
    said = [_same(goal.thing, kind_of(thing)), _same(goal.target, kind_of(place))]
    if goal.change:
        said.append(f"{STATES[goal.change]} {_yes((goal.change, thing) in room.marks)}")
    if goal.count > 1:
        there = sorted(one for one in room.content(place) if kind_of(one) == goal.thing)
        said.append(f"there {', '.join(there) or 'none'}: two {_yes(len(there) >= goal.count)}")
    return said


def _same(asked: str, shown: str) -> str:
    return f"{asked} {shown} {_yes(asked == shown)}"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


class AlfworldAnnotator:
    """Writes the reasoning trace of each transition of a real trajectory; it needs the texts alone."""

    def annotate(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory with every `reasoning_trace` filled in."""
        goal, room = read_goal(trajectory.task.instruction), Room()
        room.begin(trajectory.task.initial_state)
        traced = [replace(step, reasoning_trace=self._trace(goal, room, step)) for step in trajectory.transitions]
        return replace(trajectory, transitions=tuple(traced))

    def _trace(self, goal: Goal | None, room: Room, step: Transition) -> str:
        """The trace of one step; takes the step into `room`."""
        action = parse(step.action)
        if action is None or not step.possible:
            return f"no {action.text if action else step.action} here, nothing happens"
        said = fact(room, action)
        room.hear(action, step.next_state)
        checks = goal_checks(goal, room, action) if goal else []
        if not checks and not step.terminated:
            return said
        return f"{said}; {'; '.join([*checks, 'so'])} {'success' if step.terminated else 'continue'}"
