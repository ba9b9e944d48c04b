"""The referee of web pages: judges dreamed episodes by rule, from their own texts and what the task says."""

from __future__ import annotations

from dreamgym_env.domains.web import WebDomain
from dreamgym_env.domains.web_actions import can, parse_call
from dreamgym_env.domains.web_page import page_of
from dreamgym_env.types import Prediction, StepContext, Trajectory, Transition


class WebReferee:
    """What is wrong with a dreamed step, and whether a dreamed episode did its task.

    What a page holds that was never shown before is for the dream to invent; how far it differs from the real one, the
    audit's replays tell.
    """

    def __init__(self, domain: WebDomain) -> None:
        self.domain = domain

    def step_errors(self, context: StepContext, transition: Transition) -> list[str]:
        """Kinds of error of one dreamed step: `impossible_accepted` (the page changed although the action is
        impossible), `contradiction` (it denies what the episode has said or ends as the task does not)."""
        page, call = page_of(context.state), parse_call(context.action, self.domain.grammar)
        if page is None or call is None or not can(page, call):
            changed = transition.terminated or transition.next_state != context.state
            return ["impossible_accepted"] if changed else []
        told = Prediction("", transition.next_state, transition.reward, transition.terminated)
        return ["contradiction"] if self.domain.contradiction(context, told) else []

    def judge(self, trajectory: Trajectory) -> bool | None:
        """Whether the episode did its task by its own texts; None where they do not decide it, or nothing ended it."""
        steps = trajectory.transitions
        if not steps or not steps[-1].terminated:
            return None
        last = steps[-1]
        page, call = page_of(last.state), parse_call(last.action, self.domain.grammar)
        if page is None or call is None or not can(page, call):
            return False
        context = StepContext(trajectory.task, steps[:-1], last.state, last.action)
        end = self.domain.rules.end(context, page, call)
        return end.success if end.ends else None
