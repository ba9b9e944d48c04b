"""What MiniWoB's pages ask for, as far as a page and its instruction tell, and which clicks end an episode there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from dreamgym_env.domains.web_page import Element, Text, WebPage

Found = re.Match[str]
_HANDLE = "-hitarea"
SUBMIT = ("Submit", "Login", "Search")
"""What the button that ends a form is called."""


@dataclass(frozen=True)
class Want:
    """Something that must be so before the last click: how the page shows it, how the task asks for it, and the action
    that makes it so."""

    shown: str
    asked: str
    met: bool
    action: str


@dataclass(frozen=True)
class Aim:
    """What the page asks for now: what must be so first, then a click on any of the elements `click` (numbers; the one
    that the task names comes first), which is the last one where `last`. `asked`: what that element is called in the
    task."""

    wants: tuple[Want, ...] = ()
    click: tuple[str, ...] = ()
    last: bool = True
    asked: str = ""


Closes = Callable[[Element, WebPage, Aim], bool | None]


def elements(page: WebPage, *roles: str) -> list[Element]:
    return [one for one in page.elements.values() if not roles or one.role in roles]


def numbers(elements: list[Element]) -> tuple[str, ...]:
    return tuple(str(one.number) for one in elements)


def named(page: WebPage, name: str, *roles: str) -> tuple[str, ...]:
    return numbers([one for one in elements(page, *roles) if one.name == name])


def texts(page: WebPage) -> list[str]:
    return [line.text for line in page.lines if isinstance(line, Text)]


def role(*roles: str) -> Closes:
    return lambda element, page, aim: element.role in roles


def named_so(*names: str) -> Closes:
    return lambda element, page, aim: element.name in names


def submits(element: Element, page: WebPage, aim: Aim) -> bool:
    return is_submit(element)


def submits_or_covers(element: Element, page: WebPage, aim: Aim) -> bool | None:
    """As `submits`; the tab around a submit button may pass a click on to it."""
    return None if element.role == "tab" and element.name in SUBMIT else is_submit(element)


def is_submit(element: Element) -> bool:
    """Whether a click on it sends the page's form."""
    return element.role in ("button", "clickable") and element.name in SUBMIT


def click_test(page: WebPage, found: Found) -> Aim:
    return Aim(click=numbers(elements(page, "button")), asked="button")


def click_named(*roles: str) -> Callable[[WebPage, Found], Aim]:
    def aim(page: WebPage, found: Found) -> Aim:
        name = "Close" if found[1] == "x" else found[1]
        return Aim(click=named(page, name, *roles), asked=name)

    return aim


def click_tab(page: WebPage, found: Found) -> Aim:
    return Aim(click=named(page, found[1], "link", "tab"), asked=found[1])


def click_behind(page: WebPage, found: Found) -> Aim:
    """A link behind one of several tabs or sections: it, or the next one after that which is open."""
    if shown := named(page, found[1], "clickable"):
        return Aim(click=shown, asked=found[1])
    tabs = elements(page, "tab")
    after = next((index + 1 for index, one in enumerate(tabs) if "expanded" in one.flags), 0)
    tab = tabs[after % len(tabs)] if tabs else None
    inside = [one for one in elements(page, "link") if tab and one.name == tab.name]
    return Aim(click=numbers(inside[:1] or ([tab] if tab else [])), last=False, asked=found[1])


def click_widget(page: WebPage, found: Found) -> Aim:
    """Of what is typed into, the page does not say which is a text area."""
    kind = found[1]
    if kind in ("text", "textarea"):
        return Aim(asked=kind)
    lines = elements(page)
    labels = [one for one, after in pairwise(lines) if after.role == kind and one.name == after.name]
    return Aim(click=numbers([*elements(page, kind), *(one for one in labels if one.role == "clickable")]), asked=kind)


def focus(page: WebPage, found: Found) -> Aim:
    boxes = elements(page, "textbox")
    index = int(found[1]) - 1 if found[1] else 0
    return Aim(click=numbers(boxes[index : index + 1]), asked=f"box {index + 1}")


def collapsible(page: WebPage, found: Found) -> Aim:
    sections = [one for one in elements(page, "tab") if one.name not in SUBMIT]
    wants = [
        Want("expanded" if "expanded" in one.flags else "collapsed", "expanded", "expanded" in one.flags,
             f"click('{one.number}')")
        for one in sections
    ]  # fmt: skip
    return Aim(tuple(wants), named(page, "Submit", "button"), asked="Submit")


def tree(page: WebPage, found: Found) -> Aim:
    owners = _owners(page)
    shown = [number for number, name in owners.items() if name == found[1]]
    if shown:
        return Aim(click=tuple(reversed(shown)), asked=found[1])
    lines = elements(page)
    shut = [after for one, after in pairwise(lines) if "expandable-hitarea" in one.name]
    return Aim(click=numbers(shut[:1]), last=False, asked=found[1])


def _owners(page: WebPage) -> dict[str, str]:
    """The folder or file that each element of a tree belongs to: a folder is listed as itself, its handle, its name."""
    lines = elements(page)
    before = ["", *(one.name for one in lines)]
    return {
        str(one.number): name if _HANDLE in one.name else one.name for one, name in zip(lines, before, strict=False)
    }


def tree_ends(element: Element, page: WebPage, aim: Aim) -> bool | None:
    """A file does, and so does what is asked for. Folders in folders pass a click on, which the text does not show."""
    lines = elements(page)
    index = lines.index(element)
    name = _owners(page)[str(element.number)]
    beside = lines[max(index - 1, 0) : index + 2]
    folder = any(_HANDLE in one.name for one in beside) and (_HANDLE in element.name or _twin(lines, index))
    if name == aim.asked or not folder:
        return True
    opened = any("collapsable-hitarea" in one.name for one in lines)
    return None if opened and aim.last else False


def _twin(lines: list[Element], index: int) -> bool:
    """Whether the element is the one before or after a folder's handle."""
    ahead, back = lines[index + 1 : index + 3], lines[max(index - 2, 0) : index]
    name = lines[index].name
    return (len(ahead) == 2 and _HANDLE in ahead[0].name and ahead[1].name == name) or (
        len(back) == 2 and _HANDLE in back[1].name and back[0].name == name
    )


def trash(page: WebPage, found: Found) -> Aim:
    """The bin of an email: in the list it follows the email, in an open email it stands above its sender."""
    lines, shown = elements(page, "clickable"), texts(page)
    if "to me" in shown:
        if shown[: shown.index("to me")][-1:] == [found[1]]:
            return Aim(click=named(page, ".trash", "clickable"), asked=found[1])
        return Aim(click=named(page, "#close-email", "clickable"), last=False, asked=found[1])
    for index, one in enumerate(lines):
        if one.name.startswith(f"{found[1]} "):
            bins = [later for later in lines[index:] if later.name == ".trash"]
            return Aim(click=numbers(bins[:1]), asked=found[1])
    return Aim(asked=found[1])


def ticket(page: WebPage, found: Found) -> Aim:
    """The flight with the least or most of something; each button follows its flight's duration."""
    offers, minutes = [], 0
    for line in page.lines:
        if isinstance(line, Text) and (said := re.search(r"Duration: (\d+)h (\d+)m", line.text)):
            minutes = 60 * int(said[1]) + int(said[2])
        elif isinstance(line, Element) and (said := re.match(r"Book for \$(\d+)", line.name)):
            offers.append((int(said[1]) if found[1] in ("cheapest", "most expensive") else minutes, line))
    pick = min if found[1] in ("cheapest", "shortest") else max
    best = [one for value, one in offers if value == pick(value for value, _ in offers)]
    return Aim(click=numbers(best), asked=best[0].name if best else "")


def contact(page: WebPage, found: Found) -> Aim:
    """Any detail of the person ends it rightly: MiniWoB counts the person 0.7 and the kind of detail 0.3. So what must
    be so first is that the person is shown."""
    shown = next((line.text for line in page.lines if isinstance(line, Text) and line.kind == "heading"), "")
    turns = [*named(page, ">", "link"), *named(page, "<", "link")]
    wants = [Want(shown, found[1], shown == found[1], f"click('{one}')") for one in turns[:1]]
    details = [one for one in elements(page) if detail(one, page, Aim())]
    label = f"{found[2].capitalize()}:"
    asked = [one for before, one in pairwise(page.lines) if isinstance(before, Text) and before.text == label]
    return Aim(tuple(wants), numbers(sorted(details, key=lambda one: one not in asked)), asked=found[2])


def detail(element: Element, page: WebPage, aim: Aim) -> bool:
    return element.role == "link" and not re.fullmatch(r"[<>]|\d+", element.name)
