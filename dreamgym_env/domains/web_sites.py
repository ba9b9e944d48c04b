"""What web sites do, as far as an episode tells: the next page, how the episode ends, and what that rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dreamgym_env.domains.web_actions import ENDS, TYPED, Call
from dreamgym_env.domains.web_goals import Check, Reached, reached, rule_of
from dreamgym_env.domains.web_page import Element, WebPage
from dreamgym_env.domains.web_trail import Trail
from dreamgym_env.types import StepContext

LEAVES = frozenset(("go_back", "go_forward", "goto", "tab_close"))
"""Actions that may lead out of the sites, which ends an episode without success."""


@dataclass(frozen=True)
class End:
    """Whether an action ends its episode, and with success: None where nothing tells. `checks` are the task's
    conditions, one by one, each with whether it holds; `lines` of pages are what they rest on. `unproven`: it is known
    what the task asks for, and no page of the episode shows whether it is so."""

    ends: bool | None
    success: bool | None = None
    checks: tuple[Check, ...] = ()
    lines: tuple[str, ...] = ()
    unproven: bool = False

    @property
    def verdict(self) -> bool | None:
        """Whether a dream may call it a success: not where it is unproven, or a guess would earn what looking up
        does."""
        return False if self.unproven else self.success


class Rules(Protocol):
    """What is known of one kind of pages. All actions given are possible ones."""

    def answer(self, context: StepContext, page: WebPage, call: Call) -> WebPage | None:
        """The page that the action leads to where the episode determines all of it, and does not end with it."""
        ...

    def target(self, context: StepContext, call: Call) -> str | None:
        """The address that the action must lead to, where the episode tells."""
        ...

    def end(self, context: StepContext, page: WebPage, call: Call) -> End:
        """Whether and how the episode ends with the action."""
        ...

    def untouched(self, context: StepContext) -> bool:
        """Whether all pages are still as every episode finds them, so that a link leads to what it led others to."""
        ...

    def filled(self, context: StepContext, page: WebPage) -> WebPage:
        """The page with what was typed, dots included."""
        ...


@dataclass(frozen=True)
class SiteRules:
    """WebArena's: an episode ends with an answer, and at the horizon `horizon` where the task is done by then."""

    horizon: int

    def answer(self, context: StepContext, page: WebPage, call: Call) -> WebPage | None:
        if call.name in ENDS or self._last(context):
            return None
        trail = Trail.after(context.task.initial_state, context.history)
        return trail.answer(call) if trail else None

    def target(self, context: StepContext, call: Call) -> str | None:
        trail = Trail.after(context.task.initial_state, context.history)
        return trail.target(call) if trail else None

    def end(self, context: StepContext, page: WebPage, call: Call) -> End:
        if call.name in ENDS:
            found = self._reached(context, call)
            return End(True, found.met, found.checks, found.lines, unproven=found.asked and found.met is None)
        return End(None if self._last(context) or call.name in LEAVES else False, None)

    def untouched(self, context: StepContext) -> bool:
        trail = Trail.after(context.task.initial_state, context.history)
        return trail is not None and not trail.touched and not trail.page.tabs and not self._last(context)

    def filled(self, context: StepContext, page: WebPage) -> WebPage:
        return page

    def _last(self, context: StepContext) -> bool:
        return len(context.history) + 1 >= self.horizon

    def _reached(self, context: StepContext, call: Call) -> Reached:
        if call.name == "report_infeasible":
            return Reached(None, asked=rule_of(context.task.instruction) is not None)
        return reached(context.task, context.history, str(call.arguments[0]))


def form_of(page: WebPage, button: Element) -> list[Element]:
    """The boxes and lists right before a button, which is what it sends."""
    fields: list[Element] = []
    for line in page.lines:
        if isinstance(line, Element) and line.number == button.number:
            return fields
        if isinstance(line, Element) and is_field(line):
            fields.append(line)
        elif isinstance(line, Element) or line.kind == "heading":
            fields = []
    return fields


def is_field(element: Element) -> bool:
    """Whether an element holds something that its form sends."""
    return element.role in TYPED or element.role in ("combobox", "listbox", "checkbox", "radio")


def told_fields(fields: Sequence[Element]) -> str:
    """`Title = 'Crash', Label = 'bug'`."""
    return ", ".join(f"{one.name} = {_held(one)}" for one in fields)


def _held(element: Element) -> str:
    if element.role in ("checkbox", "radio"):
        return "checked" if "checked" in element.flags else "not"
    return repr(element.value or "")
