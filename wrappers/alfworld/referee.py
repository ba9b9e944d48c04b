"""The ALFWorld referee: judges dreamed episodes by rule, from their own texts and the goal's own words."""

from __future__ import annotations

from dreamgym_env.domains.alfworld import ALFWORLD
from dreamgym_env.domains.alfworld_goals import met, read_goal
from dreamgym_env.domains.alfworld_room import NOTHING, Room, parse
from dreamgym_env.domains.alfworld_things import LAMPS, kind_of, takes
from dreamgym_env.types import Prediction, StepContext, Trajectory, Transition


class AlfworldReferee:
    """What is wrong with a dreamed step, and whether a dreamed episode reached its goal.

    Where things are is for the dream to invent; what it has said once binds it.
    """

    def step_errors(self, context: StepContext, transition: Transition) -> list[str]:
        """Kinds of error of one dreamed step.

        `impossible_accepted`: something happened although the action is impossible; `contradiction`: it denies what the
        episode has said, ends without the goal or goes on with it; `misplaced`: a thing newly shown in or on a
        receptacle that does not take its kind.
        """
        action = parse(context.action)
        if action is None or not ALFWORLD.is_possible(context, action):
            changed = transition.terminated or transition.next_state != NOTHING
            return ["impossible_accepted"] if changed else []
        told = Prediction("", transition.next_state, transition.reward, transition.terminated)
        errors = ["contradiction"] if ALFWORLD.contradiction(context, told) else []
        room = Room.after(context.state, context.history)
        before = _located(room)
        room.hear(action, transition.next_state)
        if any(not takes(place, thing) for place, thing in _located(room) - before if kind_of(thing) not in LAMPS):
            errors.append("misplaced")
        return errors

    def finds(self, context: StepContext, transition: Transition) -> bool | None:
        """Whether a first view shows the first thing of the kind that the goal names; None where the step shows no
        place's content for the first time, or after such a thing was seen."""
        goal, action = read_goal(context.task.instruction), parse(context.action)
        if goal is None or action is None or not transition.possible:
            return None
        room = Room.after(context.state, context.history)
        if _shown(room, goal.thing):
            return None
        before = set(room.seen)
        room.hear(action, transition.next_state)
        return _shown(room, goal.thing) if room.seen - before else None

    def judge(self, trajectory: Trajectory) -> bool | None:
        """Whether the episode reached its goal, by its own texts; None where they do not decide it, or where an episode
        that went on to its end never reached it."""
        goal = read_goal(trajectory.task.instruction)
        if goal is None or not trajectory.transitions:
            return None
        room = Room()
        room.begin(trajectory.task.initial_state)
        for step in trajectory.transitions:
            if (action := parse(step.action)) and step.possible:
                room.hear(action, step.next_state)
            reached = met(goal, room)
            if reached:
                return True
        return False if trajectory.transitions[-1].terminated and reached is False else None


def _located(room: Room) -> set[tuple[str, str]]:
    """(receptacle, object) of all that has been seen or put somewhere."""
    return {(place, thing) for place, things in room.contents.items() for thing in things}


def _shown(room: Room, kind: str) -> bool:
    return any(kind_of(thing) == kind for thing in (*(one for _, one in _located(room)), room.held) if thing)
