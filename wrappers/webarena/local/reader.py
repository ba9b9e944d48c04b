"""A scripted agent on the local sites that reads texts only, so that it can act in a dream as well as for real."""

from __future__ import annotations

import random
from collections.abc import Sequence

from dreamgym_env.domains.web_actions import ENDS, parse_call
from dreamgym_env.domains.web_page import WebPage, find_element, page_of
from dreamgym_env.types import Task, Transition

from .oracle import LONG, action_on, grounds, thought_of
from .tasks import Move, plan_of


class SiteReader:
    """Follows the plan of the episode's task by what the page shows, from where the episode has come to; scrolls where
    the page is cut, and begins again from the start page where the plan does not fit what it sees. With probability
    `slip` it does anything else that the page offers, one time in ten an answer; `slip=1` is the random agent."""

    def __init__(self, slip: float, seed: int) -> None:
        self.slip, self.rng, self.thought = slip, random.Random(seed), ""

    def act(self, task: Task, state: str, available: Sequence[str], history: Sequence[Transition]) -> str:
        """The next action, as text."""
        self.thought = ""
        page = page_of(state)
        number = task.task_id.removeprefix("local-")
        if page is None or not number.isdecimal() or self.rng.random() < self.slip:
            return self._wander(available)
        plan = plan_of(int(number))
        move = plan[progress(plan, history)]
        if not move.role:
            self.thought = grounds(task, history, move.value)
            return action_of(page, move) or "noop()"
        self.thought = thought_of(move)
        if found := action_of(page, move):
            return found
        scrolled = bool(history) and history[-1].action.startswith("scroll")
        return f"scroll(0, {LONG})" if page.below and not scrolled else f"goto({start_of(task)!r})"

    def _wander(self, available: Sequence[str]) -> str:
        ends = [one for one in available if one.partition("(")[0] in ENDS]
        others = [one for one in available if one not in ends]
        if not others or self.rng.random() < 1 / 6:
            return self.rng.choice(("click('999')", "fill('1', 'lamp')", "press enter", "click('0')"))
        drawn = self.rng.choice(ends if ends and self.rng.random() < 0.1 else others)
        return drawn.replace("<text>", self.rng.choice(("lamp", "bread", "42"))).replace("<answer>", "Done.")


def action_of(page: WebPage, move: Move) -> str | None:
    """The move as an action on this page; None where its element is not shown."""
    if not move.role:
        return f"{move.verb}({move.value!r})"
    element = find_element(page, move.role, move.name, move.after)
    return None if element is None else action_on(move, element)


def progress(plan: Sequence[Move], history: Sequence[Transition]) -> int:
    """How many moves of the plan the episode has made, one after the other, since it began or began again."""
    done = 0
    for step in history:
        page, call = page_of(step.state), parse_call(step.action)
        if call is None or page is None or not step.possible:
            continue
        if call.name == "goto":
            done = 0
        elif done + 1 < len(plan) and action_of(page, plan[done]) == call.text:
            done += 1
    return done


def start_of(task: Task) -> str:
    """The address that the task began at."""
    page = page_of(task.initial_state)
    return page.url if page else "http://onestopmarket.com"
