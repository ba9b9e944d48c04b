"""Scripted agents on web pages that read texts alone: against real episodes of oracles, and by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from dreamed_pages import recorded
from test_web_dream import BUTTONS, LOGIN, LOGIN_TASK, TABS, context

from dreamgym_env.domains.web import MINIWOB, WEBARENA
from dreamgym_env.types import Task, Transition
from dreamgym_env.wrappers.webarena.local.reader import SiteReader
from dreamgym_env.wrappers.webarena.miniwob_reader import MiniWoBReader, demonstrator


def test_the_site_reader_does_what_the_oracle_did() -> None:
    reader, steps = SiteReader(0.0, 0), 0
    for episode in [one for one in recorded("webarena") if one.policy == "oracle"][:40]:
        for index, step in enumerate(episode.transitions):
            assert reader.act(episode.task, step.state, (), episode.transitions[:index]) == step.action
            steps += 1
    assert steps > 100


def test_the_site_reader_goes_on_after_a_slip() -> None:
    reader = SiteReader(0.0, 0)
    for episode in [one for one in recorded("webarena") if one.policy.startswith("slips") and one.success][:20]:
        again = [
            index for index, step in enumerate(episode.transitions)
            if reader.act(episode.task, step.state, (), episode.transitions[:index]) == step.action
        ]  # fmt: skip
        assert len(again) > 0.3 * len(episode.transitions)
        assert again[-1] == len(episode.transitions) - 1


def test_slips_are_what_the_page_offers_or_impossible() -> None:
    episode = recorded("webarena")[0]
    state = episode.task.initial_state
    offered = WEBARENA.available_actions(state, ())
    drawn = Counter(SiteReader(1.0, seed).act(episode.task, state, offered, ()) for seed in range(200))
    here = [action for action in drawn if WEBARENA.available_actions(state, ()).count(action)]
    assert len(here) >= 4
    assert drawn["send_msg_to_user('Done.')"] < 40
    assert SiteReader(0.0, 1).act(Task("made-1", "webarena", "Dance.", state), state, offered, ()) in {
        *offered, "click('999')", "fill('1', 'lamp')", "press enter", "click('0')", "send_msg_to_user('Done.')",
        *(one.replace("<text>", word) for one in offered for word in ("lamp", "bread", "42")),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("instruction", "page", "steps", "action"),
    [
        ('Click on the "Yes" button.', BUTTONS, (), "click('3')"),
        ('Switch between the tabs to find and click on the link "sed".', TABS, (), "click('5')"),
        ('Switch between the tabs to find and click on the link "at".', TABS, (), "click('4')"),
        (LOGIN_TASK, LOGIN, (), "fill('1', 'juan')"),
        (LOGIN_TASK, LOGIN.replace("#username'", "#username' value='juan'"), (), "fill('2', 'Jc')"),
    ],
)
def test_the_miniwob_reader_by_hand(instruction: str, page: str, steps: tuple[Transition, ...], action: str) -> None:
    task = Task("x-1", "miniwob", instruction, page)
    assert MiniWoBReader(0.0, 0).act(task, page, MINIWOB.available_actions(page, ()), steps) == action


def test_a_password_is_known_by_what_was_typed() -> None:
    named = LOGIN.replace("#username'", "#username' value='juan'")
    both = named.replace("#password'", "#password' value='••'")
    for typed, action in (("Jc", "click('3')"), ("JC", "fill('2', 'Jc')")):
        steps = (("fill('1', 'juan')", named), (f"fill('2', '{typed}')", both))
        here = context(LOGIN_TASK, LOGIN, *steps, action="noop()", domain=MINIWOB)
        assert MiniWoBReader(0.0, 0).act(here.task, here.state, (), here.history) == action


def test_careless_ones_do_something_else() -> None:
    task = Task("login-user-1", "miniwob", LOGIN_TASK, LOGIN)
    offered = MINIWOB.available_actions(LOGIN, ())
    drawn = Counter(MiniWoBReader(0.0, seed, careless=1.0).act(task, LOGIN, offered, ()) for seed in range(100))
    assert drawn["fill('1', 'juan')"] < 50
    assert drawn["click('3')"] > 10  # sends the form too early
    assert any(action.startswith("fill('1', 'jua") for action in drawn if action != "fill('1', 'juan')")
    for name in ("nobody", "slips", "oracle-0.3", "careless-2"):
        with pytest.raises(ValueError, match="`policy` must be oracle, random, slips-P or careless-P"):
            demonstrator(name, 0)
