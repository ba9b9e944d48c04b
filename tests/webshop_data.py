"""A shop of four products, written in WebShop's file schema, and where the real data files are looked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

RUG, MAT, TEA, SOAP = "B000000RUG", "B000000MAT", "B000000TEA", "B00000SOAP"


def product(asin: str, name: str, **fields: Any) -> dict[str, Any]:
    """A record of `items_shuffle*.json`; `fields` replace the defaults."""
    record = {
        "asin": asin,
        "name": name,
        "full_description": "",
        "pricing": "$20.00",
        "images": ["none"],
        "product_category": "Home › Floor › Rugs",
        "small_description": ["Soft"],
        "customization_options": "",
        "category": "garden",
        "query": "Area Rugs ",
    }
    return record | fields


def records() -> list[dict[str, Any]]:
    """Two rugs, a tea and a soap."""
    colors = [{"value": " Red "}, {"value": "Navy/White"}, {"value": 'light "sky"'}]
    sizes = [{"value": "Small"}, {"value": "8 [feet]"}, {"value": "x = y; z"}]
    rug_options = {"Color": colors, "Size": sizes, "Shape": None}
    food = {"product_category": "Food › Drinks", "category": "grocery", "query": "green tea"}
    return [
        product(RUG, "Alpha Rug, washable", customization_options=rug_options, full_description="A  rug\nfor halls."),
        product(MAT, "Beta Mat, washable", pricing="$12.99$19.99", small_description=["Flat", "  ", "Easy-Clean"]),
        product(TEA, "Gamma Tea", pricing="", small_description="Leaf", full_description="   ", **food),
        product(SOAP, "Delta Soap", pricing="$1,299.50", query="soap", product_category="Bath", category="beauty"),
    ]


def instructions() -> dict[str, Any]:
    """`items_ins_v2*.json`; the soap is missing there."""
    rug = {"instruction": "Find me washable area rugs", "instruction_attributes": ["washable"]}
    tea = {"instruction": "Find me fresh, pure green tea", "instruction_attributes": ["fresh", "pure leaf"]}
    return {
        RUG: {"attributes": ["washable", "wool"]} | rug,
        MAT: {"attributes": ["washable"]},
        TEA: {"attributes": ["pure leaf tea"]} | tea,
    }


def human() -> dict[str, Any]:
    """`items_human_ins.json`; the second one has no attributes and makes no goal."""
    asked = {"instruction": "i want a red rug..", "instruction_attributes": ["wool"], "instruction_options": ["red"]}
    return {RUG: [asked, {"instruction": "any rug", "instruction_attributes": [], "instruction_options": []}]}


def write_shop(folder: Path, items: list[dict[str, Any]] | None = None) -> str:
    """Writes the three files and gives the folder as `data_dir`."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "items_shuffle_1000": records() if items is None else items,
        "items_ins_v2_1000": instructions(),
        "items_human_ins": human(),
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return str(folder)


def real_data() -> str:
    """The folder of real WebShop files, or a skip that says how to run the test."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "webshop"
    folder = Path(os.environ.get("WEBSHOP_DATA", beside))
    if not list(folder.glob("items_shuffle*.json")):
        pytest.skip(f"no real WebShop data: set WEBSHOP_DATA to a folder with items_shuffle*.json ({folder} has none)")
    return str(folder)
