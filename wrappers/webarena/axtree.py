"""From a browser's accessibility tree to a `WebPage`, by rules: what can be acted on, what must be read, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dreamgym_env.domains.web_page import Element, Line, Text, WebPage

ROLES = {
    "button": "button", "link": "link", "textbox": "textbox", "searchbox": "searchbox", "combobox": "combobox",
    "listbox": "listbox", "checkbox": "checkbox", "radio": "radio", "switch": "switch", "slider": "slider",
    "spinbutton": "spinbutton", "tab": "tab", "menuitem": "menuitem", "menuitemcheckbox": "menuitemcheckbox",
    "menuitemradio": "menuitemradio", "option": "option", "treeitem": "treeitem", "DisclosureTriangle": "summary",
    "Date": "date", "DateTime": "datetime", "InputTime": "inputtime", "ColorWell": "colorwell",
}  # fmt: skip
"""Roles of the browser's that can be acted on, and what a page calls them."""
MAX_LINES, MAX_OPTIONS, MAX_TEXT = 120, 20, 300
"""At most so many lines of a page, options of a list, characters of a name or text; what is left out is counted."""
_MAX_INSIDE, _MAX_OWN = 3, 100
"""Something that listens to clicks and holds elements is one itself with at most so many, and characters of its own."""


@dataclass
class _Reader:
    """Walks a tree once; `found` pairs each line with its browser id and its top and bottom in the view (pixels)."""

    nodes: Mapping[str, Mapping[str, Any]]
    marks: Mapping[str, Mapping[str, Any]]
    found: list[tuple[Line, str, tuple[float, float] | None]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    span: tuple[float, float] | None = None

    def walk(self, node: Mapping[str, Any], span: tuple[float, float] | None, spoken: str = "") -> None:
        """Adds the lines of a node and of all below it. `spoken`: the name of an element around, not said twice."""
        role, name = node["role"]["value"], _name(node)
        box = self.marks.get(node.get("browsergym_id", ""), {}).get("bbox")
        span = (box[1], box[1] + box[3]) if box else span
        if role == "StaticText":
            if not spoken or name not in spoken:
                self._hear(name, span)
        elif role in ROLES or (self._listens(node) and self._stands_alone(node)):
            self._flush()
            self._element(node, span)
        elif role == "heading" and name:
            self._flush()
            self.found.append((Text("heading", _cut(name)), "", span))
            self._below(node, span, name)
        elif role in ("img", "image") and name:
            self._flush()
            self.found.append((Text("image", _cut(name)), "", span))
        elif role == "row":
            self._row(node, span)
        else:
            self._below(node, span, spoken)

    def _below(self, node: Mapping[str, Any], span: tuple[float, float] | None, spoken: str = "") -> None:
        for child in self._children(node):
            self.walk(child, span, spoken)

    def _children(self, node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        return (self.nodes[one] for one in node.get("childIds", ()) if one in self.nodes)

    def _hear(self, text: str, span: tuple[float, float] | None) -> None:
        """A text goes on the line before where both stand on the same height of the page."""
        if self.span and span and not _same_height(self.span, span):
            self._flush()
        if text:
            self.texts.append(text)
            self.span = span or self.span

    def _flush(self) -> None:
        if self.texts:
            self.found.append((Text("text", _cut(" ".join(self.texts))), "", self.span))
        self.texts, self.span = [], None

    def _element(self, node: Mapping[str, Any], span: tuple[float, float] | None) -> None:
        role, browser_id = node["role"]["value"], node.get("browsergym_id", "")
        shown = ROLES.get(role, "clickable")
        options = [one for one in self._options(node) if one] if shown in ("combobox", "listbox") else []
        name = _name(node) or (self._said(node) if shown in ("clickable", "link", "button", "option") else "")
        value = node.get("value", {}).get("value")
        element = Element(
            0, shown, _cut(name or self.marks.get(browser_id, {}).get("css", "")),
            None if value is None or shown == "option" else _cut(str(value)),
            tuple(_cut(one) for one in options[:MAX_OPTIONS]) if options else None,
            max(len(options) - MAX_OPTIONS, 0), _flags(node),
        )  # fmt: skip
        self.found.append((element, browser_id, span))
        if not options and shown not in ("textbox", "searchbox", "option"):
            self._below(node, span, name)
            self._flush()

    def _options(self, node: Mapping[str, Any]) -> Iterator[str]:
        for child in self._children(node):
            if child["role"]["value"] in ("option", "MenuListOption"):
                yield _name(child)
            else:
                yield from self._options(child)

    def _row(self, node: Mapping[str, Any], span: tuple[float, float] | None) -> None:
        """A table's row: all that it says on one line, then its elements."""
        self._flush()
        cells = [text for text in (self._said(child) for child in self._children(node)) if text]
        before = len(self.found)
        self._below(node, span)
        self._flush()
        inside = [one for one in self.found[before:] if isinstance(one[0], Element)]
        del self.found[before:]
        if cells and [one.name for one, _, _ in inside if isinstance(one, Element)] != cells:
            self.found.append((Text("row", _cut(" | ".join(cells))), "", span))
        self.found += inside

    def _said(self, node: Mapping[str, Any]) -> str:
        """All texts below a node; of what is typed into, the value is no text."""
        if node["role"]["value"] == "StaticText":
            return _name(node)
        if node["role"]["value"] in ("textbox", "searchbox", "combobox", "listbox", "spinbutton", "button"):
            return ""
        if node["role"]["value"] in ("img", "image"):
            return _name(node)
        return " ".join(filter(None, (self._said(child) for child in self._children(node))))

    def _listens(self, node: Mapping[str, Any]) -> bool:
        """Whether a node listens to clicks and is drawn."""
        mark = self.marks.get(node.get("browsergym_id", ""), {})
        return bool(mark.get("clickable") and mark["bbox"]) and node["role"]["value"] not in (
            "RootWebArea",
            "LabelText",
        )

    def _stands_alone(self, node: Mapping[str, Any]) -> bool:
        """Whether a node without a role to act on is an element, not a part of the page that holds elements."""
        inside = self._inside(node)
        own = self._said(node) if inside <= _MAX_INSIDE else ""
        return inside == 0 or 0 < len(own) <= _MAX_OWN

    def _inside(self, node: Mapping[str, Any]) -> int:
        """How many elements are below a node."""
        return sum(
            (child["role"]["value"] in ROLES or self._listens(child)) + self._inside(child)
            for child in self._children(node)
        )


def page_of(
    tree: Mapping[str, Any], marks: Mapping[str, Mapping[str, Any]], title: str, url: str,
    tabs: Sequence[str] = (), tab: int = 0, max_lines: int = MAX_LINES,
) -> tuple[WebPage, dict[str, str]]:  # fmt: skip
    """The page that a merged accessibility tree shows, and the browser's id of each numbered element.

    Elements are numbered from 1 in the order in which they are listed. A page of more than `max_lines` lines is shown
    from the first line that follows all those above the view on, so that scrolling moves on; the counts of the lines
    left out above and below are lines of their own.

    Args:
        marks: BrowserGym's extra properties by browser id: `bbox` (x, y, width, height in pixels of the view), or None
            where the element is not drawn, `clickable`, and `css` (see `css_names`).
    """
    reader = _Reader({node["nodeId"]: node for node in tree["nodes"]}, marks)
    if tree["nodes"]:
        reader.walk(tree["nodes"][0], None)
        reader._flush()
    found = [one for index, one in enumerate(reader.found) if not _repeats(reader.found, index)]
    above, below = window([span for _, _, span in found], max_lines)
    lines: list[Line] = []
    ids: dict[str, str] = {}
    for line, browser_id, _ in found[above : len(found) - below]:
        if isinstance(line, Element):
            line = replace(line, number=len(ids) + 1)
            ids[str(line.number)] = browser_id
        lines.append(line)
    several = tuple(tabs) if len(tabs) > 1 else ()
    return WebPage(title, url, tuple(lines), several, tab if several else 0, above, below), ids


def window(spans: Sequence[tuple[float, float] | None], max_lines: int) -> tuple[int, int]:
    """How many lines are left out above and below: none where all fit, else it begins after the last line that lies
    wholly above the view (but shows `max_lines` where there are so many left)."""
    if len(spans) <= max_lines:
        return 0, 0
    passed = max((index + 1 for index, span in enumerate(spans) if span and span[1] <= 0 and span[0] > -1e5), default=0)
    above = min(passed, len(spans) - max_lines)
    return above, len(spans) - max_lines - above


def css_names(dom: Mapping[str, Any]) -> dict[str, str]:
    """The id and classes of all marked elements of a DOM snapshot (`#close.icon`), by browser id: what names them where
    nothing else does."""
    names, strings = {}, dom["strings"]
    for document in dom["documents"]:
        for attributes in document["nodes"]["attributes"]:
            said = {strings[key]: strings[value] for key, value in zip(attributes[::2], attributes[1::2], strict=True)}
            if "bid" in said:
                parts = [f"#{said['id']}"] if said.get("id") else []
                names[said["bid"]] = "".join([*parts, *(f".{one}" for one in said.get("class", "").split())])
    return names


def _repeats(found: Sequence[tuple[Line, str, Any]], index: int) -> bool:
    """Whether a text only says the name of the element before or after it once more, as labels do."""
    line = found[index][0]
    beside = (found[other][0] for other in (index - 1, index + 1) if 0 <= other < len(found))
    return isinstance(line, Text) and any(isinstance(one, Element) and one.name == line.text for one in beside)


def _name(node: Mapping[str, Any]) -> str:
    return " ".join(str(node.get("name", {}).get("value", "")).split())


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... (+{len(text) - MAX_TEXT} characters)"


def _same_height(one: tuple[float, float], other: tuple[float, float]) -> bool:
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return shared >= 0.5 * min(one[1] - one[0], other[1] - other[0])


def _flags(node: Mapping[str, Any]) -> tuple[str, ...]:
    said = {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
    holds = {name: said.get(name) in (True, "true", "mixed") for name in ("checked", "disabled", "pressed", "required")}
    holds |= {"expanded": said.get("expanded") is True, "collapsed": said.get("expanded") is False}
    holds["selected"] = said.get("selected") is True and node["role"]["value"] in ("tab", "option", "treeitem")
    order = ("checked", "disabled", "expanded", "collapsed", "pressed", "required", "selected")
    return tuple(name for name in order if holds[name])
