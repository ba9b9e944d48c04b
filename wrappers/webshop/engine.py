"""`Session`: one visit to the shop as a state machine, with the original's pages, clickables and quirks."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Literal

from dreamgym_env.domains.webshop_pages import BACK, BUY, NEXT, PREV, SUB_PAGES, SubPageName

from .catalogue import Product
from .goals import Goal
from .reward import Conditions, explain
from .shop import Shop

PageName = Literal["search", "results", "item", "sub_page", "done"]
PAGE_SIZE = 10
_ACTION = re.compile(r"(.+)\[(.+)\]")
_SUB_PAGE = {name.lower(): name for name in SUB_PAGES}


def parse_action(action: str) -> tuple[str, str | None]:
    """`"click[Red]"` -> ("click", "Red"); (the whole text, None) where it has no such form.

    As in the original: text after the last bracket is ignored, verb and argument hold no line break, and an argument
    with an opening bracket is unreachable (the verb takes everything up to the last one).
    """
    match = _ACTION.match(action)
    return (match[1], match[2]) if match else (action, None)


def label(text: str) -> str:
    """A text as the abstract state spells it: one line, single spaces, and none of the state's own separators."""
    text = " ".join(text.replace("[", "(").replace("]", ")").split())
    return text.replace("; ", ", ").replace(" = ", "=")


@dataclass
class Session:
    """A visit with a goal. `page` and the other fields are what the current page depends on; read, do not write.

    `visited` has the ASINs opened since the last `Back to Search`; `options` maps option name to chosen value;
    `looked` has the sub-pages of the current product that were opened.
    """

    shop: Shop
    goal: Goal
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    show_attributes: bool = False
    page: PageName = "search"
    keywords: tuple[str, ...] = ()
    number: int = 1
    hits: tuple[Product, ...] = ()
    product: Product | None = None
    options: dict[str, str] = field(default_factory=dict)
    visited: set[str] = field(default_factory=set)
    looked: set[SubPageName] = field(default_factory=set)
    sub_page: SubPageName = "Description"
    purchase: Conditions | None = None

    @property
    def rows(self) -> tuple[Product, ...]:
        """The products on the current results page, at most 10."""
        return self.hits[(self.number - 1) * PAGE_SIZE : self.number * PAGE_SIZE]

    @property
    def sub_pages(self) -> tuple[SubPageName, ...]:
        """The item page's sub-page buttons."""
        return SUB_PAGES if self.show_attributes else SUB_PAGES[:3]

    def buttons(self) -> list[str]:
        """The page's buttons and product links as shown, from top to bottom, without options."""
        if self.page == "results":
            paging = [PREV, NEXT] if self.number > 1 else [NEXT]
            return [BACK, *paging, *(product.asin for product in self.rows)]
        return {
            "search": ["Search"],
            "item": [BACK, PREV, *self.sub_pages, BUY],
            "sub_page": [BACK, PREV],
            "done": [],
        }[self.page]

    def clickables(self) -> list[str]:
        """What the original's `get_available_actions` lists: buttons in lower case, then option values, each once."""
        texts = [text.lower() for text in self.buttons()]
        if self.page == "item":
            texts += [value for values in self._product.options.values() for value in values]
        return list(dict.fromkeys(texts))

    def act(self, action: str) -> bool:
        """Takes an action; False where it is impossible here and nothing happened."""
        name, argument = parse_action(action)
        if argument is None:
            return False
        argument = argument.lower()
        if name == "search":
            self._search(tuple(argument.split(" ")), 1)
            return True
        clickable = self._clickable(argument) if name == "click" else None
        if clickable is None or clickable == "search":
            return False
        self._click(clickable)
        return True

    @property
    def _product(self) -> Product:
        assert self.product is not None, "item pages have a product"
        return self.product

    def _clickable(self, argument: str) -> str | None:
        """The clickable of that text, or of that label: values with double spaces or brackets have another one."""
        clickables = self.clickables()
        if argument in clickables:
            return argument
        return next((text for text in clickables if label(text) == argument), None)

    def _click(self, text: str) -> None:
        if text == BUY.lower():
            self._buy()
        elif text == BACK.lower():
            self.page, self.keywords, self.hits, self.product = "search", (), (), None
            self.options, self.visited = {}, set()
        elif text in (NEXT.lower(), PREV.lower()) and self.page == "results":
            self._search(self.keywords, self.number + (1 if text == NEXT.lower() else -1))
        elif text == PREV.lower() and self.page == "item":
            self._search(self.keywords, self.number)
        elif text == PREV.lower():
            self.page = "item"
        elif text in _SUB_PAGE:
            self.page, self.sub_page = "sub_page", _SUB_PAGE[text]
            self.looked.add(self.sub_page)
        elif self.page == "results":
            self._open(text.upper())
        else:
            self._choose(text)

    def _search(self, keywords: tuple[str, ...], number: int) -> None:
        """Searches anew for every page, as the original does: `<r>` shows other products each time."""
        self.hits = self.shop.search(keywords, self.rng)
        self.page, self.keywords, self.number = "results", keywords, number
        self.product, self.options = None, {}

    def _open(self, asin: str) -> None:
        self.page, self.product, self.looked = "item", self.shop.by_asin[asin], set()
        self.visited.add(asin)

    def _choose(self, value: str) -> None:
        """Of two options with the same value the last one is meant."""
        name = [name for name, values in self._product.options.items() if value in values][-1]
        self.options[name] = value

    def _buy(self) -> None:
        product = self._product
        price = self.shop.prices[product.asin]
        self.purchase = explain(self.goal, product, price, self.options, self.shop.key.tagger)
        self.page = "done"
