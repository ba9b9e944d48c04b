"""`WebShopOracle`: demonstrates how to shop; it reads the goal from the engine, never from an observation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from dreamgym_env.domains.webshop_pages import BACK, BUY, NEXT, PREV, SubPageName

from .catalogue import Product
from .engine import Session, label
from .goals import Goal
from .reward import explain, option_check
from .shop import Shop


@lru_cache(maxsize=65536)
def winning_options(shop: Shop, goal: Goal, asin: str) -> tuple[tuple[str, str], ...] | None:
    """(name, value) choices that make buying this product a success, or None where none do."""
    product, price, tagger = shop.by_asin[asin], shop.prices[asin], shop.key.tagger
    plain = explain(goal, product, price, {}, tagger)
    if plain.type_factor < 1 or not all(check.met for check in (*plain.attributes, plain.price)):
        return None
    best: dict[str, str] = {}
    for asked in goal.options:
        if choice := _choice_for(asked, product, best):
            best[choice[0]] = choice[1]
    return tuple(best.items()) if explain(goal, product, price, best, tagger).success else None


def _choice_for(asked: tuple[str, str] | str, product: Product, taken: dict[str, str]) -> tuple[str, str] | None:
    """The option to choose for one wish: an exact value first, then one that matches; never a name chosen before."""
    free = [(name, value) for name, values in product.options.items() if name not in taken for value in values]
    exact = [choice for choice in free if asked in (choice, choice[1])]
    return next((choice for choice in exact + free if option_check(asked, [choice[1]]).met), None)


class WebShopOracle:
    """Searches for the wanted attributes and kind, opens the first product that can win, chooses, buys.

    It pages on while the search has hits left, then tries the next of its queries. It keeps nothing between calls but
    the session's past queries, so one oracle can serve many environments and take over in mid-episode.
    """

    name = "oracle"

    def act(self, env: Any) -> str:
        """The next action in `env` (a `WebShopEnv`, wrapped or not).

        Raises:
            ValueError: the environment's backend has no engine to read the goal from.
        """
        session = env.unwrapped.session
        if not isinstance(session, Session):
            raise ValueError("`env` must be a WebShopEnv with backend='native' after reset()")
        if session.page == "search":
            return f"search[{queries(session.goal)[0]}]"
        if session.page == "results":
            return self._from_results(session)
        return self._from_item(session)

    def _from_results(self, session: Session) -> str:
        winners = [product for product in session.rows if self._can_win(session, product)]
        if winners:  # first one whose title shows every wanted attribute, else first one
            best = min(winners, key=lambda product: bool(unseen_in_title(session.goal, product)))
            return f"click[{best.asin}]"
        later = session.hits[session.number * 10 :]
        if any(self._can_win(session, product) for product in later):
            return f"click[{NEXT}]"
        tried = " ".join(session.keywords)
        known = queries(session.goal)
        following = known[known.index(tried) + 1 :] if tried in known else known
        return f"search[{following[0] if following else known[0]}]"

    def _from_item(self, session: Session) -> str:
        assert session.product is not None
        wanted = winning_options(session.shop, session.goal, session.product.asin)
        if session.page == "sub_page":
            return f"click[{PREV}]"
        if wanted is None:
            return f"click[{PREV}]" if session.hits else f"click[{BACK}]"
        if page := self._evidence(session):
            return f"click[{page}]"
        for _, value in wanted:
            if value not in session.options.values():  # the name does not count, and two options may share a value
                return f"click[{label(value)}]"
        return f"click[{BUY}]"

    def _evidence(self, session: Session) -> SubPageName | None:
        """The sub-page, not yet opened, that shows a wanted attribute which the title does not."""
        assert session.product is not None
        for attribute in unseen_in_title(session.goal, session.product):
            if any(attribute in point.lower() for point in session.product.bullet_points):
                return None if "Features" in session.looked else "Features"
            if attribute in session.product.description.lower():
                return None if "Description" in session.looked else "Description"
        return None

    def _can_win(self, session: Session, product: Product) -> bool:
        return winning_options(session.shop, session.goal, product.asin) is not None


def unseen_in_title(goal: Goal, product: Product) -> list[str]:
    """The wanted attributes that the product's title does not contain."""
    title = product.title.lower()
    return [attribute for attribute in goal.attributes if attribute not in title]


def queries(goal: Goal) -> list[str]:
    """Searches worth trying, best first: attributes and kind, kind alone, the title itself."""
    texts = [f"{' '.join(goal.attributes)} {goal.query}", goal.query, goal.name]
    return [" ".join(text.replace("[", " ").replace("]", " ").lower().split()) for text in texts]
