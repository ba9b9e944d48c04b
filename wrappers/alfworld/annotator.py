"""Rule-based reasoning traces R* for ALFWorld: what an action rests on, then the goal's conditions one by one.

All of it can be read off the episode's own texts (`dreamgym_env/domains/alfworld_checks.py`).
"""

from __future__ import annotations

from dataclasses import replace

from dreamgym_env.domains.alfworld_checks import trace
from dreamgym_env.domains.alfworld_goals import Goal, read_goal
from dreamgym_env.domains.alfworld_room import Room, parse
from dreamgym_env.types import Trajectory, Transition


class AlfworldAnnotator:
    """Writes the reasoning trace of each transition of a real trajectory; it needs the texts alone."""

    def annotate(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory with every `reasoning_trace` filled in."""
        goal, room = read_goal(trajectory.task.instruction), Room()
        room.begin(trajectory.task.initial_state)
        traced = [replace(step, reasoning_trace=_trace(goal, room, step)) for step in trajectory.transitions]
        return replace(trajectory, transitions=tuple(traced))


def _trace(goal: Goal | None, room: Room, step: Transition) -> str:
    """The trace of one step; takes the step into `room`."""
    action = parse(step.action)
    if action is None:
        return f"{step.action}: no such action; so nothing happens"
    return trace(room, action, goal, step.next_state, step.possible, step.terminated)
