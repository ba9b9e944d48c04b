"""The graded reward, against numbers computed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from webshop_data import MAT, RUG, SOAP, TEA, write_shop

from dreamgym_env.wrappers.webshop.catalogue import Product, load_products
from dreamgym_env.wrappers.webshop.goals import Goal
from dreamgym_env.wrappers.webshop.nouns import choose_tagger, nouns
from dreamgym_env.wrappers.webshop.reward import explain, first_color, option_check


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, Product]:
    return {one.asin: one for one in load_products(Path(write_shop(tmp_path)))}


@pytest.fixture
def goal(shop: dict[str, Product]) -> Goal:
    rug = shop[RUG]
    options = (("color", "red"), ("size", "small"))
    return Goal(RUG, rug.title, rug.query, rug.product_category, "", ("washable", "wool"), options, 30.0)


def test_everything_met(shop: dict[str, Product], goal: Goal) -> None:
    conditions = explain(goal, shop[RUG], 20.0, {"color": "red", "size": "small"})
    assert conditions.score == 1.0
    assert conditions.success
    assert [check.reason for check in conditions.attributes] == ["title", "attributes"]
    assert [(check.asked, check.reason) for check in conditions.options] == [
        ("color: red", "red"),
        ("size: small", "small"),
    ]


def test_each_missing_condition_costs_one_share_of_five(shop: dict[str, Product], goal: Goal) -> None:
    rug = shop[RUG]
    assert explain(goal, rug, 20.0, {"color": "red"}).score == 4 / 5
    assert explain(goal, rug, 30.01, {"color": "red"}).score == 3 / 5
    assert explain(goal, rug, 30.0, {}).score == 3 / 5  # the bound itself is low enough
    bare = replace(rug, attributes=("wool",), title="Alpha Rug")
    assert explain(goal, bare, 99.0, {}).score == 1 / 5


def test_another_product_of_the_kind_loses_nothing_but_what_it_lacks(shop: dict[str, Product], goal: Goal) -> None:
    mat = explain(goal, shop[MAT], 15.0, {})
    assert (mat.query_match, mat.category_match) == (True, True)
    # "Alpha Rug, washable" has the nouns alpha and rug; "Beta Mat, washable" has neither, so the type counts nothing
    assert (mat.title_score, mat.type_factor, mat.score) == (0.0, 0.0, 0.0)
    named = replace(shop[MAT], title="Beta Mat Rug, washable")
    conditions = explain(goal, named, 15.0, {})
    assert (conditions.title_score, conditions.type_factor) == (0.5, 1.0)
    assert conditions.score == 2 / 5  # washable and the price


def test_type_factor_of_other_kinds(shop: dict[str, Product], goal: Goal) -> None:
    def factor(title: str, wanted: str) -> float:
        return explain(replace(goal, name=wanted), replace(shop[SOAP], title=title), 1.0, {}).type_factor

    many = "One Rug " + " ".join(f"Word{chr(97 + n)}" for n in range(10))  # 11 nouns: "one" is none
    assert factor("Delta Soap", many) == 0.0
    assert factor("Rug", many) == 0.1  # 1 of 11 is below 0.1
    assert factor("Rug Worda", many) == 0.5  # 2 of 11 is below 0.2, and neither query nor category match
    assert factor("Rug Worda Wordb", many) == 1.0  # 3 of 11 is above 0.2
    assert factor("Delta Soap", "") == 0.5  # no noun asked for counts as 0.2


def test_attributes_are_found_in_features_and_description_too(shop: dict[str, Product], goal: Goal) -> None:
    wanted = replace(goal, attributes=("easy-clean", "halls", "washable wool", "linen"))
    rug = replace(shop[RUG], bullet_points=("Easy-Clean",))
    reasons = [check.reason for check in explain(wanted, rug, 1.0, {}).attributes]
    assert reasons == ["features", "description", "attributes", ""]


def test_colours_stand_for_the_whole_value() -> None:
    assert first_color("dark navy stripes") == "dark"  # in the order of the list, not of the text
    assert first_color("standard") == "tan"
    assert option_check("navy blue", ["bright blue"]).met
    assert option_check(("color", "navy"), ["navy stripes"]).met
    # only a value that is exactly a colour is one in a synthetic goal: the others are compared as text
    assert not option_check(("color", "navy stripes"), ["blue stripes"]).met
    assert option_check(("size", "x-large"), ["large"]).met  # the original's fuzziness: all chosen words are asked for
    assert not option_check(("size", "large"), ["x-large"]).met


def test_nouns_by_rule() -> None:
    assert nouns("Norvale throw pillow covers, machine-washable, foldable") == ("norvale", "throw", "pillow", "covers")
    assert nouns("The 2 Best Stainless Steel Cups of 40oz") == ("stainless", "steel", "cups")
    assert nouns("") == ()


def test_tagger_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_tagger("rules") == "rules"
    monkeypatch.setattr("dreamgym_env.wrappers.webshop.nouns._spacy", lambda: None)
    assert choose_tagger("auto") == "rules"
    with pytest.raises(ValueError, match="spacy download en_core_web_sm"):
        choose_tagger("spacy")
    with pytest.raises(ValueError, match="`tagger` must be"):
        choose_tagger("hand")  # type: ignore[arg-type]


def test_tea_with_two_attributes_by_hand(shop: dict[str, Product]) -> None:
    tea = shop[TEA]
    goal = Goal(TEA, tea.title, tea.query, tea.product_category, "", ("fresh", "pure leaf"), (), 110.0)
    conditions = explain(goal, tea, 100.0, {})
    assert [check.met for check in conditions.attributes] == [False, True]
    assert conditions.score == 2 / 3
