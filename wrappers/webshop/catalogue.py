"""WebShop's product files, read unchanged by the original's loading rules, as frozen products."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamgym_env import types
from dreamgym_env.types import DataError

Json = dict[str, Any]
NO_PRICE = 100.0
_NUMBERED = re.compile(r"_(\d+)\.json$")


@dataclass(frozen=True)
class HumanInstruction:
    """One line of `items_human_ins.json`: what somebody asked for, and the attributes and option values in it."""

    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True)
class Product:
    """A product as the shop shows it.

    `price_range` has one number, or two where the price is drawn from a range (dollars); `price_tag` is what pages
    show. Option names and values are in lower case, in the file's order. `instruction` is the synthetic one, or None.
    """

    asin: str
    title: str
    description: str
    bullet_points: tuple[str, ...]
    category: str
    query: str
    product_category: str
    price_range: tuple[float, ...]
    price_tag: str
    options: Mapping[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    instruction: str | None = None
    instruction_attributes: tuple[str, ...] = ()
    human_instructions: tuple[HumanInstruction, ...] = ()
    rating: str = "N.A."


def sample_folder() -> Path:
    """The folder of the sample catalogue that the package ships."""
    return Path(types.__file__).parent / "assets" / "webshop"


def resolve_folder(data_dir: str | None) -> Path:
    """`data_dir`, else the environment variable WEBSHOP_DATA, else the sample catalogue's folder.

    Raises:
        DataError: there is no such folder.
    """
    folder = Path(data_dir or os.environ.get("WEBSHOP_DATA") or sample_folder()).expanduser().resolve()
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; `data_dir` or WEBSHOP_DATA must hold WebShop's items_shuffle*.json")
    return folder


def load_products(folder: Path, num_products: int | None = None) -> tuple[Product, ...]:
    """The first `num_products` records (None: all) of the smallest `items_shuffle*.json` that has as many.

    Skipped as in the original: an ASIN that is `nan`, longer than 10 characters, or seen before.

    Raises:
        DataError: a file is missing or not of WebShop's schema; the message names file and record.
    """
    items_path = _pick(folder, "items_shuffle", num_products)
    records = _read_json(items_path, list)[:num_products]
    attributes = _read_json(_pick(folder, "items_ins_v2", num_products), dict)
    human_path = folder / "items_human_ins.json"
    human = _read_json(human_path, dict) if human_path.exists() else {}
    return tuple(_products(items_path, records, attributes, human))


def _products(path: Path, records: list[Json], attributes: Json, human: Json) -> Iterator[Product]:
    seen: set[str] = set()
    for index, record in enumerate(records):
        try:
            asin = record["asin"]
            if asin == "nan" or len(asin) > 10 or asin in seen:
                continue
            seen.add(asin)
            yield _product(record, attributes.get(asin, {}), human.get(asin, []))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{path}, record {index}: not of WebShop's schema ({error!r})") from error


def _product(record: Json, extra: Json, human: list[Json]) -> Product:
    prices, tag = _prices(record.get("pricing"))
    bullets = record["small_description"]
    return Product(
        asin=record["asin"],
        title=record["name"],
        description=record["full_description"],
        bullet_points=tuple(bullets) if isinstance(bullets, list) else (bullets,),
        category=record["category"],
        query=record["query"].lower().strip(),
        product_category=record["product_category"],
        price_range=prices,
        price_tag=tag,
        options=_options(record["customization_options"]),
        attributes=tuple(extra.get("attributes", ("DUMMY_ATTR",))),  # the original's filler; it matches no goal
        instruction=extra.get("instruction"),
        instruction_attributes=tuple(extra.get("instruction_attributes") or ()),
        human_instructions=tuple(
            HumanInstruction(
                one["instruction"], tuple(one["instruction_attributes"]), tuple(one["instruction_options"])
            )
            for one in human
        ),
    )


def _prices(pricing: str | None) -> tuple[tuple[float, ...], str]:
    """`"$12.99$19.99"` -> ((12.99, 19.99), "$12.99 to $19.99"); nothing -> ((100.0,), "$100.0")."""
    digits = [re.sub(r"[^\d.]", "", part) for part in (pricing or "").split("$")[1:]]
    numbers = tuple(float(part) for part in digits if part)[:2] or (NO_PRICE,)
    return numbers, " to ".join(f"${number}" for number in numbers)


def _options(customization: Json | str | None) -> dict[str, tuple[str, ...]]:
    options = {}
    for name, contents in (customization or {}).items():  # type: ignore[union-attr]
        if contents is not None:
            options[name.lower()] = tuple(one["value"].strip().replace("/", " | ").lower() for one in contents)
    return options


def _pick(folder: Path, stem: str, num_products: int | None) -> Path:
    """The file with the smallest number in its name that is not below `num_products`; no number means all products."""
    sized = []
    for path in folder.glob(f"{stem}*.json"):
        number = _NUMBERED.search(path.name)
        sized.append((float(number[1]) if number else float("inf"), path))
    fitting = [entry for entry in sized if entry[0] >= (num_products or 0)] or sized
    if not fitting:
        raise DataError(f"{folder} has no {stem}*.json; download WebShop's data files or leave `data_dir` out")
    return min(fitting)[1]


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, kind):
        raise DataError(f"{path} must hold a JSON {kind.__name__}, got {type(content).__name__}")
    return content
