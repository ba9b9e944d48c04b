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
    """What the page asks for now: what must be so first, then a click on any of the elements `click` (numbers), which
    is the last one where `last`. `asked`: what that element is called in the task."""

    wants: tuple[Want, ...] = ()
    click: tuple[str, ...] = ()
    last: bool = True
    asked: str = ""


Closes = Callable[[Element, WebPage, Aim], bool | None]


def _elements(page: WebPage, *roles: str) -> list[Element]:
    return [one for one in page.elements.values() if not roles or one.role in roles]


def _numbers(elements: list[Element]) -> tuple[str, ...]:
    return tuple(str(one.number) for one in elements)


def _named(page: WebPage, name: str, *roles: str) -> tuple[str, ...]:
    return _numbers([one for one in _elements(page, *roles) if one.name == name])


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


def _submit(page: WebPage) -> tuple[str, ...]:
    return _numbers([one for one in _elements(page) if is_submit(one)])


def _typed(box: Element, asked: str) -> Want:
    shown = box.value or ""
    return Want(shown, asked, shown == asked, f"fill('{box.number}', {asked!r})")


def _form(page: WebPage, *wants: Want) -> Aim:
    return Aim(wants, _submit(page), asked="Submit")


def click_test(page: WebPage, found: Found) -> Aim:
    return Aim(click=_numbers(_elements(page, "button")), asked="button")


def click_named(*roles: str) -> Callable[[WebPage, Found], Aim]:
    def aim(page: WebPage, found: Found) -> Aim:
        name = "Close" if found[1] == "x" else found[1]
        return Aim(click=_named(page, name, *roles), asked=name)

    return aim


def click_tab(page: WebPage, found: Found) -> Aim:
    return Aim(click=_named(page, found[1], "link", "tab"), asked=found[1])


def click_behind(page: WebPage, found: Found) -> Aim:
    """A link behind one of several tabs or sections: it, or the next one after that which is open."""
    if shown := _named(page, found[1], "clickable"):
        return Aim(click=shown, asked=found[1])
    tabs = _elements(page, "tab")
    after = next((index + 1 for index, one in enumerate(tabs) if "expanded" in one.flags), 0)
    tab = tabs[after % len(tabs)] if tabs else None
    inside = [one for one in _elements(page, "link") if tab and one.name == tab.name]
    return Aim(click=_numbers(inside[:1] or ([tab] if tab else [])), last=False, asked=found[1])


def click_widget(page: WebPage, found: Found) -> Aim:
    """Of what is typed into, the page does not say which is a text area."""
    kind = found[1]
    if kind in ("text", "textarea"):
        return Aim(asked=kind)
    lines = _elements(page)
    labels = [one for one, after in pairwise(lines) if after.role == kind and one.name == after.name]
    return Aim(
        click=_numbers([*_elements(page, kind), *(one for one in labels if one.role == "clickable")]), asked=kind
    )


def focus(page: WebPage, found: Found) -> Aim:
    boxes = _elements(page, "textbox")
    index = int(found[1]) - 1 if found[1] else 0
    return Aim(click=_numbers(boxes[index : index + 1]), asked=f"box {index + 1}")


def collapsible(page: WebPage, found: Found) -> Aim:
    sections = [one for one in _elements(page, "tab") if one.name not in SUBMIT]
    wants = [
        Want("expanded" if "expanded" in one.flags else "collapsed", "expanded", "expanded" in one.flags,
             f"click('{one.number}')")
        for one in sections
    ]  # fmt: skip
    return Aim(tuple(wants), _named(page, "Submit", "button"), asked="Submit")


def tree(page: WebPage, found: Found) -> Aim:
    owners = _owners(page)
    shown = [number for number, name in owners.items() if name == found[1]]
    if shown:
        return Aim(click=tuple(reversed(shown)), asked=found[1])
    lines = _elements(page)
    shut = [after for one, after in pairwise(lines) if "expandable-hitarea" in one.name]
    return Aim(click=_numbers(shut[:1]), last=False, asked=found[1])


def _owners(page: WebPage) -> dict[str, str]:
    """The folder or file that each element of a tree belongs to: a folder is listed as itself, its handle, its name."""
    lines = _elements(page)
    before = ["", *(one.name for one in lines)]
    return {
        str(one.number): name if _HANDLE in one.name else one.name for one, name in zip(lines, before, strict=False)
    }


def tree_ends(element: Element, page: WebPage, aim: Aim) -> bool | None:
    """A file does, and so does what is asked for. Folders in folders pass a click on, which the text does not show."""
    lines = _elements(page)
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


def enter(page: WebPage, found: Found) -> Aim:
    return _form(page, *(_typed(box, found[1]) for box in _elements(page, "textbox")))


def login(page: WebPage, found: Found) -> Aim:
    asked = {"#username": found[1], "#password": found[2]}
    return _form(page, *(_typed(box, asked.get(box.name, "")) for box in _elements(page, "textbox")))


def boxes(page: WebPage, found: Found) -> Aim:
    asked = found[1].split(", ")
    return _form(page, *(_marked(one, one.name in asked) for one in _elements(page, "checkbox")))


def _marked(box: Element, wanted: bool) -> Want:
    shown = "checked" in box.flags
    told = {True: "checked", False: "not"}
    return Want(told[shown], told[wanted], shown == wanted, f"click('{box.number}')")


def option(page: WebPage, found: Found) -> Aim:
    wanted = [one for one in _elements(page, "radio") if one.name == found[1]]
    return _form(page, *(_marked(one, True) for one in wanted[:1]))


def choose(page: WebPage, found: Found) -> Aim:
    lists = _elements(page, "combobox")
    return _form(page, *(_chosen(one, found[1]) for one in lists[:1]))


def _chosen(box: Element, asked: str) -> Want:
    return Want(box.value or "", asked, box.value == asked, f"select_option('{box.number}', {asked!r})")


def table(page: WebPage, found: Found) -> Aim:
    cells = dict(line.text.split(" | ", 1) for line in page.lines if isinstance(line, Text) and " | " in line.text)
    return _answer(page, cells.get(found[1]))


def _answer(page: WebPage, asked: str | None) -> Aim:
    """A form with one box for an answer; nothing is asked where the page does not tell it."""
    return Aim() if asked is None else _form(page, *(_typed(box, asked) for box in _elements(page, "textbox")))


def _texts(page: WebPage) -> list[str]:
    return [line.text for line in page.lines if isinstance(line, Text)]


def arithmetic(page: WebPage, found: Found) -> Aim:
    for text in _texts(page):
        if said := re.fullmatch(r"(-?\d+) ([-+x]) (-?\d+) =", text):
            return _answer(page, str(_OPERATIONS[said[2]](int(said[1]), int(said[3]))))
    return Aim()


_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "x": lambda one, other: one * other,
}


def equation(page: WebPage, found: Found) -> Aim:
    """`x + 9 = 6`, `2 - x = 4`: the number that x stands for."""
    for text in _texts(page):
        if said := re.fullmatch(r"(?:x ([-+]) (-?\d+)|(-?\d+) ([-+]) x) = (-?\d+)", text):
            sign, number, total = said[1] or said[4], int(said[2] or said[3]), int(said[5])
            if sign == "+":
                return _answer(page, str(total - number))
            return _answer(page, str(total + number if said[1] else number - total))
    return Aim()


def letters(page: WebPage, found: Found) -> Aim:
    texts = _texts(page)
    return _answer(page, texts[0].replace(" ", "") if texts else None)


def word(page: WebPage, found: Found) -> Aim:
    words = " ".join(_texts(page)).split()
    index = int(found[1]) - 1
    return _answer(page, re.sub(r"[^a-zA-Z0-9]", "", words[index]) if index < len(words) else None)


def movie(page: WebPage, found: Found) -> Aim:
    asked = {"genre": found[1], "director": found[2], "year": found[3]}
    wants, label = [], ""
    for line in page.lines:
        if isinstance(line, Text):
            label = line.text.partition(" ")[0].lower()
        elif line.role == "textbox" and label in asked:
            wants.append(_typed(line, asked[label]))
    return _form(page, *wants)


def trash(page: WebPage, found: Found) -> Aim:
    """The bin of an email: in the list it follows the email, in an open email it stands above its sender."""
    lines, texts = _elements(page, "clickable"), _texts(page)
    if "to me" in texts:
        if texts[: texts.index("to me")][-1:] == [found[1]]:
            return Aim(click=_named(page, ".trash", "clickable"), asked=found[1])
        return Aim(click=_named(page, "#close-email", "clickable"), last=False, asked=found[1])
    for index, one in enumerate(lines):
        if one.name.startswith(f"{found[1]} "):
            bins = [later for later in lines[index:] if later.name == ".trash"]
            return Aim(click=_numbers(bins[:1]), asked=found[1])
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
    return Aim(click=_numbers(best), asked=best[0].name if best else "")


def contact(page: WebPage, found: Found) -> Aim:
    name, kind, last = found[1], found[2], ""
    if name not in _texts(page):
        return Aim(click=_named(page, ">", "link"), last=False, asked=name)
    for line in page.lines:
        if isinstance(line, Element) and last == f"{kind.capitalize()}:":
            return Aim(click=(str(line.number),), asked=f"{kind} of {name}")
        last = line.text if isinstance(line, Text) else ""
    return Aim(asked=name)


def detail(element: Element, page: WebPage, aim: Aim) -> bool:
    return element.role == "link" and not re.fullmatch(r"[<>]|\d+", element.name)
