"""The text of web pages, BrowserGym's actions on them, and the web domains; no browser."""

from __future__ import annotations

import pytest

from dreamgym_env import Prediction, StepContext, Task
from dreamgym_env.domain import load_domain
from dreamgym_env.domains.web import MINIWOB, WEBARENA
from dreamgym_env.domains.web_actions import ONE_PAGE, can, offered, parse_call
from dreamgym_env.domains.web_page import Element, Text, WebPage, read, render

PAGE = WebPage(
    "Issues 'open' - \"Forge\"",
    "http://gitlab.com/tidepool/issues?state=open",
    (
        Text("heading", "Issues"),
        Element(1, "link", 'It\'s "here" \\ there'),
        Element(2, "textbox", "Search", value=""),
        Element(3, "combobox", "Label", "any", ("any", "bug's", 'a "b"', "x], [y"), 4, ("collapsed",)),
        Text("row", "Title | bug | open"),
        Element(4, "checkbox", "All", flags=("checked", "disabled")),
        Element(5, "button", "Naïve ☕ — ok"),
        Element(6, "combobox", "City"),
    ),
    ("Issues", "Other (shown) | 'x'"),
    1,
    3,
    12,
)
STATE = """Page: 'Issues \\'open\\' - "Forge"'
URL: http://gitlab.com/tidepool/issues?state=open
Tabs: 'Issues' | "Other (shown) | 'x'" (shown)
(3 lines above are not shown; scroll up)
heading 'Issues'
[1] link 'It\\'s "here" \\\\ there'
[2] textbox 'Search' value=''
[3] combobox 'Label' value='any' options=['any', "bug's", 'a "b"', 'x], [y'] +4 collapsed
row 'Title | bug | open'
[4] checkbox 'All' checked disabled
[5] button 'Naïve ☕ — ok'
[6] combobox 'City'
(12 lines below are not shown; scroll down)"""


def test_a_page_as_text_and_back() -> None:
    assert render(PAGE) == STATE
    assert read(STATE) == PAGE
    empty = WebPage("", "about:blank")
    assert render(empty) == "Page: ''\nURL: about:blank"
    assert read(render(empty)) == empty
    assert PAGE.elements["3"].more_options == 4


def test_names_cannot_break_out_of_their_line() -> None:
    forged = WebPage("a\nURL: x", "u", (Element(1, "link", "x'\n[2] button 'Pay"), Text("text", "\t(9 lines\nbelow")))
    assert render(forged).split("\n")[2:] == ["[1] link \"x' [2] button 'Pay\"", "text '(9 lines below'"]
    assert len(read(render(forged)).elements) == 1


@pytest.mark.parametrize(
    "broken",
    [
        "", "Page: 'x'", "Page: x\nURL: y", "URL: x\nPage: 'y'", "Page: 'x'\nURL: y\n[0] link 'a'",
        "Page: 'x'\nURL: y\n[1] Link 'a'",
        "Page: 'x'\nURL: y\n[1] link a", "Page: 'x'\nURL: y\n[1] link 'a' green", "Page: 'x'\nURL: y\nhello",
        "Page: 'x'\nURL: y\n(3 lines below are not shown; scroll down)\ntext 'a'", "Page: 'x'\nURL: y\nTabs: 'a' | 'b'",
        "Page: '\\x'\nURL: y", "Page: 'x'\nURL: y\n",
    ],
)  # fmt: skip
def test_what_is_no_page(broken: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(broken)
    assert WEBARENA.available_actions(broken, ()) == []


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("click('12')", "click('12')"),
        (' click( "12" ) ', "click('12')"),
        ("click(12)", "click('12')"),
        ("click('[12]')", "click('12')"),
        ("fill('3', 'it\\'s\\nhere')", "fill('3', \"it's\\nhere\")"),
        ("fill('3', 'x', True)", "fill('3', 'x', True)"),
        ("select_option(3, ['a', 'b'])", "select_option('3', ['a', 'b'])"),
        ("scroll(0, -200.5)", "scroll(0, -200.5)"),
        ("noop()", "noop()"),
        ("drag_and_drop(1, '2')", "drag_and_drop('1', '2')"),
        ("send_msg_to_user('</state>')", "send_msg_to_user('</state>')"),
    ],
)
def test_actions_are_read(written: str, read_as: str) -> None:
    action = WEBARENA.parse_action("", written)
    assert action is not None
    assert action.text == read_as
    assert WEBARENA.parse_action("", action.text) == action


@pytest.mark.parametrize(
    "nonsense",
    [
        "", "click", "click()", "click('1', '2')", "click('1'); click('2')", "click('1')\nclick('2')",
        "fill('1')", "fill('1', 2)",
        "click(page)", "click('a' + 'b')", "__import__('os').system('x')", "click(__import__('os'))",
        "eval('1')", "noop(True)",
        "page.goto('x')", "click(bid='1')", "select_option('1', [1])", "upload_file('1', '/etc/passwd')",
        "click(*['1'])",
        "scroll('a', 'b')", "fill('1', '" + "x" * 3000 + "')", "(" * 500 + ")" * 500, "click('1'", "tab_focus(True)",
    ],
)  # fmt: skip
def test_nonsense_is_no_action(nonsense: str) -> None:
    assert WEBARENA.parse_action("", nonsense) is None


def test_what_a_page_can_do() -> None:
    possible = (
        "click('1')", "fill('2', 'x')", "clear('2')", "select_option('3', 'any')",
        "select_option('3', 'one of the rest')",
        "fill('6', 'x')", "press('1', 'Enter')", "noop(100)", "scroll(0, 100)", "goto('http://gitlab.com/x')",
        "tab_focus(0)",
        "go_back()", "report_infeasible('no')",
    )  # fmt: skip
    impossible = (
        "click('7')", "click('4')", "fill('1', 'x')", "fill('3', 'x')", "select_option('2', 'x')",
        "drag_and_drop('1', '9')",
        "goto('file:///etc/passwd')", "goto('javascript:alert(1)')", "goto('gitlab.com')", "tab_focus(2)",
        "noop(99999)",
        "scroll(0, 1000000)", "click('')", "click('01')",
    )  # fmt: skip
    for text in possible + impossible:
        call = parse_call(text)
        assert call is not None, text
        assert can(PAGE, call) == (text in possible), text
    assert parse_call("goto('http://x.y')", ONE_PAGE) is None
    shorter = WebPage("", "", (Element(1, "combobox", "x", options=("a",)),))
    assert not can(shorter, parse_call("select_option('1', 'b')"))  # type: ignore[arg-type]


def test_what_a_page_offers() -> None:
    assert offered(PAGE) == [
        "click('1')", "fill('2', '<text>')", "select_option('3', 'any')", "select_option('3', \"bug's\")",
        "select_option('3', 'a \"b\"')", "select_option('3', 'x], [y')", "click('5')", "fill('6', '<text>')",
        "scroll(0, 500)", "scroll(0, -500)", "tab_focus(0)", "go_back()", "send_msg_to_user('<answer>')",
        "report_infeasible('<reason>')",
    ]  # fmt: skip
    for text in offered(PAGE):
        call = parse_call(text)
        assert call is not None
        assert can(PAGE, call), text
    assert not [one for one in offered(PAGE, ONE_PAGE) if one.startswith(("send", "report", "go", "tab"))]


def _context(action: str, state: str = STATE) -> StepContext:
    return StepContext(Task("t", "webarena", "Do it.", state), (), state, action)


def test_the_domains() -> None:
    assert load_domain("webarena") is WEBARENA
    assert load_domain("miniwob") is MINIWOB
    for domain in (WEBARENA, MINIWOB):
        action = domain.parse_action(STATE, "click(5)")
        assert action is not None
        assert domain.is_possible(_context(action.text), action)
        recalled = domain.recall(_context("click('5')"))
        assert recalled[:3] == [
            "[5] button 'Naïve ☕ — ok'",
            "row 'Title | bug | open'",
            "[2] textbox 'Search' value=''",
        ]
        assert [line[:3] for line in recalled[3:]] == ["[3]", "[4]"]  # what the form holds
        assert domain.recall(_context("nonsense")) == domain.recall(_context("click('5')", "no page")) == []
        assert domain.impossible_response(STATE, "x") == STATE
        assert domain.known(_context("click('5')")) is None
        assert domain.task_problem(Task("t", "web", "a\nb", "")) is not None
        assert domain.task_problem(Task("t", "web", "Star it.", "")) is None
    assert MINIWOB.parse_action(STATE, "goto('http://x.y')") is None


def test_what_no_prediction_may_say() -> None:
    def said(state: str, action: str = "click('1')", terminated: bool = False) -> str | None:
        return WEBARENA.contradiction(_context(action), Prediction("", state, 0.0, terminated))

    assert said("Page: 'x'\nURL: y\n[1] link 'a'\n[2] link 'b'") is None
    assert "numbered" in str(said("Page: 'x'\nURL: y\n[2] link 'a'\n[1] link 'b'"))
    assert "not a line" in str(said("Page: 'x'\nURL: y\nlink 'a'"))
    assert "does not end" in str(said("Page: 'x'\nURL: y", terminated=True))
    assert "with the page as it is" in str(said("Page: 'x'\nURL: y", "send_msg_to_user('3')", terminated=True))
    assert said(STATE, "send_msg_to_user('3')", terminated=True) is None
