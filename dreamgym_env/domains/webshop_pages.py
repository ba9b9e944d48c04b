"""WebShop's abstract state text: pages as data, `render` to text, `read` back. Dream and real shop share both.

The state is the page that the original shows in its `text_rich` mode, without what repeats the task: one element a
line, everything that can be clicked in square brackets.

    Page 1 (Total results: 50)
    [Back to Search] [Next >]
    [B0A1B2C3D4] Norvale throw pillow cover, machine-washable | $24.99

    Norvale throw pillow cover, machine-washable
    Price: $24.99 | Rating: N.A.
    color: [navy] [red]
    Chosen: color = navy
    [Back to Search] [< Prev] [Description] [Features] [Reviews] [Buy Now]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

BACK, NEXT, PREV, BUY = "Back to Search", "Next >", "< Prev", "Buy Now"
SubPageName = Literal["Description", "Features", "Reviews", "Attributes"]
SUB_PAGES: tuple[SubPageName, ...] = ("Description", "Features", "Reviews", "Attributes")
SEARCH_STATE = "WebShop\n[Search]"
DONE_STATE = "Thank you for shopping with us!"

_HEADER = re.compile(r"Page (\d+) \(Total results: (\d+)\)$")
_ROW = re.compile(r"\[([^\]\s]+)\] (.*) \| (\$[\d.]+(?: to \$[\d.]+)?)$")
_PRICE = re.compile(r"Price: (\$[\d.]+(?: to \$[\d.]+)?) \| Rating: (.*)$")
_OPTION = re.compile(r"([^\[\]]+): (\[.*\])$")
_VALUES = re.compile(r"\[(.*?)\](?= \[|$)")


@dataclass(frozen=True)
class Row:
    """One search result; `price` as shown, `"$24.99"` or `"$12.99 to $19.99"`."""

    asin: str
    title: str
    price: str


@dataclass(frozen=True)
class SearchPage:
    """The page with the search bar alone."""


@dataclass(frozen=True)
class ResultsPage:
    """Up to ten results; `number` counts from 1, `total` is that of all pages (at most 50)."""

    number: int
    total: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class ItemPage:
    """A product; `options` and `chosen` keep the shop's order."""

    title: str
    price: str
    rating: str = "N.A."
    options: tuple[tuple[str, tuple[str, ...]], ...] = ()
    chosen: tuple[tuple[str, str], ...] = ()
    sub_pages: tuple[SubPageName, ...] = ("Description", "Features", "Reviews")


@dataclass(frozen=True)
class SubPage:
    """A product's description, features, reviews or attributes, line by line."""

    name: SubPageName
    lines: tuple[str, ...]


@dataclass(frozen=True)
class DonePage:
    """The page after `click[buy now]`; it says nothing of the reward."""


Page = SearchPage | ResultsPage | ItemPage | SubPage | DonePage


def _buttons(*names: str) -> str:
    return " ".join(f"[{name}]" for name in names)


def render(page: Page) -> str:
    """The state text of a page."""
    match page:
        case SearchPage():
            return SEARCH_STATE
        case DonePage():
            return DONE_STATE
        case ResultsPage(number, total, rows):
            lines = [f"Page {number} (Total results: {total})", _buttons(BACK, *([PREV] if number > 1 else []), NEXT)]
            return "\n".join(lines + [f"[{row.asin}] {row.title} | {row.price}" for row in rows])
        case ItemPage():
            lines = [page.title, f"Price: {page.price} | Rating: {page.rating}"]
            lines += [f"{name}: {_buttons(*values)}" for name, values in page.options]
            if page.chosen:
                lines.append("Chosen: " + "; ".join(f"{name} = {value}" for name, value in page.chosen))
            return "\n".join([*lines, _buttons(BACK, PREV, *page.sub_pages, BUY)])
        case SubPage(name, lines_):
            return "\n".join([name, *lines_, _buttons(BACK, PREV)])


def read(state: str) -> Page:
    """The page that a state text shows; `read(render(page)) == page`.

    Raises:
        ValueError: the text is no WebShop page; the message names the first line that does not fit.
    """
    if state == SEARCH_STATE:
        return SearchPage()
    if state == DONE_STATE:
        return DonePage()
    lines = state.split("\n")
    if header := _HEADER.match(lines[0]):
        return _read_results(int(header[1]), int(header[2]), lines)
    if lines[0] in SUB_PAGES and lines[-1] == _buttons(BACK, PREV):
        return SubPage(lines[0], tuple(lines[1:-1]))
    return _read_item(lines)


def _read_results(number: int, total: int, lines: list[str]) -> ResultsPage:
    expected = _buttons(BACK, *([PREV] if number > 1 else []), NEXT)
    if lines[1:2] != [expected]:
        raise ValueError(f"a results page {number} must show {expected!r} in its second line, got {lines[1:2]}")
    rows = []
    for line in lines[2:]:
        if not (row := _ROW.match(line)):
            raise ValueError(f"a result must read '[ASIN] title | $price', got {line!r}")
        rows.append(Row(row[1], row[2], row[3]))
    return ResultsPage(number, total, tuple(rows))


def _read_item(lines: list[str]) -> ItemPage:
    price = _PRICE.match(lines[1]) if len(lines) > 2 else None
    if not price:
        raise ValueError(f"an item page must show 'Price: $... | Rating: ...' in its second line, got {lines[1:2]}")
    buttons = tuple(_VALUES.findall(lines[-1]))
    shown = tuple(name for name in SUB_PAGES if name in buttons)
    if lines[-1] != _buttons(BACK, PREV, *shown, BUY):
        raise ValueError(f"an item page must end in its buttons, got {lines[-1]!r}")
    options: list[tuple[str, tuple[str, ...]]] = []
    chosen: tuple[tuple[str, str], ...] = ()
    for line in lines[2:-1]:
        if line.startswith("Chosen: "):
            pairs = [pair.partition(" = ") for pair in line.removeprefix("Chosen: ").split("; ")]
            chosen = tuple((name, value) for name, _, value in pairs)
        elif option := _OPTION.match(line):
            options.append((option[1], tuple(_VALUES.findall(option[2]))))
        else:
            raise ValueError(f"an option must read 'name: [value] [value]', got {line!r}")
    return ItemPage(lines[0], price[1], price[2], tuple(options), chosen, shown)


def told_move(page: Page) -> str:
    """The reasoning trace of going back or on to this page."""
    match page:
        case ResultsPage():
            return f"results page {page.number}"
        case SubPage():
            return f"{page.name} of the item"
        case _:
            return "back to the item" if isinstance(page, ItemPage) else "back to search"


def told_choice(before: ItemPage, after: ItemPage, value: str) -> str:
    """The reasoning trace of choosing an option."""
    kept = "; ".join(f"{name} = {chosen}" for name, chosen in before.chosen)
    now = next((name for name, chosen in after.chosen if chosen == value), "")
    return f"before: {kept or 'nothing'}; now {now} = {value}"
