"""The original as backend: its HTML read into our pages, and side by side with the native engine where installed."""

from __future__ import annotations

import importlib.util
import random
from typing import Any

import pytest

from dreamgym_env.domains.webshop_pages import DonePage, ItemPage, ResultsPage, Row, SearchPage, SubPage
from dreamgym_env.wrappers.webshop.env import WebShopEnv
from dreamgym_env.wrappers.webshop.original import page_of_html

ITEM = """
<h4>Instruction:<br>Find it</h4><button class="btn btn-success">Back to Search</button>
<button class="btn btn-primary">&lt; Prev</button>
<h4>color</h4><input type="radio" name="color" value="red"><label>red</label>
<input type="radio" name="color" value="a [b]  c"><label>a [b]  c</label>
<h4>size = x</h4><input type="radio" name="size = x" value="10"><label>10</label>
<h2>Alpha\n  Rug &amp; Mat</h2><h4>Price: $20.0 to $30.0</h4><h4>Rating: N.A.</h4>
<button class="btn">Description</button><button class="btn">Features</button><button class="btn">Reviews</button>
<button class="btn btn-lg purchase">Buy Now</button>
"""

# Like the original's, with headings closed by the wrong tag.
RESULTS = """
<h4>Instruction:<br>Find it</h4><h3>Page 2 (Total results: 11)</h3>
<h4 class="x product-asin"><a class="product-link">B1</a></h5><h4 class="x product-title">Alpha
 Rug</h5><h5 class="x product-price">$20.0</h6>
<h4 class="x product-asin"><a class="product-link">B2</a></h5><h4 class="x product-title">Beta</h5>
<h5 class="x product-price">$1.0 to $2.0</h6>
"""


def test_search_and_done() -> None:
    assert page_of_html('<input id="search_input"><button class="btn">Search</button>', {}) == SearchPage()
    assert page_of_html('<div id="thankyou"><h1>Thank you</h1></div>', {}) == DonePage()


def test_results() -> None:
    rows = (Row("B1", "Alpha Rug", "$20.0"), Row("B2", "Beta", "$1.0 to $2.0"))
    assert page_of_html(RESULTS, {}) == ResultsPage(2, 11, rows)
    assert page_of_html("<h3>Page 9 (Total results: 3)</h3>", {}) == ResultsPage(9, 3, ())


def test_item() -> None:
    page = page_of_html(ITEM, {"size = x": "10", "color": "a [b]  c"})
    assert page == ItemPage(
        title="Alpha Rug & Mat",
        price="$20.0 to $30.0",
        options=(("color", ("red", "a (b) c")), ("size=x", ("10",))),
        chosen=(("color", "a (b) c"), ("size=x", "10")),
    )


def test_sub_pages() -> None:
    description = '<div name="description"><p class="product-info">Soft\n and warm</p></div>'
    assert page_of_html(description, {}) == SubPage("Description", ("Soft and warm",))
    features = '<div name="bulletpoints"><p class="product-info"> One</p><p class="product-info"> </p></div>'
    assert page_of_html(features, {}) == SubPage("Features", ("One",))
    assert page_of_html('<div name="reviews"></div>', {}) == SubPage("Reviews", ())
    attributes = '<div name="description"><p class="attribute"> soft</p><h5>garden</h5><h5>rugs</h5></div>'
    assert page_of_html(attributes, {}) == SubPage("Attributes", ("soft", "garden", "rugs"))


def test_says_what_is_missing() -> None:
    if importlib.util.find_spec("web_agent_site"):
        pytest.skip("web_agent_site is installed here")
    with pytest.raises(ImportError, match="backend='original' needs WebShop's own code"):
        WebShopEnv(backend="original")


def test_same_episodes_as_the_native_engine() -> None:
    pytest.importorskip("web_agent_site", reason="needs WebShop's own code on the path, with its requirements and data")
    settings: dict[str, Any] = {"split": "all", "reward": "graded", "show_attributes": True}
    original = WebShopEnv(backend="original", **settings)
    from web_agent_site.utils import DEFAULT_FILE_PATH

    native = WebShopEnv(data_dir=DEFAULT_FILE_PATH.rpartition("/")[0], **settings)
    assert original.task_ids == native.task_ids
    rng = random.Random(0)
    for seed in range(10):
        (_, info), (_, other) = original.reset(seed=seed), native.reset(seed=seed)
        goal = native.session.goal  # type: ignore[union-attr]
        steps = [f"search[<q> {goal.query}]", f"click[{goal.asin}]"]  # no ranking: that is Lucene's there
        while info["end_reason"] is None:
            assert info == other
            action = (
                steps.pop(0) if steps else rng.choice([one for one in info["available_actions"] if "[<" not in one])
            )
            first, second = original.step(action), native.step(action)
            assert first == second
            info, other = first[4], second[4]
