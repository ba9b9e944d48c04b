"""A scripted shopper that reads states and instruction only, so that it can shop in a dream as well as for real."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from dreamgym_env.domains.webshop import lowest_price, page_of, stated_conditions
from dreamgym_env.domains.webshop_pages import BUY, PREV, ItemPage, ResultsPage, Row, SubPage
from dreamgym_env.types import Task, Transition

_STATED = re.compile(r"^find me (.*?)(?: with [^:]+: .*)?(?:, and price lower than .*)?$", re.IGNORECASE)


def wanted_words(instruction: str) -> list[str]:
    """The words between `Find me` and the options, without punctuation."""
    match = _STATED.match(instruction)
    return re.findall(r"[\w'-]+", (match[1] if match else instruction).lower())


class WebShopReader:
    """Searches the task's words, opens the best-matching row that is cheap enough, chooses the stated options, buys.

    With probability `slip` it takes any available action instead; `slip=1` is the random agent.
    """

    def __init__(self, slip: float, seed: int) -> None:
        self.slip, self.rng = slip, random.Random(seed)

    def act(self, task: Task, state: str, available: Sequence[str], history: Sequence[Transition]) -> str:
        """The next action, as text."""
        page, words = page_of(state), wanted_words(task.instruction)
        if available and self.rng.random() < self.slip:
            some = " ".join(word for word in words if self.rng.random() < 0.7) or words[-1]
            return self.rng.choice(list(available)).replace("<keywords>", some)
        conditions = stated_conditions(task.instruction)
        if isinstance(page, ResultsPage) and page.rows:
            bound = conditions.price_upper or float("inf")
            return f"click[{max(page.rows, key=lambda row: _fit(row, words, bound)).asin}]"
        if isinstance(page, ItemPage):
            offered = {value for _, values in page.options for value in values}
            taken = {value for _, value in page.chosen}
            left = [value for _, value in conditions.options if value in offered - taken]
            return f"click[{left[0] if left else BUY}]"
        if isinstance(page, SubPage):
            return f"click[{PREV}]"
        return f"search[{' '.join(words)}]"


def _fit(row: Row, words: Sequence[str], bound: float) -> tuple[int, float]:
    title = row.title.lower()
    price = lowest_price(row.price)
    return sum(word in title for word in words) - (1000 if price > bound else 0), -price
