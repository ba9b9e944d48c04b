"""Imperfect shoppers for offline data: an oracle that slips, careless and hasty shoppers, and one who clicks at random.

An experience model that only saw experts lets a weak policy get away with anything, so the data must hold wrong
products, missing options, wandering, early purchases and impossible clicks (`docs/experience-model.md`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from dreamgym_env.domains.webshop import WEBSHOP, page_of
from dreamgym_env.domains.webshop_conditions import stated_conditions, wanted_words
from dreamgym_env.domains.webshop_pages import BACK, BUY, NEXT, PREV, ItemPage, ResultsPage, SearchPage

from .engine import Session
from .oracle import WebShopOracle
from .reader import words_shown

_NAME = re.compile(r"(oracle|random|slips|careless|hasty)(?:-(0?\.\d+|[01]))?$")


def words_to_search(session: Session, rng: random.Random, keep: float) -> str:
    """Some words of the goal: each attribute with probability `keep`, and the kind of product."""
    attributes = [attribute for attribute in session.goal.attributes if rng.random() < keep]
    words = " ".join([*attributes, session.goal.query]).lower()
    return words.replace("[", " ").replace("]", " ")


class SlippingOracle:
    """Acts like the oracle, but with probability `slip` clicks or searches something else."""

    def __init__(self, slip: float, seed: int) -> None:
        self.slip, self.rng, self.oracle = slip, random.Random(seed), WebShopOracle()

    def act(self, env: Any) -> str:
        """The next action, as text."""
        if self.rng.random() >= self.slip:
            return self.oracle.act(env)
        draw, session = self.rng.random(), env.unwrapped.session
        if draw < 0.15:
            return self._impossible(session)
        if draw < 0.3:
            return f"search[{words_to_search(session, self.rng, 0.5)}]"
        actions = WEBSHOP.available_actions(env.unwrapped.state, ())
        action = self.rng.choice(actions)
        if "<keywords>" in action:
            return f"search[{words_to_search(session, self.rng, 0.5)}]"
        return action

    def _impossible(self, session: Session) -> str:
        """A click on what may well not be here: another product, an option's value, a button of another page."""
        names = [BUY, PREV, NEXT, BACK, "Features", self.rng.choice(session.shop.products).asin]
        names += [value for _, values in self.rng.choice(session.shop.products).options.items() for value in values[:2]]
        return f"click[{self.rng.choice(names)}]"


class CarelessShopper:
    """Buys the first product it opens; each decision is sensible with probability `care`.

    It knows from the results page which product can win, so its demonstrations never leave a product for another.
    """

    def __init__(self, care: float, seed: int) -> None:
        self.care, self.rng, self.oracle = care, random.Random(seed), WebShopOracle()
        self._product, self._skipped = "", set[str]()

    def act(self, env: Any) -> str:
        """The next action, as text."""
        session: Session = env.unwrapped.session
        if session.page == "search":
            return f"search[{words_to_search(session, self.rng, self.care)}]"
        if session.page == "results":
            return self._pick(session, env)
        if session.page == "sub_page":
            return f"click[{PREV}]"
        return self._choose_or_buy(session)

    def _pick(self, session: Session, env: Any) -> str:
        if self.rng.random() < self.care:
            return self.oracle.act(env)
        if self.rng.random() < 0.05 or not session.rows:
            return f"click[{self.rng.choice([NEXT, BACK])}]"
        return f"click[{self.rng.choice(session.rows).asin}]"

    def _choose_or_buy(self, session: Session) -> str:
        assert session.product is not None
        if session.product.asin != self._product:
            self._product, self._skipped = session.product.asin, set()
        if self.rng.random() < 0.05:
            return f"click[{self.rng.choice(['Features', 'Description', PREV])}]"
        wanted = {pair[1] for pair in session.goal.options if isinstance(pair, tuple)}
        for name, values in session.product.options.items():
            if name in session.options or name in self._skipped:
                continue
            right = [value for value in values if value in wanted]
            if right and self.rng.random() < self.care:
                return f"click[{right[0]}]"
            if self.rng.random() < 0.5:
                return f"click[{self.rng.choice(values)}]"
            self._skipped.add(name)
        return f"click[{BUY}]"


class HastyShopper:
    """Reads states alone, as an agent must, and thinks; `thought` is what it thought before its last action.

    On a results page it plans which rows to open: from top to bottom those whose titles have most of the wanted words.
    On a product's page it checks whether each stated option is offered; one that lacks an option it keeps all the same
    with probability `haste`, else it goes back and opens the next row. All its other decisions are careless one time in
    ten. Its demonstrations show all that a policy needs to know, and make one that often buys the wrong thing.
    """

    def __init__(self, haste: float, seed: int) -> None:
        self.haste, self.rng = haste, random.Random(seed)
        self.thought = ""
        self._plan: list[str] = []
        self._opened, self._kept = set[str](), False

    def act(self, env: Any) -> str:
        """The next action, as text."""
        unwrapped = env.unwrapped
        page, instruction = page_of(unwrapped.state), unwrapped.task.instruction
        words, conditions = wanted_words(instruction), stated_conditions(instruction)
        self.thought = ""
        if unwrapped.step_count == 0:
            self._plan, self._opened = [], set()
        if isinstance(page, SearchPage):
            some = [word for word in words[:-1] if self.rng.random() < 0.9]
            return f"search[{' '.join([*some, words[-1]])}]"
        if isinstance(page, ResultsPage) and page.rows:
            return self._open(page, words, conditions.price_upper or float("inf"))
        if isinstance(page, ItemPage):
            return self._choose_or_leave(page, conditions.options)
        return f"click[{BACK if isinstance(page, ResultsPage) else PREV}]"

    def _open(self, page: ResultsPage, words: Sequence[str], bound: float) -> str:
        fresh = [row for row in page.rows if row.asin not in self._opened] or list(page.rows)
        if self.rng.random() < 0.1:
            self._plan = [self.rng.choice(fresh).asin]
        elif not self._plan:
            most = max(words_shown(row, words, bound) for row in fresh)
            self._plan = [row.asin for row in fresh if words_shown(row, words, bound) == most]
        self.thought = f"opens {' '.join(self._plan)}"
        asin, self._plan = self._plan[0], self._plan[1:]
        self._opened.add(asin)
        self._kept = False
        return f"click[{asin}]"

    def _choose_or_leave(self, page: ItemPage, asked: tuple[tuple[str, str], ...]) -> str:
        offered = {value for _, values in page.options for value in values}
        if not self._kept:
            checks = "; ".join(f"{name} {value} {'yes' if value in offered else 'no'}" for name, value in asked)
            lacks = any(value not in offered for _, value in asked)
            self.thought = f"checks: {checks}; so {'failure' if lacks else 'success'}" if asked else ""
            if lacks and self.rng.random() >= self.haste:
                return f"click[{PREV}]"
            self._kept = True
        elif self.rng.random() < 0.05:
            return f"click[{self.rng.choice(page.sub_pages)}]"
        left = [value for _, value in asked if value in offered - {value for _, value in page.chosen}]
        return f"click[{left[0] if left and self.rng.random() < 0.9 else BUY}]"


def demonstrator(name: str, seed: int) -> WebShopOracle | SlippingOracle | CarelessShopper | HastyShopper:
    """A shopper by name: `oracle`, `slips-0.3`, `careless-0.7` (care in [0, 1]), `hasty-0.6` (haste) or `random`.

    Raises:
        ValueError: no such name, or a number outside [0, 1].
    """
    match = _NAME.match(name)
    if not match or (match[1] in ("slips", "careless", "hasty")) != bool(match[2]):
        raise ValueError(f"`policy` must be oracle, random, slips-P, careless-P or hasty-P, P in [0, 1], got {name!r}")
    if match[1] == "oracle":
        return WebShopOracle()
    if match[1] == "careless":
        return CarelessShopper(float(match[2]), seed)
    if match[1] == "hasty":
        return HastyShopper(float(match[2]), seed)
    return SlippingOracle(float(match[2]) if match[2] else 1.0, seed)
