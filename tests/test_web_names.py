"""Elements named in words instead of numbers: by role and name, and by the row that they stand in."""

from __future__ import annotations

from typing import Any

import pytest
from dreamed_shop import Scripted
from test_web_dream import HOME, ISSUES, PROJECT
from test_webarena_local import browser
from web_browser import make_local

from dreamgym_env.domains.web import MINIWOB, WEBARENA
from dreamgym_env.dream import begin, step_all
from dreamgym_env.experience_model import ExperienceConfig, ExperienceModel
from dreamgym_env.prompts import answer
from dreamgym_env.trainers.sft_data import named
from dreamgym_env.types import Task, Trajectory, Transition

ORDERS = """Page: 'My Orders'
URL: http://onestopmarket.com/orders
[1] link 'Home'
row 'Order | Date'
row '000000170 | Box of 000000180'
[2] link 'View'
[3] button 'Cancel' disabled
row '000000180 | Lamp'
[4] link 'View'
[5] button 'Cancel'
[6] link 'Terms of Use'
[7] combobox 'Sort by' value='Date' options=['Date', 'Sum'] collapsed
[8] textbox 'Search'"""


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("click('link Home')", "click('1')"),
        ("click('link View')", "click('2')"),
        ("click('link View of 000000180')", "click('4')"),
        ("click('link View of Box')", "click('2')"),
        ("click('link Terms of Use')", "click('6')"),
        ("click('button Cancel')", "click('5')"),
        ("fill('textbox Search', 'lamp of oak')", "fill('8', 'lamp of oak')"),
        ("select_option('combobox Sort by', 'Sum')", "select_option('7', 'Sum')"),
        ("drag_and_drop('link Home', '6')", "drag_and_drop('1', '6')"),
        ("click('6')", "click('6')"),
        ("click('link Help')", "click('link Help')"),
        ("click('link View of 000000190')", "click('link View of 000000190')"),
        ("click('button Home')", "click('button Home')"),
        ("click('99')", "click('99')"),
        ("click('')", "click('')"),
        ("send_msg_to_user('link Home')", "send_msg_to_user('link Home')"),
    ],
)
def test_what_words_mean(said: str, meant: str) -> None:
    found = WEBARENA.parse_action(ORDERS, said)
    assert found is not None
    assert found.text == meant


def test_words_are_found_again() -> None:
    for number, words in {
        "1": "link Home",
        "2": "link View",
        "3": "3",  # nothing finds a disabled element
        "4": "link View of 000000180",
        "5": "button Cancel",
        "6": "link Terms of Use",
    }.items():
        assert WEBARENA.by_name(ORDERS, f"click('{number}')") == f"click('{words}')"
    assert WEBARENA.by_name(ORDERS, "fill('8', 'x')") == "fill('textbox Search', 'x')"
    for same in ("click('99')", "go_back()", "press enter", "send_msg_to_user('1')"):
        assert WEBARENA.by_name(ORDERS, same) == same
    assert WEBARENA.by_name("no page", "click('1')") == "click('1')"
    assert MINIWOB.by_name(ORDERS, "click('1')") == "click('link Home')"


def test_a_dream_hears_words() -> None:
    model = ExperienceModel(
        Scripted(lambda *_: answer("why", PROJECT, 0.0, False)), WEBARENA, None, ExperienceConfig(1)
    )
    dream = begin(Task("t", "webarena", "Open it.", HOME))
    ((state, _, _, _, info),) = step_all(model, [dream], ["click('link tidepool')"], 30)
    assert (state, info["possible"], dream.transitions[0].action) == (PROJECT, True, "click('4')")
    ((state, _, _, _, info),) = step_all(model, [dream], ["click('link nobody')"], 30)
    assert (state, info["possible"], dream.transitions[1].action) == (PROJECT, False, "click('link nobody')")


def test_demonstrations_in_words() -> None:
    task = Task("t", "webarena", "Open it.", HOME)
    steps = (
        Transition(task, 0, HOME, "click('4')", ISSUES, thought="click link tidepool"),
        Transition(task, 1, ISSUES, "send_msg_to_user('Done.')", ISSUES, 1.0, True, thought="text 'Jobs'"),
    )
    found = named(Trajectory(task, steps, "success"), WEBARENA)
    assert [(one.thought, one.action) for one in found.transitions] == [
        ("click link tidepool", "click('link tidepool')"),
        ("text 'Jobs'", "send_msg_to_user('Done.')"),
    ]
    assert named(found, object()) is found  # type: ignore[arg-type]


@browser
def test_the_browser_hears_words() -> None:
    env: Any = make_local().unwrapped
    env.reset(options={"task_id": "local-108"})
    state, _, _, _, info = env.step("click('link cobblestone')")
    assert "URL: http://gitlab.com/cobblestone" in state
    assert info["possible"]
    assert env.transitions[-1].action == "click('4')"
    assert not env.step("click('link nobody')")[4]["possible"]
    env.close()
