"""The loading rules of WebShop's product files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from webshop_data import MAT, RUG, SOAP, TEA, product, records, write_shop

from dreamgym_env.types import DataError
from dreamgym_env.wrappers.webshop.catalogue import Product, load_products, resolve_folder, sample_folder
from dreamgym_env.wrappers.webshop.shop import load_shop


def load(folder: Path, items: list[dict[str, object]] | None = None) -> dict[str, Product]:
    return {one.asin: one for one in load_products(Path(write_shop(folder, items)))}


def test_options_are_lower_cased_stripped_and_slashes_become_bars(tmp_path: Path) -> None:
    rug = load(tmp_path)[RUG]
    assert dict(rug.options) == {
        "color": ("red", "navy | white", 'light "sky"'),
        "size": ("small", "8 [feet]", "x = y; z"),
    }
    assert rug.query == "area rugs"


def test_prices(tmp_path: Path) -> None:
    products = load(tmp_path)
    assert (products[RUG].price_range, products[RUG].price_tag) == ((20.0,), "$20.0")
    assert (products[MAT].price_range, products[MAT].price_tag) == ((12.99, 19.99), "$12.99 to $19.99")
    assert (products[TEA].price_range, products[TEA].price_tag) == ((100.0,), "$100.0")
    assert (products[SOAP].price_range, products[SOAP].price_tag) == ((1299.5,), "$1299.5")
    three = load(tmp_path, [product("B1", "x", pricing="$3$2$1")])["B1"]
    assert three.price_range == (3.0, 2.0)


def test_skips_bad_and_repeated_asins(tmp_path: Path) -> None:
    items = [product("nan", "a"), product("B0123456789", "b"), product("B1", "first"), product("B1", "second")]
    assert {asin: one.title for asin, one in load(tmp_path, items).items()} == {"B1": "first"}


def test_one_bullet_point_may_be_a_string_and_missing_attributes_match_nothing(tmp_path: Path) -> None:
    products = load(tmp_path)
    assert products[TEA].bullet_points == ("Leaf",)
    assert products[SOAP].attributes == ("DUMMY_ATTR",)
    assert products[SOAP].instruction is None


def test_num_products_counts_records_and_picks_the_smallest_file_that_has_them(tmp_path: Path) -> None:
    write_shop(tmp_path)
    assert len(load_products(tmp_path, 2)) == 2
    many = [product(f"B{n}", "x") for n in range(1200)]
    (tmp_path / "items_shuffle.json").write_text(json.dumps(many), encoding="utf-8")
    assert len(load_products(tmp_path)) == 4
    assert len(load_products(tmp_path, 1100)) == 1100


def test_broken_files_say_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="items_shuffle"):
        load_products(tmp_path)
    write_shop(tmp_path)
    (tmp_path / "items_ins_v2_1000.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"items_ins_v2_1000\.json cannot be read"):
        load_products(tmp_path)
    write_shop(tmp_path, [*records()[:1], {"asin": "B1"}])
    with pytest.raises(DataError, match=r"record 1: not of WebShop's schema.*small_description"):
        load_products(tmp_path)
    (tmp_path / "items_human_ins.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="must hold a JSON dict, got list"):
        load_products(tmp_path)


def test_folder_comes_from_argument_variable_or_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    assert resolve_folder(None) == sample_folder().resolve()
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    assert resolve_folder(None) == tmp_path.resolve()
    with pytest.raises(DataError, match="is no folder"):
        resolve_folder(str(tmp_path / "absent"))


def test_shops_are_shared_and_arguments_checked(tmp_path: Path) -> None:
    folder = write_shop(tmp_path)
    synthetic, human = load_shop(folder), load_shop(folder, goals="human")
    assert load_shop(folder) is synthetic
    assert human.products is synthetic.products
    assert human.search is synthetic.search
    with pytest.raises(ValueError, match="`goals` must be"):
        load_shop(folder, goals="robot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`num_products` must be at least 1"):
        load_shop(folder, num_products=0)
