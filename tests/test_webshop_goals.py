"""Goals: their texts, price bounds, order and splits."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from webshop_data import MAT, RUG, TEA, write_shop

from dreamgym_env.wrappers.webshop.catalogue import Product, load_products
from dreamgym_env.wrappers.webshop.goals import NO_BOUND, draw_prices, make_goals, split_range


@pytest.fixture
def products(tmp_path: Path) -> tuple[Product, ...]:
    return load_products(Path(write_shop(tmp_path)))


def test_one_synthetic_goal_for_each_combination_of_options(products: tuple[Product, ...]) -> None:
    rng = random.Random(0)
    goals = make_goals(products, draw_prices(products, rng), "synthetic", rng)
    rugs = [goal for goal in goals if goal.asin == RUG]
    assert len(goals) == 3 * 3 + 1
    assert len({goal.price_upper for goal in rugs}) == 1  # drawn once for a product
    upper = rugs[0].price_upper
    assert upper in (40, 50, 60)  # the larger of two among 30, 40, 50, 60
    texts = {goal.instruction for goal in rugs}
    assert f"Find me washable area rugs with color: red, and size: small, and price lower than {upper:.2f} dollars" in (
        texts
    )
    (tea,) = (goal for goal in goals if goal.asin == TEA)
    assert tea.instruction == f"Find me fresh, pure green tea, and price lower than {tea.price_upper:.2f} dollars"
    assert tea.options == ()


def test_human_goals_lose_their_full_stops_and_keep_bare_options(products: tuple[Product, ...]) -> None:
    rng = random.Random(0)
    (goal,) = make_goals(products, draw_prices(products, rng), "human", rng)
    assert goal.instruction.startswith("i want a red rug, and price lower than ")
    assert goal.options == ("red",)


def test_dear_products_have_no_price_bound(products: tuple[Product, ...]) -> None:
    prices = dict.fromkeys((product.asin for product in products), 985.0)
    goals = make_goals(products, prices, "synthetic", random.Random(0))
    assert {goal.price_upper for goal in goals} == {NO_BOUND}
    assert not any("price" in goal.instruction for goal in goals)


def test_bounds_are_the_larger_of_two_draws(products: tuple[Product, ...]) -> None:
    prices = dict.fromkeys((product.asin for product in products), 9.99)
    seen = []
    for seed in range(300):
        goals = make_goals(products, prices, "human", random.Random(seed))
        seen.append(goals[0].price_upper)
    # of the 6 pairs among 10, 20, 30, 40 the larger is 20 once, 30 twice, 40 three times
    assert set(seen) == {20.0, 30.0, 40.0}
    assert 110 < seen.count(40.0) < 190


def test_prices_are_drawn_from_ranges_in_order(products: tuple[Product, ...]) -> None:
    prices = draw_prices(products, random.Random(5))
    assert prices[MAT] == random.Random(5).uniform(12.99, 19.99)
    assert prices[RUG] == 20.0


def test_the_order_does_not_depend_on_the_generator(products: tuple[Product, ...]) -> None:
    def order(seed: int) -> list[tuple[str, object]]:
        return [(goal.asin, goal.options) for goal in make_goals(products, prices, "synthetic", random.Random(seed))]

    prices = draw_prices(products, random.Random(0))
    assert order(1) == order(2)
    expected = [RUG] * 9 + [TEA]
    random.Random(233).shuffle(expected)
    assert [one[0] for one in order(1)] == expected


def test_splits() -> None:
    assert split_range(6910, "held_out") == range(500)
    assert split_range(6910, "train") == range(500, 6910)
    assert split_range(12087, "test", "original") == range(500)
    assert split_range(12087, "eval", "original") == range(500, 1500)
    assert split_range(12087, "train", "original") == range(1500, 12087)
    assert split_range(12087, "all", "original") == range(12087)
    assert (split_range(300, "held_out"), split_range(300, "train")) == (range(75), range(75, 300))
    assert split_range(400, "test", "original") == range(50)
    assert split_range(400, "eval", "original") == range(50, 100)


def test_split_errors() -> None:
    with pytest.raises(ValueError, match=r"`split` must be one of .* got 'eval'"):
        split_range(10, "eval")
    with pytest.raises(ValueError, match="`split_style` must be"):
        split_range(10, "train", "mine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`goals` must be"):
        make_goals((), {}, "robot", random.Random(0))  # type: ignore[arg-type]
