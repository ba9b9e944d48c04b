"""The speed that the native WebShop promises: at least 20 times the original's."""

from __future__ import annotations

from typing import get_args

import pytest

from dreamgym_env.wrappers.webshop.benchmark import load_time, measure
from dreamgym_env.wrappers.webshop.env import ObservationMode


@pytest.mark.parametrize("mode", get_args(ObservationMode))
def test_at_least_twenty_times_the_original(mode: ObservationMode) -> None:
    speed = measure(mode, seconds=0.5)
    assert speed.ratio == pytest.approx(speed.steps_per_second / (38 if mode == "text" else 83))
    assert speed.ratio >= 20


def test_a_loaded_shop_costs_nothing_again() -> None:
    load_time()
    assert load_time() < 0.1
