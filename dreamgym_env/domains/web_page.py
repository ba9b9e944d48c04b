"""The text of a web page: its title and address, then one line each for elements that can be acted on and for texts."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import lru_cache

FLAGS = ("checked", "disabled", "expanded", "collapsed", "pressed", "required", "selected")
"""What a line may say of its element, in this order; what is not said does not hold."""

_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_ELEMENT = re.compile(
    rf"\[(?P<number>[1-9]\d*)\] (?P<role>[a-z]+) (?P<name>{_QUOTED})(?: value=(?P<value>{_QUOTED}))?"
    rf"(?: options=(?P<options>\[(?:(?:{_QUOTED})(?:, (?:{_QUOTED}))*)?\](?: \+\d+)?))?"
    rf"(?P<flags>(?: (?:{'|'.join(FLAGS)}))*)"
)
_TEXT = re.compile(rf"(?P<kind>heading|text|row|image) (?P<text>{_QUOTED})")
_HIDDEN = re.compile(r"\((?P<count>\d+) lines (?P<side>above|below) are not shown; scroll (?:up|down)\)")
_MORE = re.compile(r" \+(\d+)$")


@dataclass(frozen=True)
class Element:
    """Something that can be acted on. `options` are a list's labels, the first ones; `more_options` counts the rest."""

    number: int
    role: str
    name: str
    value: str | None = None
    options: tuple[str, ...] | None = None
    more_options: int = 0
    flags: tuple[str, ...] = ()

    def line(self) -> str:
        parts = [f"[{self.number}] {self.role} {quoted(self.name)}"]
        if self.value is not None:
            parts.append(f"value={quoted(self.value)}")
        if self.options is not None:
            more = f" +{self.more_options}" if self.more_options else ""
            parts.append(f"options=[{', '.join(quoted(one) for one in self.options)}]{more}")
        return " ".join([*parts, *self.flags])


@dataclass(frozen=True)
class Text:
    """Something to read. `kind`: "heading", "text", "row" (a table's, its cells joined by ` | `) or "image"."""

    kind: str
    text: str

    def line(self) -> str:
        return f"{self.kind} {quoted(self.text)}"


Line = Element | Text


@dataclass(frozen=True)
class WebPage:
    """A page as it is shown. `tabs` are the titles of all open tabs where there are several, `tab` the one in view;
    `above` and `below` count the lines that were cut."""

    title: str
    url: str
    lines: tuple[Line, ...] = ()
    tabs: tuple[str, ...] = ()
    tab: int = 0
    above: int = 0
    below: int = 0
    elements: dict[str, Element] = field(init=False, repr=False, compare=False, default_factory=dict)
    """The elements by their numbers, as text."""

    def __post_init__(self) -> None:
        self.elements.update({str(one.number): one for one in self.lines if isinstance(one, Element)})


def quoted(text: str) -> str:
    """As Python writes it, on one line."""
    return repr(" ".join(text.split()))


def render(page: WebPage) -> str:
    """The state text of a page."""
    lines = [f"Page: {quoted(page.title)}", f"URL: {page.url}"]
    if page.tabs:
        shown = (quoted(title) + (" (shown)" if index == page.tab else "") for index, title in enumerate(page.tabs))
        lines.append("Tabs: " + " | ".join(shown))
    if page.above:
        lines.append(f"({page.above} lines above are not shown; scroll up)")
    lines += [one.line() for one in page.lines]
    if page.below:
        lines.append(f"({page.below} lines below are not shown; scroll down)")
    return "\n".join(lines)


def read(state: str) -> WebPage:
    """The page that `render` made this text of.

    Raises:
        ValueError: the text is no page; names the line.
    """
    first, second, *rest = state.split("\n") if "\n" in state else (state, "")
    if not first.startswith("Page: ") or not second.startswith("URL: "):
        raise ValueError(f"a page begins with 'Page: ' and 'URL: ', got {first!r}, {second!r}")
    tabs, tab = _read_tabs(rest.pop(0)) if rest and rest[0].startswith("Tabs: ") else ((), 0)
    hidden = {"above": 0, "below": 0}
    for index, side in ((0, "above"), (-1, "below")):
        found = _HIDDEN.fullmatch(rest[index]) if rest else None
        if found and found["side"] == side:
            hidden[side] = int(found["count"])
            rest.pop(index)
    lines = tuple(_read_line(one) for one in rest)
    return WebPage(_unquoted(first[6:]), second[5:], lines, tabs, tab, hidden["above"], hidden["below"])


@lru_cache(maxsize=4096)
def page_of(state: str) -> WebPage | None:
    """`read`, but total: a dream whose contradictions nobody checks may show anything. The last pages are kept: rules
    and recall ask for the same ones many times a step."""
    try:
        return read(state)
    except ValueError:
        return None


def find_element(page: WebPage, role: str, name: str, before: str = "") -> Element | None:
    """The first element of this role and name that is not disabled; with `before`, the first behind the row that begins
    with this cell, or where none does, behind a text that has this in it."""
    texts = [one.text for one in page.lines if isinstance(one, Text)]
    first = next((text for text in texts if text.split(" | ")[0] == before), None)
    passed = not before
    for line in page.lines:
        if isinstance(line, Text):
            passed = passed or (before in line.text if first is None else line.text == first)
        elif passed and (line.role, line.name) == (role, name) and "disabled" not in line.flags:
            return line
    return None


def heading_over(page: WebPage, element: Element) -> Text | None:
    """The row that an element stands in, or the text that it stands under."""
    before = None
    for line in page.lines:
        if isinstance(line, Text):
            before = line
        elif line.number == element.number:
            return before
    return None


def readable(state: str, most: int = 2) -> str:
    """The text without the lines that are none of a page, its elements numbered anew, where these are at most so many;
    else as it is."""
    lines = state.split("\n")
    struck = [index for index, line in enumerate(lines) if index > 1 and not _is_line(line)]
    if not struck or len(struck) > most:
        return state
    kept, number = list[str](), 0
    for index, line in enumerate(lines):
        if index in struck:
            continue
        if line.startswith("["):
            number += 1
            line = f"[{number}]{line.partition(']')[2]}"
        kept.append(line)
    return "\n".join(kept)


def _is_line(line: str) -> bool:
    if line.startswith(("Tabs: ", "(")):
        return True
    try:
        _read_line(line)
    except ValueError:
        return False
    return True


def _read_line(line: str) -> Line:
    if found := _TEXT.fullmatch(line):
        return Text(found["kind"], _unquoted(found["text"]))
    if not (found := _ELEMENT.fullmatch(line)):
        raise ValueError(f"not a line of a page: {line!r}")
    value, options, more = found["value"], found["options"], 0
    if options is not None and (rest := _MORE.search(options)):
        options, more = options[: rest.start()], int(rest[1])
    return Element(
        int(found["number"]),
        found["role"],
        _unquoted(found["name"]),
        None if value is None else _unquoted(value),
        None if options is None else tuple(ast.literal_eval(options)),
        more,
        tuple(found["flags"].split()),
    )


def _read_tabs(line: str) -> tuple[tuple[str, ...], int]:
    found = re.findall(rf"({_QUOTED})( \(shown\))?(?: \| |$)", line.removeprefix("Tabs: "))
    shown = [index for index, (_, mark) in enumerate(found) if mark]
    if len(shown) != 1:
        raise ValueError(f"one tab must be shown, got {line!r}")
    return tuple(_unquoted(title) for title, _ in found), shown[0]


def _unquoted(text: str) -> str:
    if not re.fullmatch(_QUOTED, text):
        raise ValueError(f"must be quoted, got {text!r}")
    try:
        return str(ast.literal_eval(text))
    except SyntaxError as error:  # such as a broken escape
        raise ValueError(f"must be quoted as Python does, got {text!r}") from error
