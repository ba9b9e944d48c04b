"""The graded reward of a purchase, condition by condition (WebShop, arXiv:2207.01206, Section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from thefuzz import fuzz

from .catalogue import Product
from .goals import Goal
from .nouns import nouns

MATCH = 85
_COLOR_TEXT = (
    "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo "
    "caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream "
    "crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather "
    "indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha "
    "multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal "
    "rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise "
    "violet walnut wheat white wine yellow"
)
COLORS = tuple(_COLOR_TEXT.split())
"""Colour words in the order in which the original looks for them; the first one found stands for the whole value."""


@dataclass(frozen=True)
class Check:
    """One condition of the goal: what is asked, whether it is met, and why (`where` or the value that met it)."""

    asked: str
    met: bool
    reason: str


@dataclass(frozen=True)
class Conditions:
    """Every condition of a goal for one purchase.

    `type_factor` is 1.0 (right kind of product), 0.5, 0.1 or 0.0; an attribute's reason is where it is found ("title",
    "features", "description", "attributes") or "" where it is missing; an option's is the chosen value that matches.
    `score` in [0, 1] is the graded reward.
    """

    type_factor: float
    query_match: bool
    category_match: bool
    title_score: float
    attributes: tuple[Check, ...]
    options: tuple[Check, ...]
    price: Check

    @property
    def score(self) -> float:
        checks = [*self.attributes, *self.options, self.price]
        return sum(check.met for check in checks) / len(checks) * self.type_factor

    @property
    def success(self) -> bool:
        return self.score == 1.0


def explain(
    goal: Goal,
    product: Product,
    price: float,
    options: dict[str, str],
    tagger: Literal["rules", "spacy"] = "rules",
) -> Conditions:
    """Judges a purchase of `product` for `price` dollars with the chosen `options` (name to value)."""
    query_match = product.query == goal.query
    shared = _levels(product.product_category) & _levels(goal.product_category)
    category_match = len(shared) >= 2
    title_score = _title_score(product.title, goal.name, tagger)
    chosen = list(options.values())
    return Conditions(
        type_factor=_type_factor(query_match or category_match, title_score),
        query_match=query_match,
        category_match=category_match,
        title_score=title_score,
        attributes=tuple(_attribute(asked, product) for asked in goal.attributes),
        options=tuple(option_check(asked, chosen) for asked in goal.options),
        price=Check(f"{goal.price_upper:.2f}", price <= goal.price_upper, f"{price:.2f}"),
    )


@lru_cache(maxsize=65536)
def first_color(value: str) -> str:
    """The first known colour word inside a value, or the value itself."""
    return next((color for color in COLORS if color in value), value)


def _levels(path: str) -> set[str]:
    return {level.strip() for level in path.split("›")}


def _title_score(title: str, wanted: str, tagger: Literal["rules", "spacy"]) -> float:
    """Share of the wanted title's nouns that the bought title has; 0.2 where the wanted title has none."""
    asked = nouns(wanted, tagger)
    return len(set(asked) & set(nouns(title, tagger))) / len(asked) if asked else 0.2


def _type_factor(same_kind: bool, title_score: float) -> float:
    if title_score == 0.0:
        return 0.0
    if title_score < 0.1:
        return 0.1
    return 1.0 if same_kind or title_score > 0.2 else 0.5


def _attribute(asked: str, product: Product) -> Check:
    where = next((name for name, text in _texts(product) if asked in text), "")
    if not where and any(fuzz.token_set_ratio(own, asked) > MATCH for own in product.attributes):
        where = "attributes"
    return Check(asked, bool(where), where)


def _texts(product: Product) -> tuple[tuple[str, str], ...]:
    return (
        ("title", product.title.lower()),
        ("features", " ".join(product.bullet_points).lower()),
        ("description", product.description.lower()),
    )


def option_check(asked: tuple[str, str] | str, chosen: Sequence[str]) -> Check:
    """Whether one of the chosen values meets one wish of a goal.

    A synthetic goal asks for (name, value): its value counts as a colour only where it is one exactly, and otherwise
    name and value are compared together, as in the original.
    """
    if isinstance(asked, str):
        text, wanted = asked, first_color(asked)
    else:
        text = f"{asked[0]}: {asked[1]}"
        wanted = next((color for color in COLORS if color in asked), str(asked))
    met = next((value for value in chosen if fuzz.token_set_ratio(first_color(value), wanted) > MATCH), None)
    return Check(text, met is not None, met or "")
