"""The WebShop referee: judges dreamed episodes by rule, with the true goal and catalogue that the dream never sees."""

from __future__ import annotations

from dataclasses import replace

from dreamgym_env.domains.webshop import WEBSHOP, page_of
from dreamgym_env.domains.webshop_pages import BUY, ItemPage, ResultsPage, SubPage
from dreamgym_env.types import Prediction, StepContext, Trajectory, Transition

from .catalogue import Product
from .goals import Goal
from .reward import explain
from .shop import Shop


class WebShopReferee:
    """What is wrong with a dreamed step, and whether a dreamed purchase meets the goal."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def step_errors(self, context: StepContext, transition: Transition) -> list[str]:
        """Kinds of error of one dreamed step, from the episode's own words and from the catalogue.

        `impossible_accepted`: the page changed although the action is impossible; `contradiction`: it denies what the
        episode has said; `unreal_row`, `unreal_options`: a listed product, or the options of one, that the catalogue
        does not have (a dream may invent; it is told apart because replays then differ).
        """
        action = WEBSHOP.parse_action(context.state, context.action)
        if action is None or not WEBSHOP.is_possible(context, action):
            changed = transition.terminated or transition.next_state != context.state
            return ["impossible_accepted"] if changed else []
        told = Prediction("", transition.next_state, transition.reward, transition.terminated)
        errors = ["contradiction"] if WEBSHOP.contradiction(context, told) else []
        page = page_of(transition.next_state)
        if isinstance(page, ResultsPage) and any(not self._real(row.asin, row.title, row.price) for row in page.rows):
            errors.append("unreal_row")
        product = self.shop.by_asin.get(action.argument)
        if product and isinstance(page, ItemPage) and dict(page.options) != dict(product.options):
            errors.append("unreal_options")
        return errors

    def _real(self, asin: str, title: str, price: str) -> bool:
        product = self.shop.by_asin.get(asin)
        return product is not None and product.title == title and product.price_tag == price

    def judge(self, trajectory: Trajectory) -> bool | None:
        """Whether the episode's purchase truly meets its goal; None without a purchase or for a task of no goal."""
        goal = self.goal(trajectory)
        last = trajectory.transitions[-1] if trajectory.transitions else None
        if goal is None or last is None or not last.terminated:
            return None
        page = page_of(last.state)
        if not last.action.endswith(f"[{BUY}]") or not isinstance(page, ItemPage):
            return False
        product, price = self._bought(goal, trajectory, page)
        return explain(goal, product, price, dict(page.chosen), self.shop.key.tagger).success

    def goal(self, trajectory: Trajectory) -> Goal | None:
        """The goal behind the task, or None where the task is not one of the shop's."""
        index = trajectory.task.task_id.rpartition("-")[2]
        known = index.isdigit() and int(index) < len(self.shop.goals)
        goal = self.shop.goals[int(index)] if known else None
        return goal if goal and goal.instruction == trajectory.task.instruction else None

    def _bought(self, goal: Goal, trajectory: Trajectory, page: ItemPage) -> tuple[Product, float]:
        """The catalogue's product where the dream shows it truly, else one made of what the dream has shown."""
        opened = [t.action[len("click[") : -1] for t in trajectory.transitions]
        asin = next((text for text in reversed(opened) if text in self.shop.by_asin), "")
        if asin and self._real(asin, page.title, page.price):
            return self.shop.by_asin[asin], self.shop.prices[asin]
        shown = tuple(line for t in trajectory.transitions for line in _sub_page_lines(t.state))
        same_kind = goal.query.lower() in page.title.lower()
        template = self.shop.by_asin[goal.asin]
        product = replace(
            template,
            asin="",
            title=page.title,
            description="",
            bullet_points=shown,
            query=goal.query if same_kind else "",
            product_category=template.product_category if same_kind else "",
            attributes=(),
        )
        return product, float(page.price.split(" to ")[0].lstrip("$"))


def _sub_page_lines(state: str) -> tuple[str, ...]:
    page = page_of(state)
    return page.lines if isinstance(page, SubPage) else ()
