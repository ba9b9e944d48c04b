"""What MiniWoB's forms ask for: what must be typed, chosen or marked before the last click."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from dreamgym_env.domains.miniwob_aims import Aim, Found, Want, elements, is_submit, named, numbers, texts
from dreamgym_env.domains.web_page import Element, Text, WebPage


def _submit(page: WebPage) -> tuple[str, ...]:
    return numbers([one for one in elements(page) if is_submit(one)])


def _typed(box: Element, asked: str, read: Callable[[str], str] = str) -> Want:
    """`read`: what the page makes of both before it compares them."""
    shown = box.value or ""
    return Want(shown, asked, read(shown) == read(asked), f"fill('{box.number}', {asked!r})")


def _form(page: WebPage, *wants: Want) -> Aim:
    return Aim(wants, _submit(page), asked="Submit")


def enter(page: WebPage, found: Found) -> Aim:
    return _form(page, *(_typed(box, found[1]) for box in elements(page, "textbox")))


def login(page: WebPage, found: Found) -> Aim:
    asked = {"#username": found[1], "#password": found[2]}
    return _form(page, *(_typed(box, asked.get(box.name, "")) for box in elements(page, "textbox")))


def boxes(page: WebPage, found: Found) -> Aim:
    asked = found[1].split(", ")
    return _form(page, *(_marked(one, one.name in asked) for one in elements(page, "checkbox")))


def _marked(box: Element, wanted: bool) -> Want:
    shown = "checked" in box.flags
    told = {True: "checked", False: "not"}
    return Want(told[shown], told[wanted], shown == wanted, f"click('{box.number}')")


def option(page: WebPage, found: Found) -> Aim:
    wanted = [one for one in elements(page, "radio") if one.name == found[1]]
    return _form(page, *(_marked(one, True) for one in wanted[:1]))


def choose(page: WebPage, found: Found) -> Aim:
    lists = elements(page, "combobox")
    return _form(page, *(_chosen(one, found[1]) for one in lists[:1]))


def _chosen(box: Element, asked: str) -> Want:
    return Want(box.value or "", asked, box.value == asked, f"select_option('{box.number}', {asked!r})")


def table(page: WebPage, found: Found) -> Aim:
    cells = dict(line.text.split(" | ", 1) for line in page.lines if isinstance(line, Text) and " | " in line.text)
    return _answer(page, cells.get(found[1]))


def _answer(page: WebPage, asked: str | None, read: Callable[[str], str] = str) -> Aim:
    """A form with one box for an answer; nothing is asked where the page does not tell it."""
    return Aim() if asked is None else _form(page, *(_typed(box, asked, read) for box in elements(page, "textbox")))


def arithmetic(page: WebPage, found: Found) -> Aim:
    for text in texts(page):
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
    for text in texts(page):
        if said := re.fullmatch(r"(?:x ([-+]) (-?\d+)|(-?\d+) ([-+]) x) = (-?\d+)", text):
            sign, number, total = said[1] or said[4], int(said[2] or said[3]), int(said[5])
            if sign == "+":
                return _answer(page, str(total - number))
            return _answer(page, str(total + number if said[1] else number - total))
    return Aim()


def letters(page: WebPage, found: Found) -> Aim:
    shown = texts(page)
    return _answer(page, shown[0].replace(" ", "") if shown else None)


def word(page: WebPage, found: Found) -> Aim:
    """The page leaves punctuation out of what was typed too."""
    words = " ".join(texts(page)).split()
    index = int(found[1]) - 1
    return _answer(page, _plain(words[index]) if index < len(words) else None, _plain)


def _plain(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]", "", text)


def movie(page: WebPage, found: Found) -> Aim:
    """Case does not matter, nor do spaces around genre and director."""
    asked = {"genre": found[1], "director": found[2], "year": found[3]}
    wants, label = [], ""
    for line in page.lines:
        if isinstance(line, Text):
            label = line.text.partition(" ")[0].lower()
        elif line.role == "textbox" and label in asked:
            wants.append(_typed(line, asked[label], str if label == "year" else _folded))
    return _form(page, *wants)


def _folded(text: str) -> str:
    return text.strip().lower()


def radio_and_box(page: WebPage, found: Found) -> Aim:
    """Whichever radio button is marked, the page takes it for the right one; the other boxes must be empty."""
    radios = elements(page, "radio")
    marked = next((f"radio {index}" for index, one in enumerate(radios, 1) if "checked" in one.flags), "")
    clicks = [f"click('{one.number}')" for one in radios[int(found[1]) - 1 :]]
    wants = [Want(marked, "a radio", bool(marked), one) for one in clicks[:1]]
    typed = enumerate(elements(page, "textbox"), 1)
    return _form(page, *wants, *(_typed(box, found[2] if index == int(found[3]) else "") for index, box in typed))


def choose_and_click(page: WebPage, found: Found) -> Aim:
    """A choice from a list, then a click on one of several buttons."""
    lists = elements(page, "combobox")
    wants = tuple(_chosen(one, found[1]) for one in lists[:1])
    return Aim(wants, named(page, found[2], "button"), asked=found[2])


def generated(page: WebPage, found: Found) -> Aim:
    """A number that the page draws. Before the first one it takes what it shows, `-`, for even, and for no more."""
    shown = next(iter(texts(page)), "")
    number = int(shown) if re.fullmatch(r"-?\d+", shown) else None
    met = {
        "less than": number is not None and number < int(found[2] or 0),
        "greater than": number is not None and number > int(found[2] or 0),
        "odd": number is not None and number % 2 == 1,
        "even": number is None or number % 2 == 0,
    }
    kind = found[1] or found[3]
    asked = f"{kind} {found[2]}" if found[2] else kind
    draws = named(page, "Generate", "button")
    return _form(page, *(Want(shown, asked, met[kind], f"click('{one}')") for one in draws))


def spinner(page: WebPage, found: Found) -> Aim:
    """The text after the box is what it holds; the page reads the whole number that this begins with."""
    for line, after in pairwise(page.lines):
        if isinstance(line, Element) and line.role == "spinbutton":
            shown = after.text if isinstance(after, Text) else ""
            begins = re.match(r"\s*[-+]?\d+", shown)
            met = begins is not None and int(begins[0]) == int(found[1])
            return _form(page, Want(shown, found[1], met, f"fill('{line.number}', {found[1]!r})"))
    return Aim()
