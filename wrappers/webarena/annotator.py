"""Rule-based reasoning traces R* for web pages: what an action names, what that is, what it leads to, how it ends.

All of it can be read off the episode's own texts (`dreamgym_env/domains/web_checks.py`).
"""

from __future__ import annotations

from dataclasses import replace

from dreamgym_env.domains.web import WebDomain
from dreamgym_env.domains.web_actions import parse_call
from dreamgym_env.domains.web_checks import trace
from dreamgym_env.domains.web_page import page_of
from dreamgym_env.types import StepContext, Trajectory, Transition


class WebAnnotator:
    """Writes the reasoning trace of each transition of a real trajectory; it needs the texts alone."""

    def __init__(self, domain: WebDomain) -> None:
        self.domain = domain

    def annotate(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory with every `reasoning_trace` filled in."""
        steps = trajectory.transitions
        traced = [
            replace(
                step, reasoning_trace=self._trace(StepContext(step.task, steps[:index], step.state, step.action), step)
            )
            for index, step in enumerate(steps)
        ]
        return replace(trajectory, transitions=tuple(traced))

    def _trace(self, context: StepContext, step: Transition) -> str:
        page, shown = page_of(step.state), page_of(step.next_state)
        call = parse_call(step.action, self.domain.grammar)
        if page is None or shown is None:
            return ""
        if call is not None and not step.possible:
            return f"{step.action} does nothing here; the page stays"
        success = step.reward > 0 if step.terminated else None
        return trace(context, page, call, self.domain.rules, shown, success)
