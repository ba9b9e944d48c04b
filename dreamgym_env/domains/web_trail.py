"""Where an episode on web sites has been, and so what its next page must be: typing, going back, known links."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from dreamgym_env.domains.web_actions import Call, parse_call
from dreamgym_env.domains.web_page import Element, Text, WebPage, page_of
from dreamgym_env.types import Transition

STILL = frozenset(("hover", "focus", "noop"))
"""Actions that show nothing new on a page without scripts."""
_DOT, _LONGEST = "•", 300
Key = tuple[str, ...]


def is_masked(element: Element) -> bool:
    """Whether a box shows dots for what is typed into it."""
    return re.search(r"passw|verify", element.name, re.IGNORECASE) is not None


def typed(page: WebPage, call: Call) -> WebPage | None:
    """The page after something was typed or chosen, where it is the element alone that changes; else None.

    Boxes that complete what one types, numbers, dates and texts of several lines may look otherwise afterwards.
    """
    if call.name not in ("fill", "clear", "select_option"):
        return None
    element = page.elements[call.targets[0]]
    if call.name == "select_option":
        label = call.arguments[1]
        if element.role != "combobox" or not isinstance(label, str) or label not in (element.options or ()):
            return None
        return _with(page, replace(element, value=label))
    text = call.arguments[1] if call.name == "fill" else ""
    if element.role != "textbox" or re.search(r"[\n\r\t]", text) or len(text) > _LONGEST:
        return None
    shown = _DOT * len(text) if is_masked(element) else " ".join(text.split())
    return _with(page, replace(element, value=shown or None))


def _with(page: WebPage, element: Element) -> WebPage:
    """The page with one element changed."""
    lines = (element if isinstance(one, Element) and one.number == element.number else one for one in page.lines)
    return replace(page, lines=tuple(lines))


def stays(page: WebPage, call: Call) -> bool:
    """Whether the action shows nothing new: looking closer, waiting, scrolling what is shown whole. A box for numbers
    may show its number only when another element is focused."""
    if call.name == "focus" and any(one.role == "spinbutton" for one in page.elements.values()):
        return False
    return call.name in STILL or (call.name == "scroll" and not page.above and not page.below)


def link_key(page: WebPage, element: Element) -> Key:
    """What a link is known by: its name in a site's menu (above all text), else its page and what stands before it."""
    before, same = "", 0
    for line in page.lines:
        if isinstance(line, Text):
            before, same = line.text, 0
        elif line.number == element.number:
            break
        elif line.name == element.name:
            same += 1
    if not before:
        return (urlsplit(page.url).netloc, element.name)
    return (page.url, before, element.name, str(same))


def target_key(page: WebPage, element: Element) -> Key:
    """What decides where a link leads: as `link_key`, but the rows of a list are the same ones however it is sorted,
    searched or turned over."""
    return link_key(replace(page, url=page.url.partition("?")[0]), element)


@dataclass
class Trail:
    """An episode's way through its sites.

    `links`: where links led; `fresh`: how addresses look when they are opened, as far as nothing may have changed since
    (a form that was sent may change anything; one whose address holds its fields asks only); `behind`, `ahead`: the
    pages that the browser goes back and forward to, None where it is not known how they look then; `touched`: whether a
    form was sent that may have changed the sites.
    """

    page: WebPage
    links: dict[Key, str] = field(default_factory=dict)
    fresh: dict[str, WebPage] = field(default_factory=dict)
    behind: list[WebPage | None] = field(default_factory=list)
    ahead: list[WebPage | None] = field(default_factory=list)
    tabs: dict[int, WebPage] = field(default_factory=dict)
    touched: bool = False

    @classmethod
    def after(cls, initial: str, history: Iterable[Transition]) -> Trail | None:
        """The way so far; None where a state is no page."""
        page = page_of(initial)
        if page is None:
            return None
        trail = cls(page, fresh={} if page.above or page.below else {page.url: page})
        for step in history:
            call, shown = parse_call(step.action), page_of(step.next_state)
            if shown is None:
                return None
            if call is not None and step.possible:
                trail.hear(call, shown)
        return trail

    def target(self, call: Call) -> str | None:
        """The address that the action must lead to, where the episode tells."""
        if call.name != "click":
            return None
        return self.links.get(link_key(self.page, self.page.elements[call.targets[0]]))

    def answer(self, call: Call) -> WebPage | None:
        """The page that a possible action leads to, where the episode determines all of it."""
        if stays(self.page, call):
            return self.page
        if (page := typed(self.page, call)) is not None:
            return page
        if call.name == "tab_focus":
            return self.page if call.arguments[0] == self.page.tab else self._in_tab(call.arguments[0])
        if call.name in ("go_back", "go_forward"):
            pages = self.behind if call.name == "go_back" else self.ahead
            return self._here(pages[-1]) if pages else None
        url = call.arguments[0] if call.name == "goto" else self.target(call)
        return self._here(self.fresh.get(url or ""))

    def hear(self, call: Call, shown: WebPage) -> None:
        """Takes in what a possible action led to."""
        before, self.page = self.page, shown
        if typed(before, call) is not None or stays(before, call):
            return
        if call.name.startswith(("tab_", "new_tab")):
            self.behind, self.ahead = [], []
            self.tabs = {} if call.name == "tab_close" else {**self.tabs, before.tab: before}
            return
        if call.name in ("go_back", "go_forward"):
            near, far = (self.behind, self.ahead) if call.name == "go_back" else (self.ahead, self.behind)
            far.append(self._left(before))
            if near:
                near.pop()
            return
        element = before.elements.get(call.targets[0]) if call.targets else None
        self._arrive(before, shown, element, call)

    def _arrive(self, before: WebPage, shown: WebPage, element: Element | None, call: Call) -> None:
        """A page that was opened by a link, an address or a form."""
        follows = call.name == "goto" or (element is not None and element.role == "link")
        if element is not None and element.role == "link" and call.name == "click":
            self.links[link_key(before, element)] = shown.url
        left = self._left(before)
        if not follows and "?" not in shown.url:
            self.fresh, self.behind, self.tabs, left = {}, [None for _ in self.behind], {}, None
            self.touched = True
        if shown.url != before.url or not follows:
            self.behind.append(left)
            self.ahead = []
        if not (shown.above or shown.below):
            self.fresh[shown.url] = shown

    def _left(self, page: WebPage) -> WebPage | None:
        """How a page looks when one goes back to it; the browser may forget what was typed there."""
        return page if self.fresh.get(page.url) == page else None

    def _here(self, page: WebPage | None) -> WebPage | None:
        """The page as it looks in the tab in view."""
        if page is None or not self.page.tabs:
            return page if page is None or not page.tabs else None
        titles = [page.title if index == self.page.tab else one for index, one in enumerate(self.page.tabs)]
        return replace(page, tabs=tuple(titles), tab=self.page.tab)

    def _in_tab(self, index: int) -> WebPage | None:
        page = self.tabs.get(index)
        return replace(page, tabs=self.page.tabs, tab=index) if page is not None else None
