"""What a WebShop instruction asks for in so many words, and what an item page lets one say of it before buying.

The instructions that the shop composes itself read `Find me A, B KIND with NAME: VALUE, and NAME: VALUE, and price
lower than X dollars`; what people wrote freely states nothing that these rules can read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dreamgym_env.domains.webshop_pages import ItemPage

_PRICE_BOUND = re.compile(r",? and price lower than (\d+(?:\.\d+)?) dollars")
_NAME = r"(?:(?! with )[^:,])+"
_OPTION = re.compile(rf"(?: with |, and )({_NAME}): (.+?)(?=, and {_NAME}: |, and price lower than |$)")
_HEAD = re.compile(rf"^find me (.*?)(?: with {_NAME}: .*)?(?:, and price lower than .*)?$", re.IGNORECASE)
_WORD = re.compile(r"[\w'-]+")
_LETTERS = re.compile(r"[a-z]{3,}")


@dataclass(frozen=True)
class Conditions:
    """What an instruction states in so many words; `price_upper` in dollars, None where it states none."""

    options: tuple[tuple[str, str], ...]
    price_upper: float | None


def stated_conditions(instruction: str) -> Conditions:
    """Options and price bound that a synthetic instruction spells out."""
    bound = _PRICE_BOUND.search(instruction)
    options = tuple((name.strip(), value.strip()) for name, value in _OPTION.findall(instruction))
    return Conditions(options, float(bound[1]) if bound else None)


def asked_options(instruction: str) -> int | None:
    """How many options a composed instruction asks for; None for free words, of which these rules can read none."""
    return len(stated_conditions(instruction).options) if instruction.startswith("Find me ") else None


def wanted_words(instruction: str) -> list[str]:
    """The words between `Find me` and the options, in lower case without punctuation; of other texts all words."""
    match = _HEAD.match(instruction)
    return _WORD.findall((match[1] if match else instruction).lower())


def lowest_price(price: str) -> float:
    """The number of a price tag; of a range the lower end, which is the only bound the page lets one deny."""
    return float(price.split(" to ")[0].lstrip("$"))


def denied(page: ItemPage, instruction: str) -> str | None:
    """The first stated condition that buying this page, as chosen, cannot meet; None where the page denies none."""
    conditions = stated_conditions(instruction)
    if conditions.price_upper is not None and lowest_price(page.price) > conditions.price_upper:
        return f"{page.price} is not lower than {conditions.price_upper:.2f} dollars"
    for name, value in conditions.options:
        if not any(_alike(name, value.lower(), chosen.lower()) for _, chosen in page.chosen):
            return f"{name}: {value} was not chosen"
    return None


def _alike(name: str, asked: str, chosen: str) -> bool:
    """Whether the shop might take the one for the other: it compares loosely, and colours by their name alone."""
    if "color" in name and set(_LETTERS.findall(asked)) & set(_LETTERS.findall(chosen)):
        return True
    return asked in chosen or chosen in asked or bool(set(asked.split()) & set(chosen.split()))


def all_shown(page: ItemPage, instruction: str) -> bool:
    """Whether the page shows that every condition is met: all words in the title, all options chosen, price below."""
    conditions = stated_conditions(instruction)
    if conditions.price_upper is None or not _HEAD.match(instruction):
        return False
    highest = float(page.price.split(" to ")[-1].lstrip("$"))
    words = set(_WORD.findall(page.title.lower()))
    return (
        highest < conditions.price_upper
        and set(wanted_words(instruction)) <= words
        and {value for _, value in conditions.options} <= {value for _, value in page.chosen}
    )
