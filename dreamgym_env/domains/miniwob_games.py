"""MiniWoB's tasks whose pages text explains: what each asks for, as page and instruction tell it, and what ends it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from dreamgym_env.domains.web_page import Element, Text, WebPage

Found = re.Match[str]
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


@dataclass(frozen=True)
class Game:
    """One of MiniWoB's tasks. `closes`: whether a click on the element ends the episode. `form`: typing, choosing and
    marking change nothing but the element itself. `most`: it is enough that more wants are met than not. `touch`: any
    action on such an element ends the episode, not a click alone."""

    instruction: re.Pattern[str]
    aim: Callable[[WebPage, Found], Aim]
    closes: Callable[[Element], bool]
    form: bool = False
    most: bool = False
    touch: bool = False


def _elements(page: WebPage, *roles: str) -> list[Element]:
    return [one for one in page.elements.values() if not roles or one.role in roles]


def _numbers(elements: list[Element]) -> tuple[str, ...]:
    return tuple(str(one.number) for one in elements)


def _named(page: WebPage, name: str, *roles: str) -> tuple[str, ...]:
    return _numbers([one for one in _elements(page, *roles) if one.name == name])


def _role(*roles: str) -> Callable[[Element], bool]:
    return lambda element: element.role in roles


def _submits(element: Element) -> bool:
    return element.role in ("button", "clickable") and element.name in SUBMIT


def _submit(page: WebPage) -> tuple[str, ...]:
    return _numbers([one for one in _elements(page) if _submits(one)])


def _typed(box: Element, asked: str) -> Want:
    shown = box.value or ""
    return Want(shown, asked, shown == asked, f"fill('{box.number}', {asked!r})")


def _form(page: WebPage, *wants: Want) -> Aim:
    return Aim(wants, _submit(page), asked="Submit")


def _click_test(page: WebPage, found: Found) -> Aim:
    return Aim(click=_numbers(_elements(page, "button")), asked="button")


def _click_named(*roles: str) -> Callable[[WebPage, Found], Aim]:
    def aim(page: WebPage, found: Found) -> Aim:
        name = "Close" if found[1] == "x" else found[1]
        return Aim(click=_named(page, name, *roles), asked=name)

    return aim


def _click_tab(page: WebPage, found: Found) -> Aim:
    return Aim(click=_named(page, found[1], "link", "tab"), asked=found[1])


def _click_behind(page: WebPage, found: Found) -> Aim:
    """A link behind one of several tabs or sections: it, or the next one after that which is open."""
    if shown := _named(page, found[1], "clickable"):
        return Aim(click=shown, asked=found[1])
    tabs = _elements(page, "tab")
    after = next((index + 1 for index, one in enumerate(tabs) if "expanded" in one.flags), 0)
    tab = tabs[after % len(tabs)] if tabs else None
    inside = [one for one in _elements(page, "link") if tab and one.name == tab.name]
    return Aim(click=_numbers(inside[:1] or ([tab] if tab else [])), last=False, asked=found[1])


def _click_widget(page: WebPage, found: Found) -> Aim:
    """Of what is typed into, the page does not say which is a text area."""
    kind = found[1]
    if kind in ("text", "textarea"):
        return Aim(asked=kind)
    lines = _elements(page)
    labels = [one for one, after in pairwise(lines) if after.role == kind and one.name == after.name]
    return Aim(
        click=_numbers([*_elements(page, kind), *(one for one in labels if one.role == "clickable")]), asked=kind
    )


def _focus(page: WebPage, found: Found) -> Aim:
    boxes = _elements(page, "textbox")
    index = int(found[1]) - 1 if found[1] else 0
    return Aim(click=_numbers(boxes[index : index + 1]), asked=f"box {index + 1}")


def _collapsible(page: WebPage, found: Found) -> Aim:
    sections = [one for one in _elements(page, "tab") if one.name not in SUBMIT]
    wants = [
        Want("expanded" if "expanded" in one.flags else "collapsed", "expanded", "expanded" in one.flags,
             f"click('{one.number}')")
        for one in sections
    ]  # fmt: skip
    return Aim(tuple(wants), _named(page, "Submit", "button"), asked="Submit")


def _tree(page: WebPage, found: Found) -> Aim:
    if shown := _named(page, found[1], "clickable"):
        return Aim(click=shown[-1:], asked=found[1])
    lines = _elements(page)
    shut = [after for one, after in pairwise(lines) if "expandable-hitarea" in one.name]
    return Aim(click=_numbers(shut[:1]), last=False, asked=found[1])


def _enter(page: WebPage, found: Found) -> Aim:
    return _form(page, *(_typed(box, found[1]) for box in _elements(page, "textbox")))


def _login(page: WebPage, found: Found) -> Aim:
    asked = {"#username": found[1], "#password": found[2]}
    return _form(page, *(_typed(box, asked.get(box.name, "")) for box in _elements(page, "textbox")))


def _boxes(page: WebPage, found: Found) -> Aim:
    asked = found[1].split(", ")
    return _form(page, *(_marked(one, one.name in asked) for one in _elements(page, "checkbox")))


def _marked(box: Element, wanted: bool) -> Want:
    shown = "checked" in box.flags
    return Want(*("checked" if one else "not" for one in (shown, wanted)), shown == wanted, f"click('{box.number}')")


def _option(page: WebPage, found: Found) -> Aim:
    wanted = [one for one in _elements(page, "radio") if one.name == found[1]]
    return _form(page, *(_marked(one, True) for one in wanted[:1]))


def _choose(page: WebPage, found: Found) -> Aim:
    lists = _elements(page, "combobox")
    return _form(page, *(_chosen(one, found[1]) for one in lists[:1]))


def _chosen(box: Element, asked: str) -> Want:
    return Want(box.value or "", asked, box.value == asked, f"select_option('{box.number}', {asked!r})")


def _table(page: WebPage, found: Found) -> Aim:
    cells = dict(line.text.split(" | ", 1) for line in page.lines if isinstance(line, Text) and " | " in line.text)
    return _answer(page, cells.get(found[1]))


def _answer(page: WebPage, asked: str | None) -> Aim:
    """A form with one box for an answer; nothing is asked where the page does not tell it."""
    return Aim() if asked is None else _form(page, *(_typed(box, asked) for box in _elements(page, "textbox")))


def _texts(page: WebPage) -> list[str]:
    return [line.text for line in page.lines if isinstance(line, Text)]


def _sum(page: WebPage, found: Found) -> Aim:
    for text in _texts(page):
        if said := re.fullmatch(r"(-?\d+) ([-+x]) (-?\d+) =", text):
            return _answer(page, str(_OPERATIONS[said[2]](int(said[1]), int(said[3]))))
    return Aim()


_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "x": lambda one, other: one * other,
}


def _equation(page: WebPage, found: Found) -> Aim:
    """`x + 9 = 6`, `2 - x = 4`: the number that x stands for."""
    for text in _texts(page):
        if said := re.fullmatch(r"(x|-?\d+) ([-+]) (x|-?\d+) = (-?\d+)", text):
            left, sign, right, result = said.groups()
            number, total = int(right if left == "x" else left), int(result)
            if left == "x":
                return _answer(page, str(total - number if sign == "+" else total + number))
            return _answer(page, str(total - number if sign == "+" else number - total))
    return Aim()


def _letters(page: WebPage, found: Found) -> Aim:
    texts = _texts(page)
    return _answer(page, texts[0].replace(" ", "") if texts else None)


def _word(page: WebPage, found: Found) -> Aim:
    words = " ".join(_texts(page)).split()
    index = int(found[1]) - 1
    return _answer(page, re.sub(r"[^a-zA-Z0-9]", "", words[index]) if index < len(words) else None)


def _movie(page: WebPage, found: Found) -> Aim:
    asked = {"genre": found[1], "director": found[2], "year": found[3]}
    wants, label = [], ""
    for line in page.lines:
        if isinstance(line, Text):
            label = line.text.split()[0].lower()
        elif line.role == "textbox" and label in asked:
            wants.append(_typed(line, asked[label]))
    return _form(page, *wants)


def _trash(page: WebPage, found: Found) -> Aim:
    lines = _elements(page, "clickable")
    for index, one in enumerate(lines):
        if one.name.startswith(f"{found[1]} "):
            return Aim(click=_numbers([next(bin for bin in lines[index:] if ".trash" in bin.name)]), asked=found[1])
    return Aim(asked=found[1])


def _ticket(page: WebPage, found: Found) -> Aim:
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


def _contact(page: WebPage, found: Found) -> Aim:
    name, kind, last = found[1], found[2], ""
    if name not in _texts(page):
        return Aim(click=_named(page, ">", "link"), last=False, asked=name)
    for line in page.lines:
        if isinstance(line, Element) and last == f"{kind.capitalize()}:":
            return Aim(click=(str(line.number),), asked=f"{kind} of {name}")
        last = line.text if isinstance(line, Text) else ""
    return Aim(asked=name)


def _detail(element: Element) -> bool:
    return element.role == "link" and not re.fullmatch(r"[<>]|\d+", element.name)


_QUOTED = r'"(.+)"'
GAMES: dict[str, Game] = {
    name: Game(re.compile(instruction), aim, closes, *flags)
    for name, instruction, aim, closes, *flags in (
        ("click-test", r"Click the button\.", _click_test, _role("button")),
        ("click-test-2", r"Click button (ONE)\.", _click_named("button"), _role("button")),
        ("click-button", rf"Click on the {_QUOTED} button\.", _click_named("button"), _role("button")),
        ("unicode-test", rf"Click on the {_QUOTED} button\.", _click_named("button"), _role("button")),
        ("click-link", rf"Click on the link {_QUOTED}\.", _click_named("clickable"), _role("clickable")),
        ("click-dialog", r'Close the dialog box by clicking the "(x)"\.', _click_named("button"), _role("button")),
        ("click-dialog-2", rf"Click the button in the dialog box labeled {_QUOTED}\.", _click_named("button"),
         _role("button")),
        ("click-tab", r"Click on (Tab #\d)\.", _click_tab, _role("link", "tab")),
        ("click-tab-2", rf"Switch between the tabs to find and click on the link {_QUOTED}\.", _click_behind,
         _role("clickable")),
        ("click-collapsible-2", rf"Expand the sections below, to find and click on the link {_QUOTED}\.", _click_behind,
         _role("clickable")),
        ("click-widget", r'Click on a "(\w+)" widget\.', _click_widget,
         _role("clickable", "button", "radio", "checkbox", "textbox")),
        ("focus-text", r"Focus into the()? ?textbox\.", _focus, _role("textbox"), False, False, True),
        ("focus-text-2", r"Focus into the (\d)\w\w input textbox\.", _focus, _role("textbox"), False, False, True),
        ("click-collapsible", r"Expand the section below and click submit\.", _collapsible, _submits),
        ("navigate-tree", rf".*Find and click on the folder or file named {_QUOTED}\.", _tree, _role()),
        ("enter-text", rf"Enter {_QUOTED} into the text field and press Submit\.", _enter, _submits, True),
        ("enter-text-dynamic", rf"Enter {_QUOTED} into the text field and press Submit\.", _enter, _submits, True),
        ("enter-password", rf"Enter the password {_QUOTED} into both text fields and press submit\.", _enter, _submits,
         True),
        ("login-user", r'Enter the username "(.+)" and the password "(.+)" into the text fields and press login\.',
         _login, _submits, True),
        ("click-checkboxes", r"Select (.+) and click Submit\.", _boxes, _submits, True, True),
        ("click-checkboxes-transfer", r"Select (.+) and click Submit\.", _boxes, _submits, True, True),
        ("click-option", r"Select (.+) and click Submit\.", _option, _submits, True),
        ("choose-list", r"Select (.+) from the list and click Submit\.", _choose, _submits, True),
        ("read-table", r"Enter the value of (.+) into the text field and press Submit\.", _table, _submits, True),
        ("simple-arithmetic", r"Solve the math problem .*", _sum, _submits, True),
        ("simple-algebra", r"Solve for x .*", _equation, _submits, True),
        ("text-transform", r"Type the text below .*", _letters, _submits, True),
        ("find-word", r"Find the (\d+)\w\w word in the paragraph.*", _word, _submits, True),
        ("multi-orderings", r"Search for (\w+) movies directed by (\w+) from year (\d+)\.", _movie, _submits, True),
        ("email-inbox-delete", r"Find the email by (\w+) and click the trash icon to delete it\.", _trash,
         lambda element: element.name in (".trash", ".star")),
        ("buy-ticket", r"Buy the ticket with the (cheapest|most expensive|shortest|longest) \w+\.", _ticket,
         _role("button")),
        ("phone-book", r"Find (\w+) in the contact book and click on their (phone|email|address)[\w ]*\.", _contact,
         _detail),
    )
}  # fmt: skip
"""By the name in the page's address."""
