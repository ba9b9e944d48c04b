"""What other episodes tell a web dream: demonstrations of the same element, and pages that real links have led to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from dreamed_shop import Scripted
from test_web_dream import HOME, ISSUES, OPENED, PROFILE, PROJECT, STARRED, context

from dreamgym_env.domains.web import MINIWOB, WEBARENA
from dreamgym_env.experience_model import ExperienceConfig, ExperienceModel
from dreamgym_env.prompts import answer, as_told, user_turn
from dreamgym_env.replay_buffer import ReplayBuffer
from dreamgym_env.types import Prediction, StepContext, Task, Trajectory, Transition

TASK = Task("local-2", "webarena", "Open it.", HOME)
PAPERBOAT = PROJECT.replace("tidepool", "paperboat")
LINKS = [Transition(TASK, 0, HOME, "click('3')", PAPERBOAT), Transition(TASK, 1, HOME, "click('4')", PROJECT)]


def episode(number: int, step: Transition) -> Trajectory:
    return Trajectory(TASK, (step,), "time_limit", "crawler", f"crawler-{number}")


@pytest.fixture
def buffer() -> Iterator[ReplayBuffer]:
    with ReplayBuffer("memory", domain="webarena") as made:
        made.add([episode(number, one) for number, one in enumerate(LINKS)])
        yield made


def test_demonstrations_are_of_the_same_element_whatever_its_number(buffer: ReplayBuffer) -> None:
    """The buffer has both links of a page; in one of the queries the wanted one has the number of the other."""
    other = HOME.replace("[3] link 'paperboat'", "[3] link 'windrow'").replace("paperboat", "windrow")
    for page, action in ((other, "click('4')"), (other.replace("'windrow'", "'tidepool'"), "click('3')")):
        (found,) = buffer.retrieve([context("Open it.", page, action=action)], 1)
        assert found[0].transition.next_state == PROJECT
    shown = user_turn("click('3')", (), [as_told(WEBARENA, LINKS[0])])
    assert shown.split("\n")[1] == """Action: "click link 'paperboat' in 'paperboat | Notes | 376 stars'\""""


ASKED = context("Open it.", HOME, action="click('4')")


def witnessed(asked: StepContext, *seen: Transition) -> str | None:
    found = WEBARENA.witnessed(asked, seen)
    return found.next_state if found else None


def test_a_link_leads_to_what_it_led_others_to() -> None:
    trace = "click link 'tidepool' in 'tidepool | Jobs | 386 stars'; opens 'tidepool - Forgeworks'"
    assert WEBARENA.witnessed(ASKED, LINKS) == Prediction(trace, PROJECT, 0.0, False, attempts=0)
    changed = replace(LINKS[1], state=HOME.replace("386", "387"))
    assert witnessed(ASKED, changed) is None, "its row tells of another state of the site"
    searched = replace(LINKS[1], state=HOME.replace("gitlab.com", "gitlab.com?sort=Name"))
    assert witnessed(ASKED, searched) == PROJECT, "the same row, sorted otherwise"
    menu = context("Open it.", ISSUES, action="click('2')")
    assert witnessed(menu, Transition(TASK, 0, HOME, "click('2')", PROFILE)) == PROFILE, "a menu is the same everywhere"
    foreign = Transition(TASK, 0, HOME.replace("gitlab.com", "reddit.com"), "click('2')", PROFILE)
    assert witnessed(menu, foreign) is None


def test_addresses_and_scrolling_lead_alike_too() -> None:
    there = Transition(TASK, 0, PROFILE, "goto('http://gitlab.com/tidepool')", PROJECT)
    assert witnessed(replace(ASKED, action=there.action), there) == PROJECT
    assert witnessed(replace(ASKED, action="goto('http://gitlab.com/windrow')"), there) is None
    cut = f"{HOME}\n(9 lines below are not shown; scroll down)"
    rest = PROFILE.replace("profile\n", "profile\n(3 lines above are not shown; scroll up)\n")
    scrolled = Transition(TASK, 0, cut, "scroll(0, 500)", rest)
    asked = context("Open it.", cut, action="scroll(0, 500)")
    assert witnessed(asked, scrolled) == rest
    assert witnessed(replace(asked, action="scroll(0, 900)"), scrolled) is None
    assert witnessed(context("Open it.", cut.replace("9", "8"), action="scroll(0, 500)"), scrolled) is None


def test_nothing_is_taken_over_that_may_have_changed() -> None:
    other = replace(LINKS[1], next_state=STARRED)
    assert witnessed(ASKED, *LINKS, other) is None, "two episodes saw different pages"
    assert witnessed(ASKED, LINKS[0]) is None
    assert witnessed(ASKED) is None
    sent = context("Open it.", HOME, OPENED, ("click('3')", STARRED), ("click('1')", HOME), action="click('4')")
    assert witnessed(sent, *LINKS) is None, "the episode itself has changed something"
    assert witnessed(ASKED, replace(LINKS[1], terminated=True)) is None, "that episode ended there"
    pressed = Transition(TASK, 0, PROJECT, "click('3')", STARRED)
    assert witnessed(context("Star it.", HOME, OPENED, action="click('3')"), pressed) == STARRED
    elsewhere = replace(pressed, state=PROJECT.replace("386", "387"))
    assert witnessed(context("Star it.", HOME, OPENED, action="click('3')"), elsewhere) is None, "not this very page"
    assert witnessed(replace(ASKED, action="hover('4')"), *LINKS) is None
    assert witnessed(replace(ASKED, action="click('44')"), *LINKS) is None
    assert MINIWOB.witnessed(context("Open it.", HOME, action="click('4')", domain=MINIWOB), LINKS) is None


@pytest.mark.parametrize("use_witnesses", [True, False])
def test_the_model_is_asked_for_the_rest(buffer: ReplayBuffer, use_witnesses: bool) -> None:
    said = Scripted(lambda *_: answer("why", ISSUES, 0.0, False))
    model = ExperienceModel(said, WEBARENA, buffer, ExperienceConfig(1, use_witnesses=use_witnesses))
    unseen = context("Open it.", HOME, action="click('2')")
    found = model.predict([ASKED, unseen])
    assert all(isinstance(one, Prediction) for one in found)
    states = [one.next_state for one in found if isinstance(one, Prediction)]
    assert states == [PROJECT if use_witnesses else ISSUES, ISSUES]
    assert model.counts["witnessed"] == use_witnesses
    assert model.counts["completions"] == 2 - use_witnesses
    first = found[0]
    assert isinstance(first, Prediction)
    assert first.demonstration_ids == ("crawler-1:1",)
    assert "Similar steps" in first.prompt


def test_dreams_are_no_witnesses() -> None:
    with ReplayBuffer("memory", domain="webarena", real_quota=0) as grown:
        grown.add([episode(number, replace(one, source="dream")) for number, one in enumerate(LINKS)])
        said = Scripted(lambda *_: answer("why", ISSUES, 0.0, False))
        model = ExperienceModel(said, WEBARENA, grown, ExperienceConfig(1))
        (found,) = model.predict([ASKED])
    assert isinstance(found, Prediction)
    assert (found.next_state, model.counts["witnessed"]) == (ISSUES, 0)
