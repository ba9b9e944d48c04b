"""`Shop`: one loaded catalogue with prices, goals and search, shared by every session in the process."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from .catalogue import Product, load_products, resolve_folder, sample_folder
from .goals import Goal, GoalKind, draw_prices, make_goals
from .nouns import Tagger, choose_tagger
from .search import Search


@dataclass(frozen=True)
class ShopKey:
    """What a shop is loaded from; equal keys share one shop in memory."""

    folder: str
    num_products: int | None
    goals: GoalKind
    seed: int
    tagger: Literal["rules", "spacy"]


@dataclass(frozen=True, eq=False)
class Shop:
    """Products, prices in dollars by ASIN, goals in shuffled order, and search. Pickles as its key: the receiving
    process loads the files once."""

    key: ShopKey
    products: tuple[Product, ...]
    by_asin: Mapping[str, Product]
    prices: Mapping[str, float]
    goals: tuple[Goal, ...]
    search: Search

    @cached_property
    def instructions(self) -> tuple[str, ...]:
        """The goals' instructions, in the goals' order."""
        return tuple(goal.instruction for goal in self.goals)

    def __reduce__(self) -> Any:
        return _shop, (self.key,)


def load_shop(
    data_dir: str | None = None,
    num_products: int | None = None,
    goals: GoalKind = "synthetic",
    seed: int = 233,
    tagger: Tagger = "auto",
) -> Shop:
    """The shop of these files, loaded once for each set of arguments.

    `seed` draws ranged prices and price bounds, which the original leaves to an unseeded generator. The sample
    catalogue is always judged by the rules of `nouns`, so that its rewards are the same on every machine.

    Raises:
        DataError: the files are missing or broken.
        ValueError: an argument is none of its values.
    """
    if goals not in ("synthetic", "human"):
        raise ValueError(f"`goals` must be 'synthetic' or 'human', got {goals!r}")
    if num_products is not None and num_products < 1:
        raise ValueError(f"`num_products` must be at least 1 or None, got {num_products}")
    folder = resolve_folder(data_dir)
    if tagger == "auto" and folder == sample_folder().resolve():
        tagger = "rules"
    return _shop(ShopKey(str(folder), num_products, goals, seed, choose_tagger(tagger)))


@lru_cache(maxsize=4)
def _catalogue(folder: str, num_products: int | None) -> tuple[tuple[Product, ...], Search]:
    products = load_products(Path(folder), num_products)
    return products, Search(products)


@lru_cache(maxsize=8)
def _shop(key: ShopKey) -> Shop:
    products, search = _catalogue(key.folder, key.num_products)
    rng = random.Random(key.seed)
    prices = draw_prices(products, rng)
    goals = make_goals(products, prices, key.goals, rng)
    return Shop(key, products, {product.asin: product for product in products}, prices, goals, search)
