"""What a session's page looks like: the abstract state, and the original's `text` and `text_rich` observations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

from dreamgym_env.domains.webshop_pages import (
    BACK,
    BUY,
    NEXT,
    PREV,
    DonePage,
    ItemPage,
    Page,
    ResultsPage,
    Row,
    SearchPage,
    SubPage,
)

from .engine import Session, label

Kind = Literal["text", "button", "option", "product"]
Piece = tuple[str, Kind]


def page_of(session: Session) -> Page:
    """The abstract page; every text on it is in `label`'s spelling, which `click[...]` accepts."""
    product = session.product
    if session.page == "search":
        return SearchPage()
    if session.page == "results":
        rows = tuple(Row(one.asin, line(one.title), one.price_tag) for one in session.rows)
        return ResultsPage(session.number, len(session.hits), rows)
    if session.page == "done":
        return DonePage()
    assert product is not None
    if session.page == "sub_page":
        return SubPage(session.sub_page, tuple(filter(None, map(line, _sub_page_texts(session)))))
    options = ((label(name), tuple(filter(None, map(label, values)))) for name, values in product.options.items())
    chosen = [(name, session.options[name]) for name in product.options if name in session.options]
    return ItemPage(
        title=line(product.title),
        price=product.price_tag,
        rating=product.rating,
        options=tuple((name, values) for name, values in options if values),
        chosen=tuple((label(name), label(value)) for name, value in chosen),
        sub_pages=session.sub_pages,
    )


def line(text: str) -> str:
    """One line with single spaces."""
    return " ".join(text.split())


def simple_text(session: Session) -> str:
    """The original's `text` observation: all visible texts joined by ` [SEP] `."""
    return " [SEP] ".join(text.strip() for text, _ in _pieces(session))


def rich_text(session: Session) -> str:
    """The original's `text_rich` observation: a line for each text, clickables between markers."""
    body, clicked_first = "", ""
    address = _address(session)
    for text, kind in _pieces(session):
        if kind == "option":
            clicked = f'"{text}"' in address
            if clicked:
                clicked_first = f"You have clicked {text}.\n" + clicked_first
            body += "  " + _marked(text, clicked) + "\n"
        elif kind == "product":
            body += "\n" + _marked(text, text in session.visited) + "\n"
        else:
            body += (_marked(text, False) if kind == "button" else text) + "\n"
    return clicked_first + body


def _marked(text: str, clicked: bool) -> str:
    name = "clicked button" if clicked else "button"
    return f"[{name}] {text} [{name}_]"


def _address(session: Session) -> str:
    """The part of the original's page address in which it looks for chosen options."""
    return f"{'+'.join(session.keywords)}/{session.number}/{json.dumps(session.options)}"


def _pieces(session: Session) -> Iterator[Piece]:
    """The visible texts of the original's page, in order. Blank ones are left out as its HTML parser does it: a blank
    text becomes one space, or vanishes where it has a line break."""
    for text, kind in _raw_pieces(session):
        if text.strip(" \n\t\f\r"):
            yield text, kind
        elif text and "\n" not in text:
            yield " ", kind


def _raw_pieces(session: Session) -> Iterator[Piece]:
    instruction = session.goal.instruction
    if session.page == "search":
        yield from _texts("WebShop", "Instruction: ", instruction)
        yield "Search", "button"
        return
    if session.page == "done":
        yield from _texts(*_done_texts(session))
        return
    yield from _texts("Instruction:", instruction)
    yield BACK, "button"
    if session.page == "results":
        yield from _result_pieces(session)
    else:
        yield PREV, "button"
        yield from _item_pieces(session) if session.page == "item" else _texts(*_sub_page_texts(session))


def _texts(*texts: str) -> Iterator[Piece]:
    return ((text, "text") for text in texts)


def _result_pieces(session: Session) -> Iterator[Piece]:
    yield f"Page {session.number} (Total results: {len(session.hits)})", "text"
    if session.number > 1:
        yield PREV, "button"
    yield NEXT, "button"
    for product in session.rows:
        yield product.asin, "product"
        yield from _texts(product.title, product.price_tag)


def _item_pieces(session: Session) -> Iterator[Piece]:
    product = session.product
    assert product is not None
    for name, values in product.options.items():
        yield name, "text"
        for value in values:
            yield value, "option"
    yield from _texts(product.title, f"Price: {product.price_tag}", f"Rating: {product.rating}")
    for button in (*session.sub_pages, BUY):
        yield button, "button"


def _sub_page_texts(session: Session) -> list[str]:
    product = session.product
    assert product is not None
    match session.sub_page:
        case "Description":
            return [product.description]
        case "Features":
            return [f" {point}" for point in product.bullet_points]
        case "Attributes":
            attributes = [f" {attribute}" for attribute in product.attributes]
            return [*attributes, product.category, product.query, product.product_category]
        case _:
            return []


def _done_texts(session: Session) -> list[str]:
    """The original's last page shows a form for crowd workers, most of it empty."""
    assert session.product is not None
    assert session.purchase is not None
    options = json.dumps(session.options, sort_keys=True)
    for character in "<>&'":
        options = options.replace(character, f"\\u{ord(character):04x}")
    bought = ["asin", session.product.asin, "options", options, "attrs", "None"]
    bought += ["category", "None", "query", "None", "product category", "None"]
    target = ["asin", "options", "attrs", "price upper", "instuction text", "category", "product category", "query"]
    thanks = ["Thank you for shopping with us!", "Your code: ", "None", " (Paste it in your MTurk interface.)"]
    score = ["Your score (min 0.0, max 1.0)", str(session.purchase.score), "Reward Details ", "None"]
    return [*thanks, "Purchased", *bought, "Target", *target, "Goal ", "None", "Reward", *score]
