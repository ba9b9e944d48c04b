"""From an accessibility tree to a page: each rule on small trees, and on pages of a real browser where there is one."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from dreamgym_env.domains.web_page import Element, Text, WebPage, read, render
from dreamgym_env.wrappers.webarena.axtree import MAX_OPTIONS, MAX_TEXT, css_names, page_of, window


class Tree:
    """Builds what BrowserGym gives: nodes with marks. All but texts have a box, each 20 pixels below the one before."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.marks: dict[str, dict[str, Any]] = {}
        self.number = count(1)

    def add(self, role: str, name: str = "", *children: str, top: float | None = None, **said: Any) -> str:
        """A node; returns its id, which is the browser's id too. `said`: `value`, `clickable`, `css`, properties."""
        number = str(next(self.number))
        node: dict[str, Any] = {
            "nodeId": number,
            "role": {"value": role},
            "name": {"value": name},
            "childIds": list(children),
        }
        if "value" in said:
            node["value"] = {"value": said.pop("value")}
        box = (
            None
            if role == "StaticText" and top is None
            else [0.0, 20.0 * int(number) if top is None else top, 50.0, 10.0]
        )
        self.marks[number] = {"bbox": box, "clickable": said.pop("clickable", False), "css": said.pop("css", "")}
        node["properties"] = [{"name": key, "value": {"value": value}} for key, value in said.items()]
        self.nodes.append(node | {"browsergym_id": number})
        return number

    def page(self, *children: str, **settings: Any) -> WebPage:
        root = {"nodeId": "0", "role": {"value": "RootWebArea"}, "name": {"value": "t"}, "childIds": list(children)}
        page, ids = page_of({"nodes": [root, *self.nodes]}, self.marks, "t", "u", **settings)
        assert list(ids) == list(page.elements)
        assert read(render(page)) == page
        return page


def lines(page: WebPage) -> list[str]:
    return [one.line() for one in page.lines]


def test_elements_are_numbered_as_listed_with_roles_names_and_values() -> None:
    tree = Tree()
    page = tree.page(
        tree.add("heading", "Issues", tree.add("StaticText", "Issues")),
        tree.add("generic", "", tree.add("link", "Home", tree.add("StaticText", "Home")), tree.add("StaticText", "or")),
        tree.add("textbox", "Search", tree.add("StaticText", "lamp"), value="lamp", required=True),
        tree.add("checkbox", "All", checked="true"),
        tree.add("DisclosureTriangle", "More", expanded=False),
        tree.add("button", "Save", disabled=True),
        tree.add("spinbutton", "Pieces", value=3),
    )
    assert lines(page) == [
        "heading 'Issues'", "[1] link 'Home'", "text 'or'", "[2] textbox 'Search' value='lamp' required",
        "[3] checkbox 'All' checked", "[4] summary 'More' collapsed", "[5] button 'Save' disabled",
        "[6] spinbutton 'Pieces' value='3'",
    ]  # fmt: skip


def test_lists_show_their_first_options_and_count_the_rest() -> None:
    tree = Tree()
    options = [tree.add("option", f"o{index}") for index in range(MAX_OPTIONS + 3)]
    box = tree.add("combobox", "Kind", tree.add("MenuListPopup", "", *options), value="o1", expanded=False)
    (line,) = tree.page(box).lines
    assert isinstance(line, Element)
    assert (len(line.options or ()), line.more_options, line.value, line.flags) == (
        MAX_OPTIONS,
        3,
        "o1",
        ("collapsed",),
    )
    (typed,) = tree.page(tree.add("combobox", "City", value="")).lines
    assert typed == Element(1, "combobox", "City", "")


def test_texts_on_one_height_are_one_line_and_labels_are_not_said_twice() -> None:
    tree = Tree()
    price = tree.add("generic", "", tree.add("StaticText", "Price:"), tree.add("StaticText", "$12"), top=100)
    bold = tree.add("strong", "", tree.add("StaticText", "only today", top=205), top=202)
    page = tree.page(
        price, tree.add("paragraph", "", tree.add("StaticText", "Sale", top=200), bold, top=200),
        tree.add("LabelText", "", tree.add("StaticText", "Name")), tree.add("textbox", "Name"),
        tree.add("image", "A lamp"),
        tree.add("image", ""),
    )  # fmt: skip
    split = tree.page(
        tree.add("generic", "", tree.add("StaticText", "A", top=0), tree.add("StaticText", "B", top=50), top=0)
    )
    assert lines(page) == ["text 'Price: $12'", "text 'Sale only today'", "[1] textbox 'Name'", "image 'A lamp'"]
    assert lines(split) == ["text 'A'", "text 'B'"]


def test_a_row_is_one_line_before_its_elements() -> None:
    tree = Tree()
    name = tree.add("link", "Lamp", tree.add("StaticText", "Lamp"))
    cells = [
        tree.add("gridcell", "", one) for one in (name, tree.add("StaticText", "$12"), tree.add("button", "Remove"))
    ]
    alone = tree.add("row", "", tree.add("gridcell", "", tree.add("link", "More", tree.add("StaticText", "More"))))
    page = tree.page(tree.add("table", "", tree.add("row", "", *cells), alone))
    assert lines(page) == ["row 'Lamp | $12'", "[1] link 'Lamp'", "[2] button 'Remove'", "[3] link 'More'"]


def test_what_listens_to_clicks_is_an_element() -> None:
    tree = Tree()
    star = tree.add("generic", "", clickable=True, css="#s.star")
    mail = tree.add("generic", "", tree.add("StaticText", "From Ann"), star, clickable=True)
    area = tree.add(
        "generic",
        "",
        *[tree.add("link", f"l{index}") for index in range(5)],
        tree.add("StaticText", "x"),
        clickable=True,
    )
    hidden = tree.add("generic", "", tree.add("StaticText", "gone"), clickable=True)
    tree.marks[hidden]["bbox"] = None
    page = tree.page(mail, area, hidden)
    assert lines(page)[:2] == ["[1] clickable 'From Ann'", "[2] clickable '#s.star'"]
    assert [one.role for one in page.elements.values()] == ["clickable", "clickable", *["link"] * 5]
    assert "gone" in lines(page)[-1]


def test_long_texts_are_cut_and_say_so() -> None:
    tree = Tree()
    (line,) = tree.page(tree.add("StaticText", "y" * (MAX_TEXT + 7))).lines
    assert line == Text("text", "y" * MAX_TEXT + "... (+7 characters)")


def test_long_pages_are_cut_where_the_view_is_and_count_what_is_left_out() -> None:
    tree = Tree()
    links = [tree.add("link", f"l{index}", top=20.0 * index) for index in range(10)]
    page = tree.page(*links, max_lines=4)
    assert (page.above, page.below, [one.name for one in page.elements.values()]) == (0, 6, ["l0", "l1", "l2", "l3"])
    for mark in tree.marks.values():
        mark["bbox"][1] -= 70.0  # scrolled: l0 to l3 end above the view, but l3 does so only at 0
    page = tree.page(*links, max_lines=4)
    assert (page.above, page.below, [one.name for one in page.elements.values()]) == (4, 2, ["l4", "l5", "l6", "l7"])
    assert list(page.elements) == ["1", "2", "3", "4"]
    for mark in tree.marks.values():
        mark["bbox"][1] -= 1000.0
    page = tree.page(*links, max_lines=4)
    assert (page.above, page.below) == (6, 0)
    assert (tree.page(*links).above, tree.page(*links).below) == (0, 0)


@pytest.mark.parametrize(
    ("spans", "most", "cut"),
    [
        ([], 3, (0, 0)),
        ([(-9.0, -1.0)] * 3, 3, (0, 0)),
        ([None] * 5, 3, (0, 2)),
        ([(-9.0, -1.0), (0.0, 9.0), (0.0, 9.0), (9.0, 19.0)], 3, (1, 0)),
        ([(0.0, 9.0), (-9.0, 0.0), (5.0, 9.0), (5.0, 9.0), (5.0, 9.0)], 2, (2, 1)),  # a fixed header does not hold it
        ([(-2e5, -1e5), (0.0, 9.0)], 1, (0, 1)),  # moved off the page for ever, not scrolled
    ],
)
def test_windows(spans: list[tuple[float, float] | None], most: int, cut: tuple[int, int]) -> None:
    assert window(spans, most) == cut


def test_ids_and_classes() -> None:
    strings = ["bid", "7", "id", "close", "class", "icon big", "8", ""]
    nodes = {"attributes": [[0, 1, 2, 3, 4, 5], [0, 6], [2, 3]]}
    assert css_names({"strings": strings, "documents": [{"nodes": nodes}]}) == {"7": "#close.icon.big", "8": ""}
