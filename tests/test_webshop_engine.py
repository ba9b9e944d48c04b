"""The shop's pages, clickables and search, with the original's quirks as they were seen in its own code."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from webshop_data import MAT, RUG, SOAP, TEA, product, write_shop

from dreamgym_env.domains.webshop_pages import ItemPage, ResultsPage, SubPage, read, render
from dreamgym_env.wrappers.webshop.engine import Session, label, parse_action
from dreamgym_env.wrappers.webshop.goals import Goal
from dreamgym_env.wrappers.webshop.search import words
from dreamgym_env.wrappers.webshop.shop import Shop, load_shop
from dreamgym_env.wrappers.webshop.text import page_of, rich_text, simple_text


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return load_shop(write_shop(tmp_path))


@pytest.fixture
def session(shop: Shop) -> Session:
    goal = Goal(RUG, "Alpha Rug, washable", "area rugs", "Home › Floor › Rugs", "Find it", ("wool",), (), 30.0)
    return Session(shop, goal)


def play(session: Session, *actions: str) -> Session:
    for action in actions:
        assert session.act(action), action
    return session


def test_actions_are_read_as_in_the_original() -> None:
    assert parse_action("click[Red]") == ("click", "Red")
    assert parse_action("search[red] shoes") == ("search", "red")
    assert parse_action("click[a] b]") == ("click", "a] b")
    assert parse_action("click[8 [feet]]") == ("click[8 ", "feet]")
    for nothing in ("click", "click[]", "search[a\nb]", "[red]"):
        assert parse_action(nothing) == (nothing, None)


@pytest.mark.parametrize(
    "action", ["click[search]", "click[buy now]", "Click[x]", " search[x]", "search", "jump", "click[< prev]", ""]
)
def test_what_is_impossible_changes_nothing(session: Session, action: str) -> None:
    before = simple_text(session)
    assert not session.act(action)
    assert simple_text(session) == before


def test_search_page(session: Session) -> None:
    assert session.clickables() == ["search"]
    assert simple_text(session) == "WebShop [SEP] Instruction: [SEP] Find it [SEP] Search"
    assert rich_text(session) == "WebShop\nInstruction: \nFind it\n[button] Search [button_]\n"


def test_results_page(session: Session) -> None:
    play(session, "search[washable]")
    assert session.clickables() == ["back to search", "next >", MAT.lower(), RUG.lower()]
    play(session, f"click[{MAT.lower()}]", "click[< Prev]")
    assert simple_text(session).split(" [SEP] ")[:5] == [
        "Instruction:",
        "Find it",
        "Back to Search",
        "Page 1 (Total results: 2)",
        "Next >",
    ]
    assert rich_text(session).split("\n")[5:] == [
        "",
        f"[clicked button] {MAT} [clicked button_]",
        "Beta Mat, washable",
        "$12.99 to $19.99",
        "",
        f"[button] {RUG} [button_]",
        "Alpha Rug, washable",
        "$20.0",
        "",
    ]
    play(session, "click[next >]")
    assert (session.number, session.rows) == (2, ())
    assert session.clickables() == ["back to search", "< prev", "next >"]
    play(session, "click[next >]", "click[< prev]", "click[< prev]")
    assert session.number == 1


def test_going_back_to_search_forgets_what_was_visited(session: Session) -> None:
    play(session, "search[washable]", f"click[{MAT}]", "search[washable]")
    assert session.visited == {MAT}
    play(session, "click[back to search]")
    assert session.visited == set()


def test_item_page_and_options(session: Session) -> None:
    play(session, "search[washable]", f"click[{RUG}]", "click[RED]", "click[Navy | White]", "click[small]")
    assert session.options == {"color": "navy | white", "size": "small"}
    assert session.clickables()[:6] == ["back to search", "< prev", "description", "features", "reviews", "buy now"]
    assert "You have clicked small.\nYou have clicked navy | white.\nInstruction:\n" in rich_text(session)
    assert "\n  [clicked button] small [clicked button_]\n" in rich_text(session)
    play(session, "click[< prev]")
    assert session.options == {}


def test_text_rich_does_not_see_quoted_values_as_clicked(session: Session) -> None:
    """The original looks for the quoted value in a JSON text, where inner quotes are escaped."""
    play(session, "search[washable]", f"click[{RUG}]", 'click[light "sky"]')
    assert session.options == {"color": 'light "sky"'}
    assert "clicked" not in rich_text(session)


def test_text_rich_takes_quoted_search_words_for_clicked_options(session: Session) -> None:
    play(session, 'search[washable "red"]', f"click[{RUG}]")
    assert rich_text(session).startswith("You have clicked red.\nInstruction:")


def test_an_option_name_is_marked_where_a_value_has_the_same_text(tmp_path: Path) -> None:
    options = {"Color": [{"value": "size"}], "Size": [{"value": "one"}], "Fit": [{"value": "one"}]}
    shop = load_shop(write_shop(tmp_path / "x", [product(RUG, "Rug", customization_options=options)]))
    session = Session(shop, Goal(RUG, "Rug", "rug", "", "Find it", ("wool",), (), 30.0))
    play(session, "search[rug]", f"click[{RUG}]", "click[one]")
    assert session.options == {"fit": "one"}  # of two options with the same value the last one
    assert "[button] size [button_]" in rich_text(session)
    play(session, "click[size]")
    assert session.options == {"fit": "one", "color": "size"}
    assert session.clickables()[6:] == ["size", "one"]


def test_sub_pages_come_back_with_the_choices(session: Session) -> None:
    play(session, "search[washable]", f"click[{RUG}]", "click[red]", "click[description]")
    assert (
        simple_text(session) == "Instruction: [SEP] Find it [SEP] Back to Search [SEP] < Prev [SEP] A  rug\nfor halls."
    )
    assert page_of(session) == SubPage("Description", ("A rug for halls.",))
    play(session, "click[< prev]")
    assert session.options == {"color": "red"}
    assert session.looked == {"Description"}


def test_blank_texts_as_the_original_shows_them(session: Session) -> None:
    play(session, "search[washable]", f"click[{MAT}]", "click[features]")
    assert simple_text(session).split(" [SEP] ")[4:] == ["Flat", "", "Easy-Clean"]  # a blank point stays, empty
    play(session, "search[gamma]", f"click[{TEA}]", "click[description]")
    assert rich_text(session).endswith("[button] < Prev [button_]\n \n")
    play(session, "click[< prev]", "click[reviews]")
    assert page_of(session) == SubPage("Reviews", ())


def test_attributes_page_only_where_asked_for(shop: Shop, session: Session) -> None:
    play(session, "search[washable]", f"click[{RUG}]")
    assert not session.act("click[attributes]")
    shown = Session(shop, session.goal, show_attributes=True)
    play(shown, "search[washable]", f"click[{RUG}]", "click[attributes]")
    assert page_of(shown) == SubPage("Attributes", ("washable", "wool", "garden", "area rugs", "Home › Floor › Rugs"))


def test_buying_ends_with_the_form_of_the_original(session: Session) -> None:
    play(session, "search[washable]", f"click[{RUG}]", "click[red]", "click[buy now]")
    assert session.purchase is not None
    assert session.purchase.score == 1.0
    text = simple_text(session)
    assert text.startswith("Thank you for shopping with us! [SEP] Your code: [SEP] None [SEP] (Paste it")
    assert '[SEP] options [SEP] {"color": "red"} [SEP]' in text
    assert text.endswith("Your score (min 0.0, max 1.0) [SEP] 1.0 [SEP] Reward Details [SEP] None")
    assert session.clickables() == []


def test_abstract_pages_survive_awkward_texts(session: Session) -> None:
    play(session, "search[washable]", f"click[{RUG}]", "click[x = y; z]", 'click[light "sky"]')
    page = page_of(session)
    assert isinstance(page, ItemPage)
    assert page.chosen == (("color", 'light "sky"'), ("size", "x=y, z"))
    assert read(render(page)) == page
    assert label("8 [feet]\n long") == "8 (feet) long"
    play(session, "click[8 (feet)]")  # the label can be clicked; the original's spelling cannot be reached
    assert session.options["size"] == "8 [feet]"


def test_special_searches(shop: Shop, session: Session) -> None:
    def found(query: str) -> set[str]:
        play(session, f"search[{query}]")
        return {one.asin for one in session.hits}

    assert found("<a> pure leaf tea") == {TEA}
    assert found("<c> garden") == {RUG, MAT}
    assert found("<c>") == set()
    assert found("<q> area rugs") == {RUG, MAT}
    assert found("<q> area") == set()
    assert found("<r>") == {RUG, MAT, TEA, SOAP}
    assert found("Soap nowhere") == {SOAP}
    assert found("nowhere") == found("the") == set()
    assert page_of(session) == ResultsPage(1, 0, ())


def test_random_search_is_seeded_and_drawn_anew_for_each_page(tmp_path: Path) -> None:
    shop = load_shop(write_shop(tmp_path / "many", [product(f"B{n}", "Rug") for n in range(200)]))

    def pages(seed: int) -> list[str]:
        goal = Goal("B1", "Rug", "rug", "", "", ("wool",), (), 30.0)
        session = Session(shop, goal, random.Random(seed))
        return [render(page_of(play(session, action))) for action in ("search[<r>]", "click[next >]", "click[< prev]")]

    assert pages(1) == pages(1)
    assert pages(1) != pages(2)
    assert pages(1)[0] != pages(1)[2]


def test_equal_scores_keep_the_catalogues_order_and_fifty_hits_are_shown(tmp_path: Path) -> None:
    shop = load_shop(write_shop(tmp_path / "many", [product(f"B{n}", "Rug") for n in range(70)]))
    hits = shop.search(("rugs",), random.Random(0))
    assert [one.asin for one in hits] == [f"B{n}" for n in range(50)]


def test_words() -> None:
    assert words("The Women's berries, glasses & rugs for $12.99") == ["women", "berry", "glass", "rug", "12.99"]
    assert words("Covers") == words("cover") == ["cover"]
