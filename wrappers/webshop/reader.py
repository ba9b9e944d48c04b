"""A scripted shopper that reads states and instruction only, so that it can shop in a dream as well as for real."""

from __future__ import annotations

import random
from collections.abc import Sequence

from dreamgym_env.domains.webshop import page_of
from dreamgym_env.domains.webshop_conditions import lowest_price, stated_conditions, wanted_words
from dreamgym_env.domains.webshop_pages import BUY, NEXT, PREV, ItemPage, ResultsPage, Row, SubPage
from dreamgym_env.types import Task, Transition


class WebShopReader:
    """Searches the task's words, opens the best row that is cheap enough, chooses the stated options, buys.

    A product that does not offer a stated option is left for the next best, up to three times. With probability `slip`
    it does anything else instead, one time in six something impossible; `slip=1` is the random agent.
    """

    def __init__(self, slip: float, seed: int) -> None:
        self.slip, self.rng = slip, random.Random(seed)

    def act(self, task: Task, state: str, available: Sequence[str], history: Sequence[Transition]) -> str:
        """The next action, as text."""
        page, words = page_of(state), wanted_words(task.instruction)
        if available and self.rng.random() < self.slip:
            return self._slip(words, available)
        conditions = stated_conditions(task.instruction)
        if isinstance(page, ResultsPage) and page.rows:
            bound = conditions.price_upper or float("inf")
            fresh = [row for row in page.rows if f"click[{row.asin}]" not in {step.action for step in history}]
            return f"click[{max(fresh or page.rows, key=lambda row: _fit(row, words, bound)).asin}]"
        if isinstance(page, ItemPage):
            offered = {value for _, values in page.options for value in values}
            taken = {value for _, value in page.chosen}
            left = [value for _, value in conditions.options if value in offered - taken]
            given_up = sum(step.action == f"click[{PREV}]" for step in history)
            if given_up < 3 and any(value not in offered for _, value in conditions.options):
                return f"click[{PREV}]"
            return f"click[{left[0] if left else BUY}]"
        if isinstance(page, SubPage):
            return f"click[{PREV}]"
        return f"search[{' '.join(words)}]"

    def _slip(self, words: Sequence[str], available: Sequence[str]) -> str:
        if self.rng.random() < 1 / 6:
            return f"click[{self.rng.choice([BUY, PREV, NEXT, 'Features', 'navy', 'B000000000'])}]"
        some = " ".join(word for word in words if self.rng.random() < 0.7) or words[-1]
        return self.rng.choice(list(available)).replace("<keywords>", some)


def _fit(row: Row, words: Sequence[str], bound: float) -> tuple[int, float]:
    return words_shown(row, words, bound), -lowest_price(row.price)


def words_shown(row: Row, words: Sequence[str], bound: float) -> int:
    """How many of the words the title holds, far below 0 where the price is above the bound in dollars."""
    title = row.title.lower()
    return sum(word in title for word in words) - (1000 if lowest_price(row.price) > bound else 0)
