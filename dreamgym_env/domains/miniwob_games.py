"""MiniWoB's tasks whose pages text explains: the form of each instruction, what it asks for, and what ends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dreamgym_env.domains.miniwob_aims import (
    Aim,
    Closes,
    Found,
    click_behind,
    click_named,
    click_tab,
    click_test,
    click_widget,
    collapsible,
    contact,
    detail,
    focus,
    named_so,
    role,
    submits,
    submits_or_covers,
    ticket,
    trash,
    tree,
    tree_ends,
)
from dreamgym_env.domains.miniwob_forms import (
    arithmetic,
    boxes,
    choose,
    choose_and_click,
    enter,
    equation,
    generated,
    letters,
    login,
    movie,
    option,
    radio_and_box,
    spinner,
    table,
    word,
)
from dreamgym_env.domains.web_page import WebPage


@dataclass(frozen=True)
class Game:
    """One of MiniWoB's tasks. `instruction`: a regular expression of all of it, whose groups are what is asked for.
    `closes`: whether a click on the element ends the episode, None where the page does not tell. `form`: typing,
    choosing and marking change nothing but the element itself. `most`: it is enough that more wants are met than not.
    `touch`: any action on such an element ends the episode, not a click alone."""

    instruction: str
    aim: Callable[[WebPage, Found], Aim]
    closes: Closes
    form: bool = False
    most: bool = False
    touch: bool = False


_QUOTED = r'"(.+)"'


GAMES = {
    "click-test": Game(r"Click the button\.", click_test, role("button")),
    "click-test-2": Game(r"Click button (ONE)\.", click_named("button"), role("button")),
    "click-test-transfer": Game(r"Click button (ONE)\.", click_named("button"), role("button")),
    "click-button": Game(rf"Click on the {_QUOTED} button\.", click_named("button"), role("button")),
    "unicode-test": Game(rf"Click on the {_QUOTED} button\.", click_named("button"), role("button")),
    "click-link": Game(rf"Click on the link {_QUOTED}\.", click_named("clickable"), role("clickable")),
    "click-dialog": Game(r'Close the dialog box by clicking the "(x)"\.', click_named("button"), role("button")),
    "click-dialog-2": Game(
        rf"Click the button in the dialog box labeled {_QUOTED}\.", click_named("button"), role("button")
    ),
    "click-tab": Game(r"Click on (Tab #\d)\.", click_tab, role("link", "tab")),
    "click-tab-2": Game(
        rf"Switch between the tabs to find and click on the link {_QUOTED}\.", click_behind, role("clickable")
    ),
    "click-collapsible-2": Game(
        rf"Expand the sections below, to find and click on the link {_QUOTED}\.", click_behind, role("clickable")
    ),
    "click-widget": Game(
        r'Click on a "(\w+)" widget\.', click_widget, role("clickable", "button", "radio", "checkbox", "textbox")
    ),
    "focus-text": Game(r"Focus into the()? ?textbox\.", focus, role("textbox"), touch=True),
    "focus-text-2": Game(r"Focus into the (\d)\w\w input textbox\.", focus, role("textbox"), touch=True),
    "click-collapsible": Game(r"Expand the section below and click submit\.", collapsible, submits_or_covers),
    "navigate-tree": Game(rf".*Find and click on the folder or file named {_QUOTED}\.", tree, tree_ends),
    "enter-text": Game(rf"Enter {_QUOTED} into the text field and press Submit\.", enter, submits, form=True),
    "enter-text-dynamic": Game(rf"Enter {_QUOTED} into the text field and press Submit\.", enter, submits, form=True),
    "enter-password": Game(
        rf"Enter the password {_QUOTED} into both text fields and press submit\.", enter, submits, form=True
    ),
    "login-user": Game(
        r'Enter the username "(.+)" and the password "(.+)" into the text fields and press login\.',
        login,
        submits,
        form=True,
    ),
    "click-checkboxes": Game(r"Select (.+) and click Submit\.", boxes, submits, form=True, most=True),
    "click-checkboxes-transfer": Game(r"Select (.+) and click Submit\.", boxes, submits, form=True, most=True),
    "click-checkboxes-large": Game(r"Select (.+) and click Submit\.", boxes, submits, form=True, most=True),
    "click-option": Game(r"Select (.+) and click Submit\.", option, submits, form=True),
    "choose-list": Game(r"Select (.+) from the list and click Submit\.", choose, submits, form=True),
    "read-table": Game(r"Enter the value of (.+) into the text field and press Submit\.", table, submits, form=True),
    "simple-arithmetic": Game(r"Solve the math problem .*", arithmetic, submits, form=True),
    "simple-algebra": Game(r"Solve for x .*", equation, submits, form=True),
    "text-transform": Game(r"Type the text below .*", letters, submits, form=True),
    "find-word": Game(r"Find the (\d+)\w\w word in the paragraph.*", word, submits, form=True),
    "multi-orderings": Game(r"Search for (\w+) movies directed by (\w+) from year (\d+)\.", movie, submits, form=True),
    "form-sequence-2": Game(
        r'Check the (\d)\w\w radio button and enter the number "(-?\d+)" into the (\d)\w\w textbox\.',
        radio_and_box,
        submits,
        form=True,
    ),
    "form-sequence-3": Game(
        rf"Choose (.+) from the dropdown, then click the button labeled {_QUOTED}\.", choose_and_click, role("button")
    ),
    "generate-number": Game(
        r"Generate (?:a number (less than|greater than) (\d+)|an (odd|even) number), then press submit\.",
        generated,
        submits,
        form=True,
    ),
    "use-spinner": Game(r"Select (-?\d+) with the spinner and hit Submit\.", spinner, submits, form=True),
    "email-inbox-delete": Game(
        r"Find the email by (\w+) and click the trash icon to delete it\.",
        trash,
        named_so(".trash", "#send-reply", "#send-forward"),
    ),
    "buy-ticket": Game(
        r"Buy the ticket with the (cheapest|most expensive|shortest|longest) \w+\.", ticket, role("button")
    ),
    "phone-book": Game(
        r"Find (\w+) in the contact book and click on their (phone|email|address)[\w ]*\.", contact, detail
    ),
}
"""By the name in the page's address."""
PLAIN = (
    "click-test", "click-test-2", "click-test-transfer", "click-widget", "focus-text", "focus-text-2",
    "enter-text-dynamic", "enter-password", "click-checkboxes", "click-checkboxes-transfer", "click-checkboxes-large",
    "click-option", "simple-arithmetic", "simple-algebra", "text-transform", "form-sequence-2", "form-sequence-3",
    "generate-number", "use-spinner", "buy-ticket",
)  # fmt: skip
"""Those whose pages show labels, numbers and letters drawn at random alone, and nothing of MiniWoB's lists of words."""
