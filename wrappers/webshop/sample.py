"""Makes the sample catalogue, in WebShop's own file schema, from our own words and a seed.

    python -m dreamgym_env.wrappers.webshop.sample --out DIR

writes `items_shuffle_1000.json`, `items_ins_v2_1000.json` and `items_human_ins.json`.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from .sample_words import BRANDS, CATEGORIES, Category

PRODUCTS_PER_CATEGORY = 40
SEED = 7
HUMAN_INSTRUCTIONS = 300
_ASIN = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BULLETS = ("{Attribute}: {fact}", "{fact}, and {attribute}", "{Attribute} by design", "Proudly {attribute}")
_HUMAN = (
    "i need some {phrase}{options}, {attributes} if you can",
    "i am looking for {attributes} {phrase}{options}.",
    "can you find {phrase}, {attributes} please{options}",
    "show me {attributes} {phrase}{options}.",
    "i want to buy {phrase}{options}, and only something {attributes}",
    "looking for {attributes} {phrase} for my home{options}.",
)

Json = dict[str, Any]


def make_catalogue(seed: int = SEED) -> tuple[list[Json], dict[str, Json], dict[str, list[Json]]]:
    """Products in shuffled order, attributes and synthetic instructions by ASIN, human-like instructions by ASIN."""
    rng = random.Random(seed)
    asins: set[str] = set()
    products, instructions = [], {}
    for category in CATEGORIES:
        titles: set[str] = set()
        for _ in range(PRODUCTS_PER_CATEGORY):
            product, extra = _product(category, rng, asins, titles)
            products.append(product)
            instructions[product["asin"]] = extra
    rng.shuffle(products)
    return products, instructions, _human_instructions(products, instructions, rng)


def write(folder: Path, seed: int = SEED) -> None:
    """Writes the three files into `folder`, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    products, instructions, human = make_catalogue(seed)
    files = {"items_shuffle_1000": products, "items_ins_v2_1000": instructions, "items_human_ins": human}
    for name, content in files.items():
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _product(category: Category, rng: random.Random, asins: set[str], titles: set[str]) -> tuple[Json, Json]:
    attributes = rng.sample(category.attributes.split(), rng.choice((3, 3, 4)))
    shown = 2 if len(attributes) == 3 and rng.random() < 0.5 else 3
    title = _unique(lambda: f"{rng.choice(BRANDS)} {category.phrase}, " + ", ".join(attributes[:shown]), titles)
    asin = _unique(lambda: "B0" + "".join(rng.choices(_ASIN, k=8)), asins)
    facts = category.facts.split("|")
    product = {
        "name": title,
        "full_description": f"{title.split()[0]} makes {category.phrase} for every day. {rng.choice(facts)}.",
        "pricing": _pricing(category, rng),
        "images": ["none"],
        "product_category": category.path,
        "average_rating": "",
        "small_description": _bullets(attributes, facts, shown, rng),
        "customization_options": _options(category, rng),
        "asin": asin,
        "category": category.top,
        "query": category.phrase,
        "page": 1,
    }
    extra: Json = {"attributes": attributes}
    if rng.random() < 0.85:
        wanted = _wanted(attributes, shown, rng)
        extra["instruction"] = f"Find me {', '.join(wanted)} {category.phrase}"
        extra["instruction_attributes"] = wanted
    return product, extra


def _unique(draw: Any, taken: set[str]) -> str:
    while (text := draw()) in taken:
        pass
    taken.add(text)
    return str(text)


def _pricing(category: Category, rng: random.Random) -> str:
    """About 1% without a price, 4% with a range; price points end in .99, the cheap ones also in .49."""
    low, high = category.prices
    points = [n + 0.99 for n in range(int(low) - 1, int(high))] + [n + 0.49 for n in range(5, 10) if low <= n < high]
    price = min(rng.choice(points), rng.choice(points))  # cheap products are more common than dear ones
    kind = rng.random()
    if kind < 0.01:
        return ""
    return f"${price:.2f}" if kind < 0.96 else f"${price:.2f}${price + rng.choice((3, 5, 8)):.2f}"


def _bullets(attributes: list[str], facts: list[str], shown: int, rng: random.Random) -> list[str]:
    """One line for each attribute, those that the title leaves out first: the first line is what search reads."""
    lines = []
    for index, attribute in enumerate(attributes[shown:] + attributes[:shown]):
        fact, template = facts[index % len(facts)], rng.choice(_BULLETS)
        lines.append(template.format(attribute=attribute, Attribute=attribute.capitalize(), fact=fact))
    return lines


def _options(category: Category, rng: random.Random) -> Json | str:
    """Three of four products get options; each of their kind's options with the chance 1 or 2 over their number (so
    that a few come out with none after all), and 2 to 5 values of each."""
    if rng.random() >= 0.75:
        return ""
    names = list(category.options)
    count = min(len(names), rng.choice((1, 2)))
    result = {}
    for name in [name for name in names if count == len(names) or name in rng.sample(names, count)]:
        pool = category.options[name]
        picked = set(rng.sample(pool, rng.randint(2, min(5, len(pool)))))
        result[name.capitalize()] = [{"value": value} for value in pool if value in picked]
    return result


def _wanted(attributes: list[str], shown: int, rng: random.Random) -> list[str]:
    """One or two attributes, nine of ten from the title."""
    count = rng.choice((1, 2, 2))
    wanted = rng.sample(attributes[:shown], count)
    if attributes[shown:] and rng.random() < 0.2:
        wanted[-1] = rng.choice(attributes[shown:])
    return wanted


def _human_instructions(products: list[Json], instructions: Json, rng: random.Random) -> dict[str, list[Json]]:
    result = {}
    for product in rng.sample(products, HUMAN_INSTRUCTIONS):
        attributes = instructions[product["asin"]]["attributes"]
        wanted = rng.sample(attributes[:2], rng.choice((1, 2)))
        options = {
            name: rng.choice(values)["value"] for name, values in (product["customization_options"] or {}).items()
        }
        told = {name: value for name, value in options.items() if rng.random() < 0.7}
        text = rng.choice(_HUMAN).format(
            phrase=product["query"],
            attributes=" and ".join(wanted),
            options=" in " * bool(told) + " and ".join(f"{value} {name.lower()}" for name, value in told.items()),
        )
        entry = {
            "asin": product["asin"],
            "instruction": text,
            "attributes": attributes,
            "options": [f"{name.lower()}: {value}" for name, value in options.items()],
            "instruction_attributes": wanted,
            "instruction_options": list(told.values()),
            "assignment_id": "SAMPLE",
            "worker_id": "SAMPLE",
        }
        result[product["asin"]] = [entry]
    return result


def main() -> None:
    """Command line: `--out DIR [--seed N]`."""
    parser = argparse.ArgumentParser(description="Make the sample WebShop catalogue.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the three files")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
