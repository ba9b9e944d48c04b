"""What `WebShopEnv` needs of a shop, and the native shop in that form."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dreamgym_env.domains.webshop_pages import Page

from .engine import Session
from .shop import Shop
from .text import page_of, rich_text, simple_text


class Visit(Protocol):
    """One episode in a shop."""

    @property
    def score(self) -> float | None:
        """The graded reward in [0, 1] once something has been bought (which ends the visit), else None."""
        ...

    def act(self, action: str) -> bool:
        """Takes an action in the original's spelling; False where it is impossible and nothing happened."""
        ...

    def page(self) -> Page:
        """The current page, abstractly."""
        ...

    def simple_text(self) -> str:
        """The original's `text` observation."""
        ...

    def rich_text(self) -> str:
        """The original's `text_rich` observation."""
        ...

    def available(self) -> dict[str, Any]:
        """The original's `get_available_actions()`."""
        ...


class Backend(Protocol):
    """A loaded shop: its goals' instructions in shuffled order, and visits after one of them."""

    @property
    def instructions(self) -> Sequence[str]: ...

    def visit(self, goal_index: int, rng: random.Random) -> Visit: ...


@dataclass(frozen=True)
class NativeVisit:
    """A `Session` as a `Visit`."""

    session: Session

    @property
    def score(self) -> float | None:
        return self.session.purchase.score if self.session.purchase else None

    def act(self, action: str) -> bool:
        return self.session.act(action)

    def page(self) -> Page:
        return page_of(self.session)

    def simple_text(self) -> str:
        return simple_text(self.session)

    def rich_text(self) -> str:
        return rich_text(self.session)

    def available(self) -> dict[str, Any]:
        return {"has_search_bar": self.session.page == "search", "clickables": self.session.clickables()}


@dataclass(frozen=True)
class NativeBackend:
    """The native shop; many of these may share one `Shop`."""

    shop: Shop
    show_attributes: bool = False

    @property
    def instructions(self) -> Sequence[str]:
        return self.shop.instructions

    def visit(self, goal_index: int, rng: random.Random) -> NativeVisit:
        return NativeVisit(Session(self.shop, self.shop.goals[goal_index], rng, self.show_attributes))
