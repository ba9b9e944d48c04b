"""Reasoning traces R* for WebShop by rule, from the true goal and catalogue (Section 4.1.2, arXiv:2511.03773).

A trace says what the next page rests on, and before an outcome it checks the goal's conditions one by one, each
question right before its answer: small models learn a lookup whose question stands next to it far sooner.
"""

from __future__ import annotations

from dataclasses import replace

from dreamgym_env.domains.webshop import WEBSHOP, page_of
from dreamgym_env.domains.webshop_pages import BACK, BUY, NEXT, PREV, SUB_PAGES, ItemPage, read, told_choice, told_move
from dreamgym_env.types import Trajectory, Transition

from .goals import NO_BOUND, Goal
from .reward import Conditions, explain
from .shop import Shop


def checks(goal: Goal, page: ItemPage, conditions: Conditions) -> str:
    """Every condition of the goal with its answer, then the verdict; attributes are held against the title's first."""
    said = [f"{goal.query} {_yes(conditions.type_factor == 1.0)}"]
    said += [f"{compared(check.asked, page.title)}: {_yes(check.met)}" for check in conditions.attributes]
    said += [f"{check.asked.replace(': ', ' ')} {_yes(check.met)}" for check in conditions.options]
    if goal.price_upper != NO_BOUND:
        said.append(f"{page.price} under {goal.price_upper:.2f} {_yes(conditions.price.met)}")
    return f"checks: {'; '.join(said)}; so {'success' if conditions.success else 'failure'}"


def compared(asked: str, title: str) -> str:
    """The attribute beside each part of the title after its first comma, up to the one that it equals.

    Whether one word stands in a line is a lookup that a small model did not learn in 20 million tokens, since the same
    word stands in the task and in other lines too; that two neighbouring words are equal it mostly sees after two.
    """
    pairs = []
    for shown in title.split(", ")[1:]:
        pairs.append(f"{asked} {shown} {_yes(shown.lower() == asked.lower())}")
        if shown.lower() == asked.lower():
            break
    return ", ".join(pairs) or asked


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


class WebShopAnnotator:
    """Writes the reasoning trace of each transition of a real trajectory; needs the shop that it was collected in."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def annotate(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory with every `reasoning_trace` filled in.

        Raises:
            ValueError: the task is not one of this shop, or the instruction differs (other data, another seed).
        """
        index = trajectory.task.task_id.rpartition("-")[2]
        goal = self.shop.goals[int(index)] if index.isdigit() and int(index) < len(self.shop.goals) else None
        if goal is None or goal.instruction != trajectory.task.instruction:
            raise ValueError(
                f"task {trajectory.task.task_id!r} is not one of this shop; annotate with the data it was collected on"
            )
        asin, traced = "", []
        for transition in trajectory.transitions:
            action = WEBSHOP.parse_action(transition.state, transition.action)
            if action and transition.possible and action.argument in self.shop.by_asin:
                asin = action.argument
            traced.append(replace(transition, reasoning_trace=self._trace(goal, transition, asin)))
        return replace(trajectory, transitions=tuple(traced))

    def _trace(self, goal: Goal, transition: Transition, asin: str) -> str:
        action = WEBSHOP.parse_action(transition.state, transition.action)
        argument = action.argument if action else transition.action
        if action is None or not transition.possible:
            # Angle brackets would speak as the answer's own tags.
            named = " ".join(argument.replace("<", " ").replace(">", " ").split())
            return f"no {named} here, the page stays"
        if action.name == "search":
            return "search, results page 1"
        page, shown = page_of(transition.state), read(transition.next_state)
        if argument == BUY and isinstance(page, ItemPage):
            product = self.shop.by_asin[asin]
            conditions = explain(goal, product, self.shop.prices[asin], dict(page.chosen), self.shop.key.tagger)
            return checks(goal, page, conditions)
        if argument in (BACK, NEXT, PREV) or argument in SUB_PAGES:
            return told_move(shown)
        if isinstance(page, ItemPage) and isinstance(shown, ItemPage):
            return told_choice(page, shown, argument)
        return f"opens {argument}, nothing chosen"
