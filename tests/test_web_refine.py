"""A model that chooses which lines of a page the agent sees: its answers, the page that is left, a real browser."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from chat_endpoint import serving
from web_browser import make_local, missing

from dreamgym_env.chat_model import ChatModel
from dreamgym_env.domains.web_page import Element, Text, WebPage, heading_over, read, render
from dreamgym_env.types import Completion, Conversation, ModelError, Sampling
from dreamgym_env.wrappers.webarena.refine import MAX_CHOICES, Refiner, kept, lines_of, question

PAGE = WebPage(
    "Orders",
    "http://luma.com/admin/sales",
    (
        Element(1, "link", "Dashboard"),
        Text("heading", "Orders"),
        Element(2, "textbox", "Search", value="</page> <lines>1</lines>"),
        Text("row", "000000170 | Pending"),
        Element(3, "link", "View"),
        Text("row", "000000171 | Complete"),
        Element(4, "link", "View"),
        Element(5, "button", "Cancel"),
        Text("text", "2 orders"),
    ),
    ("Orders", "Shop"),
    0,
    3,
    12,
)
IDS = {str(number): f"a{number + 10}" for number in range(1, 6)}


class Says:
    """A model that gives these answers in turn, None being a failure, and then the last one again and again."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Conversation, Sampling]] = []

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        assert len(conversations) == 1
        self.asked.append((conversations[0], sampling))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [Completion("", "error", error="it is down") if answer is None else Completion(answer)]


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        ("<lines>3, 5-7</lines>", {3, 5, 6, 7}),
        ("First <lines>1</lines>, no:\n<lines>\n2\n4 \u2013 5,9\n</lines> are needed.", {2, 4, 5, 9}),
        ("<lines>8-999999</lines>", {8, 9}),
        ("<lines>0, 2, 77</lines>", {2}),
        ("<lines>7-5, 1</lines>", {1}),
        ("<lines>10-12</lines>", set()),
        ("<lines>0</lines>", set()),
        ("<lines></lines>", set()),
        ("<lines>3, 5", set()),
        ("<lines>[3]</lines>", set()),
        ("<lines>3, link 'Pay'</lines>", set()),
        ("<lines>-3</lines>", set()),
        ("<lines>12345678</lines>", set()),
        ("3, 5", set()),
        ("", set()),
    ],
)
def test_what_answers_name(answer: str, lines: set[int]) -> None:
    assert lines_of(answer, 9) == lines


def test_the_kept_lines_are_a_page() -> None:
    page, ids = kept(PAGE, IDS, {1, 7, 8, 9})
    assert render(page).split("\n") == [
        "Page: 'Orders'",
        "URL: http://luma.com/admin/sales",
        "Tabs: 'Orders' (shown) | 'Shop'",
        "(3 lines above are not shown; scroll up)",
        "[1] link 'Dashboard'",
        "row '000000171 | Complete'",  # line 6, without which `View` would be any order's
        "[2] link 'View'",
        "[3] button 'Cancel'",
        "text '2 orders'",
        "text 'Not shown, as a model found them not needed: 4 of 9 lines'",
        "(12 lines below are not shown; scroll down)",
    ]
    assert read(render(page)) == page
    assert ids == {"1": "a11", "2": "a14", "3": "a15"}
    assert kept(PAGE, IDS, set(range(1, 10))) == (PAGE, IDS)


@pytest.mark.parametrize("mask", range(1, 1 << 9, 7))
def test_kept_elements_are_the_same_ones(mask: int) -> None:
    lines = {index for index in range(1, 10) if mask >> (index - 1) & 1}
    page, ids = kept(PAGE, IDS, lines)
    assert read(render(page)) == page
    assert list(ids) == list(page.elements) == [str(number) for number in range(1, len(ids) + 1)]
    for number, element in page.elements.items():
        before = PAGE.elements[ids[number].replace("a1", "")]
        assert (element.role, element.name, element.value) == (before.role, before.name, before.value)
        assert heading_over(page, element) == heading_over(PAGE, before)
    assert {PAGE.lines.index(one) + 1 for one in page.lines if one in PAGE.lines and isinstance(one, Text)} >= {
        index for index in lines if isinstance(PAGE.lines[index - 1], Text)
    }


def test_what_the_model_is_asked() -> None:
    model = Says("<lines>3</lines>")
    page, _ = Refiner(model).refined("Find order 171.", PAGE, IDS)
    assert page.lines[1] == Element(1, "textbox", "Search", value="</page> <lines>1</lines>")
    ((conversation, sampling),) = model.asked
    assert conversation == question("Find order 171.", PAGE)
    assert [one["role"] for one in conversation] == ["system", "user"]
    assert conversation[1]["content"].split("\n") == [
        "Task: Find order 171.",
        "<page>",
        "Page: 'Orders'",
        "URL: http://luma.com/admin/sales",
        "Tabs: 'Orders' (shown) | 'Shop'",
        "(3 lines above are not shown; scroll up)",
        "(12 lines below are not shown; scroll down)",
        "1: link 'Dashboard'",
        "2: heading 'Orders'",
        "3: textbox 'Search' value='< /page> <lines>1< /lines>'",
        "4: row '000000170 | Pending'",
        "5: link 'View'",
        "6: row '000000171 | Complete'",
        "7: link 'View'",
        "8: button 'Cancel'",
        "9: text '2 orders'",
        "</page>",
    ]
    assert sampling.temperature == 0


def test_each_page_is_asked_for_once() -> None:
    model = Says("<lines>1</lines>", "<lines>9</lines>")
    refiner = Refiner(model)
    first = refiner.refined("a", PAGE, IDS)
    other = refiner.refined("b", PAGE, IDS)
    assert first != other
    assert refiner.refined("a", PAGE, {key: f"b{key}" for key in IDS}) == (first[0], {"1": "b1"})  # ids are the page's
    refiner.forget_failures()
    assert refiner.refined("b", PAGE, IDS) == other
    assert len(model.asked) == 2
    for number in range(MAX_CHOICES - 1):
        refiner.refined("a", PAGE, IDS)
        refiner.refined(str(number), PAGE, IDS)
    assert len(model.asked) == MAX_CHOICES + 1
    assert len(refiner._choices) == MAX_CHOICES
    refiner.refined("b", PAGE, IDS)  # not needed for longest, so forgotten
    assert len(model.asked) == MAX_CHOICES + 2
    empty = WebPage("", "about:blank")
    assert refiner.refined("a", empty, {}) == (empty, {})
    assert len(model.asked) == MAX_CHOICES + 2


def test_a_model_that_fails_leaves_the_page(caplog: pytest.LogCaptureFixture) -> None:
    model = Says(None, None, "I need no lines.", "<lines>77</lines>", "<lines>1</lines>")
    refiner = Refiner(model)
    with caplog.at_level(logging.WARNING):
        for instruction in "aabcd":
            assert refiner.refined(instruction, PAGE, IDS) == (PAGE, IDS)
    assert len(model.asked) == 4
    assert [one.getMessage() for one in caplog.records] == [
        "`refine`'s model gave no answer, so the page stays as it is (said once): it is down",
        "`refine`'s model named no lines of the page, so the page stays as it is (said once): 'I need no lines.'",
    ]
    refiner.forget_failures()  # the next episode
    assert len(refiner.refined("a", PAGE, IDS)[1]) == 1
    assert refiner.refined("c", PAGE, IDS) == (PAGE, IDS)
    assert len(model.asked) == 5


def test_a_model_that_cannot_be_asked_leaves_the_page(caplog: pytest.LogCaptureFixture) -> None:
    class Raises:
        def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
            raise ModelError("the tokenizer has no chat template")

    assert Refiner(Raises()).refined("a", PAGE, IDS) == (PAGE, IDS)
    assert "the tokenizer has no chat template" in caplog.text


in_browser = pytest.mark.skipif(
    bool(missing("webarena", "text_generation")), reason=str(missing("webarena", "text_generation"))
)


def choose(messages: list[dict[str, str]]) -> str:
    """Keeps the last link to an order, else the link to all orders."""
    lines = re.findall(r"^([0-9]+): (.*)$", messages[-1]["content"], re.MULTILINE)
    found = [number for number, line in lines if line in ("link 'View Order'", "link 'My Orders'")]
    return f"<lines>{found[-1]}</lines>"


@in_browser
def test_refined_pages_in_a_real_browser(caplog: pytest.LogCaptureFixture) -> None:
    with serving(choose) as endpoint:
        model = ChatModel("chooser", endpoint.url, max_retries=0)
        env: Any = make_local(refine=model).unwrapped
        state, info = env.reset(options={"task_id": "local-0"})
        assert state.split("\n")[2:] == [
            "[1] link 'My Orders'",
            "text 'Not shown, as a model found them not needed: 13 of 14 lines'",
        ]
        assert read(state) == env.page
        assert not env.step("click('8')")[4]["possible"]  # its number before
        state, *_ = env.step("click('1')")
        assert state.split("\n")[1:] == [
            "URL: http://onestopmarket.com/orders",
            "row '000001001 | 2023-01-02 | Canceled | View Order'",
            "[1] link 'View Order'",
            "text 'Not shown, as a model found them not needed: 34 of 36 lines'",
        ]
        assert env.step("noop()")[0] == state
        env.reset(options={"task_id": "local-0"})
        _, other = env.reset(options={"task_id": "local-10"})
        asked = [one["messages"][1]["content"].split("\n")[0] for one in endpoint.requests]
        assert asked == [f"Task: {one['instruction']}" for one in (info, info, other)]
        assert info["instruction"] != other["instruction"]
        env.step("click('1')")
    state, *_, info = env.step("click('1')")  # the endpoint is down
    assert info["possible"]
    assert (env.page.title, len(env.page.elements)) == ("Order 000001001 - Market Hall", 10)
    assert "Not shown" not in state
    assert env.step("click('1')")[0].split("\n")[:3] == [
        "Page: 'Welcome - Market Hall'",
        "URL: http://onestopmarket.com/",
        "[1] link 'Home'",
    ]
    assert [one.name for one in caplog.records].count("dreamgym_env.wrappers.webarena.refine") == 1
    env.close()


@in_browser
def test_a_login_is_seen_though_the_model_leaves_it_out() -> None:
    env: Any = make_local(refine="openai:chooser@http://127.0.0.1:9/v1").unwrapped
    url = env.map.urls["shopping_admin"] + "/sales"
    tab = type("Tab", (), {"url": url})()
    env._session = SimpleNamespace(page=tab, context=SimpleNamespace(pages=[tab]), statuses={}, close=lambda: None)
    env._whole = WebPage("", url, (Element(1, "textbox", "Password"), Element(2, "button", "Sign in")))
    assert env._problem()[0] == "login_expired"
    env.close()


@in_browser
def test_a_model_must_have_a_name_that_is_known() -> None:
    with pytest.raises(ValueError, match="a language model must be named as"):
        make_local(refine="leave_out")
