"""The shipped sample catalogue: reproducible, small, solvable, and judged without ambiguity."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamgym_env.domains.webshop_conditions import stated_conditions
from dreamgym_env.wrappers.webshop.catalogue import sample_folder
from dreamgym_env.wrappers.webshop.env import WebShopEnv
from dreamgym_env.wrappers.webshop.oracle import WebShopOracle, queries, winning_options
from dreamgym_env.wrappers.webshop.reward import option_check
from dreamgym_env.wrappers.webshop.sample import write
from dreamgym_env.wrappers.webshop.sample_words import BRANDS, CATEGORIES
from dreamgym_env.wrappers.webshop.shop import Shop, load_shop

FILES = ("items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    return load_shop()


def test_the_shipped_files_are_what_the_script_makes(tmp_path: Path) -> None:
    write(tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (sample_folder() / name).read_bytes(), name
    assert sum((sample_folder() / name).stat().st_size for name in FILES) < 1_500_000


def test_size_and_variety(shop: Shop) -> None:
    assert len(shop.products) == 1000
    assert len({product.query for product in shop.products}) == 25
    assert len({product.category for product in shop.products}) == 5
    assert len({product.title for product in shop.products}) == 1000
    assert 3000 < len(shop.goals) < 8000
    assert shop.key.tagger == "rules"
    assert all(len(asin) == 10 and asin.startswith("B0") for asin in shop.by_asin)


def test_every_attribute_is_visible_and_most_wanted_ones_in_the_title(shop: Shop) -> None:
    wanted = [(attribute, product) for product in shop.products for attribute in product.instruction_attributes]
    in_title = sum(attribute in product.title for attribute, product in wanted)
    assert 0.85 < in_title / len(wanted) < 0.97
    for product in shop.products:
        text = " ".join((product.title, *product.bullet_points)).lower()
        assert all(attribute in text for attribute in product.attributes), product


def test_no_option_value_passes_for_another() -> None:
    for category in CATEGORIES:
        choices = [(name, value) for name, values in category.options.items() for value in values]
        for name, value in choices:
            for other_name, other in choices:
                same = (name, value) == (other_name, other)
                assert option_check((name, value), [other]).met == same, (category.phrase, value, other)
                assert option_check(value, [other]).met == same, (category.phrase, value, other)


def test_no_attribute_hides_in_other_words() -> None:
    for category in CATEGORIES:
        attributes = category.attributes.split()
        assert len(set(attributes)) == 8
        others = " ".join([*BRANDS, category.phrase, category.facts]).lower()
        for attribute in attributes:
            assert attribute not in others
            assert not any(attribute in other for other in attributes if other != attribute)


def test_instructions_state_their_options_and_price_in_the_domains_grammar(shop: Shop) -> None:
    for goal in shop.goals[::10]:
        conditions = stated_conditions(goal.instruction)
        assert conditions.options == goal.options
        assert conditions.price_upper == goal.price_upper


@pytest.mark.parametrize("goals", ["synthetic", "human"])
def test_the_oracle_buys_what_is_asked_for(shop: Shop, goals: str) -> None:
    env = WebShopEnv(split="all", goals=goals)  # type: ignore[arg-type]
    oracle, ids = WebShopOracle(), env.task_ids
    won = []
    for task_id in ids[:: len(ids) // 100]:
        _, info = env.reset(options={"task_id": task_id})
        while info["end_reason"] is None:
            *_, info = env.step(oracle.act(env))
            assert info["possible"]
        won.append(info["success"])
    assert sum(won) / len(won) > 0.97


def test_the_oracle_takes_over_anywhere(shop: Shop) -> None:
    env, oracle = WebShopEnv(), WebShopOracle()
    for prefix in (["search[lamp]"], ["search[lamp]", "click[Next >]"], ["search[tea]", "open", "click[Features]"]):
        _, info = env.reset(seed=3)
        for action in prefix:
            *_, info = env.step(info["available_actions"][-1] if action == "open" else action)
        while info["end_reason"] is None:
            *_, info = env.step(oracle.act(env))
        assert info["success"], prefix


def test_the_oracle_looks_at_the_features_before_it_trusts_them(shop: Shop) -> None:
    env, oracle = WebShopEnv(split="all"), WebShopOracle()
    hidden = 0
    for index, goal in enumerate(shop.goals[:300]):
        _, info = env.reset(options={"task_id": f"webshop-synthetic-{index}"})
        while info["end_reason"] is None:
            action = oracle.act(env)
            session = env.session
            assert session is not None
            if action == "click[Buy Now]" and session.product is not None:
                unseen = [one for one in goal.attributes if one not in session.product.title.lower()]
                hidden += bool(unseen)
                assert not unseen or "Features" in session.looked
            *_, info = env.step(action)
    assert hidden > 0


def test_winning_options(shop: Shop) -> None:
    goal = next(goal for goal in shop.goals if len(goal.options) == 2)
    assert winning_options(shop, goal, goal.asin) == goal.options
    other = next(product for product in shop.products if product.query != goal.query)
    assert winning_options(shop, goal, other.asin) is None
    assert queries(goal)[0] == f"{' '.join(goal.attributes)} {goal.query}"


def test_the_oracle_needs_an_engine() -> None:
    with pytest.raises(ValueError, match="must be a WebShopEnv with backend='native' after reset"):
        WebShopOracle().act(WebShopEnv())
