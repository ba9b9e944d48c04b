"""For real environments without demonstrators, reader or referee: random actions, and what replays say."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from dreamgym_env.domain import Domain
from dreamgym_env.types import Prediction, StepContext, Task, Trajectory, Transition

from .rollout import end_reason_of

_OPEN = re.compile(r"<\w+>")


def pick(rng: random.Random, task: Task, state: str, available: Sequence[str]) -> str:
    """One of the available actions; a placeholder (`search[<keywords>]`) gets a word of the task or the state."""
    words = re.findall(r"\w+", f"{task.instruction} {state}") or ["something"]
    return _OPEN.sub(lambda _: rng.choice(words), rng.choice(available))


class RandomActor:
    """Acts at random among `info["available_actions"]`, in a real environment.

    Raises (in `act`):
        ValueError: `info` has none.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def see(self, state: str, info: dict[str, Any]) -> None:
        """What the episode shows before the next action."""
        self.state, self.available = state, info.get("available_actions")
        self.task: Task = info["task"]

    def act(self, env: Any) -> str:
        if not self.available:
            raise ValueError(
                "`info` must hold `available_actions` at each step for random actions, or the environment must have a "
                f"`demonstrator(name, seed)`; got {self.available!r} in the state {self.state[:80]!r}"
            )
        return pick(self.rng, self.task, self.state, self.available)


class RandomReader:
    """The same as a script for any pool, dreamed or real; where nothing is available it says `wait`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def act(self, task: Task, state: str, available: Sequence[str], history: Sequence[Transition]) -> str:
        return pick(self.rng, task, state, available) if available else "wait"


class ReplayReferee:
    """Judges dreamed steps by the domain's rules, and outcomes by the real environment where it shows the same.

    What a dream invents (a room that is not there) makes a replay differ; of such an episode nothing is known.
    """

    def __init__(self, env: Any, domain: Domain) -> None:
        self.env, self.domain = env, domain

    def step_errors(self, context: StepContext, transition: Transition) -> list[str]:
        """`impossible_accepted`: something changed although the action is impossible; `contradiction`: the step breaks
        a rule of the domain."""
        action = self.domain.parse_action(context.state, context.action)
        if action is None or not self.domain.is_possible(context, action):
            answer = self.domain.impossible_response(context.state, context.action)
            return ["impossible_accepted"] if transition.terminated or transition.next_state != answer else []
        told = Prediction("", transition.next_state, transition.reward, transition.terminated)
        return ["contradiction"] if self.domain.contradiction(context, told) else []

    def judge(self, trajectory: Trajectory) -> bool | None:
        """Whether the same actions truly succeed; None where a replay shows another state, or the dream broke."""
        if trajectory.broken or not trajectory.transitions:
            return None
        self.env.reset(seed=0, options={"task_id": trajectory.task.task_id})
        for step in trajectory.transitions:
            state, reward, terminated, truncated, info = self.env.step(step.action)
            if terminated or truncated:
                return end_reason_of((state, reward, terminated, truncated, info)) == "success"
            if state != step.next_state:
                return None
        return False
