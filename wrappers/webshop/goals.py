"""Goals, human and synthetic, drawn and shuffled as in the original, and their splits."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .catalogue import HumanInstruction, Product

GoalKind = Literal["synthetic", "human"]
SplitName = Literal["train", "held_out", "test", "eval", "all"]
SplitStyle = Literal["verl", "original"]
SHUFFLE_SEED = 233
NO_BOUND = 1_000_000.0
_BOUNDS = [10.0 * n for n in range(1, 100)]


@dataclass(frozen=True)
class Goal:
    """What a session is after.

    `options` has (name, value) pairs for synthetic goals and bare values for human ones, as the reward treats them
    differently. `price_upper` in dollars, `NO_BOUND` where the instruction names none.
    """

    asin: str
    name: str
    query: str
    product_category: str
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...] | tuple[str, ...]
    price_upper: float


def draw_prices(products: Sequence[Product], rng: random.Random) -> dict[str, float]:
    """ASIN to price in dollars; uniform over the range where the price is one."""
    return {
        product.asin: rng.uniform(*product.price_range) if len(product.price_range) == 2 else product.price_range[0]
        for product in products
    }


def make_goals(
    products: Sequence[Product], prices: Mapping[str, float], kind: GoalKind, rng: random.Random
) -> tuple[Goal, ...]:
    """All goals of the catalogue in their shuffled order. `rng` draws the price bounds, in the original's order.

    Raises:
        ValueError: `kind` is neither "synthetic" nor "human".
    """
    if kind not in ("synthetic", "human"):
        raise ValueError(f"`goals` must be 'synthetic' or 'human', got {kind!r}")
    make = _synthetic if kind == "synthetic" else _human
    goals = [goal for product in products for goal in make(product, prices[product.asin], rng)]
    random.Random(SHUFFLE_SEED).shuffle(goals)
    return tuple(goals)


def _bound(price: float, rng: random.Random) -> tuple[float, str]:
    """The larger of two draws among the next four multiples of 10, and how the instruction says it."""
    above = [bound for bound in _BOUNDS if bound > price][:4]
    if len(above) < 2:
        return NO_BOUND, ""
    upper = max(rng.sample(above, 2))
    return upper, f", and price lower than {upper:.2f} dollars"


def _human(product: Product, price: float, rng: random.Random) -> Iterator[Goal]:
    for asked in product.human_instructions:
        if asked.attributes:
            upper, text = _bound(price, rng)
            yield _human_goal(product, asked, upper, text)


def _human_goal(product: Product, asked: HumanInstruction, upper: float, text: str) -> Goal:
    instruction = asked.text.strip(".") + text
    return _goal(product, instruction, asked.attributes, asked.options, upper)


def _synthetic(product: Product, price: float, rng: random.Random) -> Iterator[Goal]:
    """One goal for each combination of the product's options; names in alphabetical order."""
    if product.instruction is None or not product.instruction_attributes:
        return
    upper, text = _bound(price, rng)
    names = sorted(product.options)
    for values in itertools.product(*(product.options[name] for name in names)):
        options = tuple(zip(names, values, strict=True))
        wish = ", and ".join(f"{name}: {value}" for name, value in options)
        instruction = product.instruction + (f" with {wish}" if wish else "") + text
        yield _goal(product, instruction, product.instruction_attributes, options, upper)


def _goal(
    product: Product,
    instruction: str,
    attributes: tuple[str, ...],
    options: tuple[tuple[str, str], ...] | tuple[str, ...],
    upper: float,
) -> Goal:
    return Goal(
        product.asin,
        product.title,
        product.query,
        product.product_category,
        instruction,
        attributes,
        options,
        upper,
    )


def split_range(count: int, split: SplitName, style: SplitStyle = "verl") -> range:
    """The indices of a split among `count` shuffled goals.

    Style "verl": held_out 0-499, train from 500; style "original": test 0-499, eval 500-1499, train from 1500, where
    "held_out" means test and eval together. A small catalogue (under twice as many goals as the held-out part needs)
    gives its first quarter to the held-out part, in equal halves for test and eval.

    Raises:
        ValueError: the split or style is unknown, or the style has no such split.
    """
    if style not in ("verl", "original"):
        raise ValueError(f"`split_style` must be 'verl' or 'original', got {style!r}")
    held_out, test = (500, 500) if style == "verl" else (1500, 500)
    if count < 2 * held_out:
        held_out = count // 4
        test = held_out // 2 if style == "original" else held_out
    ranges = {"all": range(count), "held_out": range(held_out), "train": range(held_out, count)}
    if style == "original":
        ranges |= {"test": range(test), "eval": range(test, held_out)}
    if split not in ranges:
        raise ValueError(f"`split` must be one of {sorted(ranges)} with split_style={style!r}, got {split!r}")
    return ranges[split]
