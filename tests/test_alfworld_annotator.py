"""ALFWorld's traces and referee by hand: what a step rests on, the goal's conditions, what a dream may not do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from alfworld_games import generated_games

from dreamgym_env.domains.alfworld import ALFWORLD
from dreamgym_env.trainers import annotate, collect
from dreamgym_env.trainers.audit import find_share
from dreamgym_env.trainers.corpus import contexts_of
from dreamgym_env.trainers.intervals import Share
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import EndReason, StepContext, Task, Trajectory, Transition
from dreamgym_env.wrappers.alfworld.annotator import AlfworldAnnotator
from dreamgym_env.wrappers.alfworld.referee import AlfworldReferee

START = (
    "You are in the middle of a room. Looking quickly around you, you see a countertop 1, a desk 1, a fridge 1, and a "
    "microwave 1."
)
HOT = "put a hot apple in fridge."
ON_COUNTER = "You arrive at countertop 1. On the countertop 1, you see a apple 1, a apple 2, and a fork 1."
HEATED = [
    ("go to countertop 1", ON_COUNTER),
    ("take apple 1 from countertop 1", "You pick up the apple 1 from the countertop 1."),
    ("go to microwave 1", "You arrive at microwave 1. The microwave 1 is closed."),
    ("heat apple 1 with microwave 1", "You heat the apple 1 using the microwave 1."),
    ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed."),
    ("open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see nothing."),
    ("move apple 1 to fridge 1", "You move the apple 1 to the fridge 1."),
]


def episode(instruction: str, steps: Sequence[tuple[str, str]], reason: EndReason = "success") -> Trajectory:
    """An episode of these actions and texts; what is answered by `Nothing happens.` was impossible."""
    task = Task("game", ALFWORLD.name, instruction, START)
    state, transitions = START, list[Transition]()
    for index, (action, text) in enumerate(steps):
        end = reason == "success" and index == len(steps) - 1
        possible = text != "Nothing happens."
        transitions.append(Transition(task, index, state, action, text, float(end), end, possible=possible))
        state = text
    return Trajectory(task, tuple(transitions), reason)


def traces(instruction: str, steps: Sequence[tuple[str, str]], reason: EndReason = "success") -> list[str]:
    annotated = AlfworldAnnotator().annotate(episode(instruction, steps, reason))
    return [step.reasoning_trace for step in annotated.transitions]


def test_traces_by_hand() -> None:
    assert traces(HOT, HEATED) == [
        "room has countertop 1 yes; not here nowhere, countertop 1 yes; not told yet",
        "here countertop 1, countertop 1 yes; hand nothing yes; apple 1 at countertop 1, countertop 1 yes; now in hand",
        "room has microwave 1 yes; not here countertop 1, microwave 1 yes; not told yet",
        "hand apple 1, apple 1 yes; here microwave 1, microwave 1 yes; heat apple 1 microwave 1 yes; now hot",
        "room has fridge 1 yes; not here microwave 1, fridge 1 yes; not told yet",
        "here fridge 1, fridge 1 yes; fridge 1 closed yes; not told yet",
        "hand apple 1, apple 1 yes; here fridge 1, fridge 1 yes; fridge 1 open yes; fridge 1 takes apple 1 yes; "
        "now at fridge 1; apple apple yes; fridge fridge yes; hot yes; so success",
    ]


def test_an_impossible_step_and_a_place_seen_before() -> None:
    steps = [
        ("go to countertop 1", ON_COUNTER),
        ("take knife 1 from countertop 1", "Nothing happens."),
        ("dance", "Nothing happens."),
        ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed."),
        ("go to countertop 1", ON_COUNTER),
        ("inventory", "You are not carrying anything."),
    ]
    assert traces(HOT, steps, "time_limit")[1:] == [
        "here countertop 1, countertop 1 yes; hand nothing yes; knife 1 at unseen, countertop 1 no; so nothing happens",
        "dance: no such action; so nothing happens",
        "room has fridge 1 yes; not here countertop 1, fridge 1 yes; not told yet",
        "room has countertop 1 yes; not here fridge 1, countertop 1 yes; told before",
        "nothing in hand",
    ]


@pytest.mark.parametrize(
    ("instruction", "told"),
    [
        ("put some fork in fridge.", "fork apple no; fridge fridge yes; so continue"),
        ("put a clean apple in fridge.", "apple apple yes; fridge fridge yes; clean no; so continue"),
        ("put two apple in fridge.", "apple apple yes; fridge fridge yes; there apple 1: two no; so continue"),
    ],
)
def test_a_goal_that_is_not_reached(instruction: str, told: str) -> None:
    assert traces(instruction, HEATED, "time_limit")[-1].partition("; now at fridge 1; ")[2] == told


def test_a_lamp_must_be_on_and_the_thing_in_hand() -> None:
    steps = [
        ("go to countertop 1", ON_COUNTER),
        ("take fork 1 from countertop 1", "You pick up the fork 1 from the countertop 1."),
        ("go to desk 1", "You arrive at desk 1. On the desk 1, you see a desklamp 1."),
        ("use desklamp 1", "You turn on the desklamp 1."),
    ]
    assert traces("look at fork under the desklamp.", steps)[1:] == [
        "here countertop 1, countertop 1 yes; hand nothing yes; fork 1 at countertop 1, countertop 1 yes; now in hand; "
        "fork fork yes; desklamp on at nowhere, countertop 1 no; so continue",
        "room has desk 1 yes; not here countertop 1, desk 1 yes; not told yet; "
        "fork fork yes; desklamp on at nowhere, desk 1 no; so continue",
        "desklamp 1 lamp yes; desklamp 1 at desk 1, desk 1 yes; now on; "
        "fork fork yes; desklamp on at desk 1, desk 1 yes; so success",
    ]


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("go to sofa 1", "room has sofa 1 no"),
        ("go to fridge 1", "room has fridge 1 yes; not here fridge 1, fridge 1 no"),
        ("open microwave 1", "here fridge 1, microwave 1 no"),
        ("close fridge 1", "here fridge 1, fridge 1 yes; fridge 1 closed no"),
        ("examine fork 1", "hand apple 1, fork 1 no"),
        ("take apple 2 from fridge 1", "here fridge 1, fridge 1 yes; hand apple 1 no"),
        ("move apple 1 to fridge 1", "hand apple 1, apple 1 yes; here fridge 1, fridge 1 yes; fridge 1 open no"),
        ("cool apple 1 with microwave 1", "hand apple 1, apple 1 yes; here fridge 1, microwave 1 no"),
        (
            "heat apple 1 with fridge 1",
            "hand apple 1, apple 1 yes; here fridge 1, fridge 1 yes; heat apple 1 fridge 1 no",
        ),
        ("use desklamp 1", "desklamp 1 lamp yes; desklamp 1 at unseen, fridge 1 no"),
        ("slice apple 2 with knife 1", "hand apple 1, knife 1 no"),
    ],
)
def test_the_first_check_that_fails_ends_a_trace(action: str, told: str) -> None:
    steps = [*HEATED[:5], (action, "Nothing happens.")]
    assert traces(HOT, steps, "time_limit")[-1] == f"{told}; so nothing happens"


def test_what_the_texts_do_not_explain_is_not_explained() -> None:
    """In official games a receptacle may stand beside another without any text that says so."""
    steps = [
        ("go to desk 1", "You arrive at desk 1. On the desk 1, you see nothing."),
        ("open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see nothing."),
        ("close fridge 1", "Nothing happens."),
    ]
    assert traces(HOT, steps, "time_limit")[1:] == ["not told yet", "close fridge 1: so nothing happens"]


def errors(trajectory: Trajectory) -> list[list[str]]:
    steps = trajectory.transitions
    contexts = [StepContext(trajectory.task, steps[:i], step.state, step.action) for i, step in enumerate(steps)]
    return [AlfworldReferee().step_errors(context, step) for context, step in zip(contexts, steps, strict=True)]


def test_the_referee_finds_what_a_dream_may_not_do() -> None:
    assert errors(episode(HOT, HEATED)) == [[]] * 7
    dreamed = episode(
        HOT,
        [
            (
                "go to countertop 1",
                "You arrive at countertop 1. On the countertop 1, you see a apple 1, and a pillow 1.",
            ),
            ("take apple 9 from countertop 1", "You pick up the apple 9 from the countertop 1."),
            ("go to desk 1", "You arrive at desk 1. On the desk 1, you see a apple 1."),
        ],
    )
    assert errors(dreamed) == [["misplaced"], ["impossible_accepted"], ["contradiction", "misplaced"]]


def test_the_referee_tells_when_what_is_sought_is_shown_first() -> None:
    def found(instruction: str, steps: Sequence[tuple[str, str]]) -> list[bool | None]:
        one = episode(instruction, steps, "time_limit")
        told = zip(contexts_of(one), one.transitions, strict=True)
        return [AlfworldReferee().finds(context, step) for context, step in told]

    assert found(HOT, HEATED) == [True, *[None] * 6]
    assert found("put a hot egg in fridge.", HEATED) == [False, None, None, None, None, False, None]
    again = [HEATED[0], ("go to countertop 1", "Nothing happens."), ("look", HEATED[0][1])]
    assert found("put a hot egg in fridge.", again) == [False, None, None]
    assert found("make me happy", HEATED[:1]) == [None]
    empty = find_share(AlfworldReferee(), [episode("put a hot egg in fridge.", HEATED, "time_limit")] * 2)
    assert (empty, find_share(object(), [])) == (Share(0, 4), Share(0, 0))


def test_the_referee_judges_by_the_texts() -> None:
    judge = AlfworldReferee().judge
    assert judge(episode(HOT, HEATED)) is True
    assert judge(episode(HOT, HEATED, "time_limit")) is True  # reached, and the dream did not see it
    assert judge(episode("put a clean apple in fridge.", HEATED)) is False
    assert judge(episode("put a clean apple in fridge.", HEATED, "time_limit")) is None
    assert judge(episode("make me happy", HEATED)) is None


def test_real_episodes_are_annotated_and_pass_the_referee(tmp_path: Path) -> None:
    """Collected and annotated by the commands; the referee finds no fault with reality."""
    settings, raw, out = (f"data_dir={generated_games()}",), tmp_path / "raw.jsonl", tmp_path / "all.jsonl"
    policies = ("oracle:0.2", "slips-0.4:0.3", "searcher-0.2:0.2", "random:0.3")
    config = collect.CollectConfig("Real-ALFWorld-v0", raw, 12, policies, settings=settings, annotate=False, seed=3)
    collect.main(config)
    annotate.main(annotate.AnnotateConfig(raw, out, env="Real-ALFWorld-v0", settings=settings))
    found = list(read_trajectories(out))
    assert {one.success for one in found} == {True, False}
    for one in found:
        ends = [step.reasoning_trace.endswith("so success") for step in one.transitions]
        assert ends == [*[False] * (len(ends) - 1), one.success]
        assert all(step.reasoning_trace for step in one.transitions)
        assert not any(errors(one))
        assert AlfworldReferee().judge(one) is (True if one.success else None)


def test_predictions_are_compared_by_what_the_episode_determines() -> None:
    steps = episode(HOT, HEATED).transitions
    contexts = [StepContext(step.task, steps[:index], step.state, step.action) for index, step in enumerate(steps)]

    def compared(index: int, text: str) -> list[tuple[str, bool]]:
        return ALFWORLD.compare(contexts[index], steps[index], text)

    assert compared(0, "You arrive at countertop 1. On the countertop 1, you see a egg 1.") == [
        ("first view, consistent", True)
    ]
    assert compared(0, "You arrive at countertop 1. On the countertop 1, you see a fridge 1.") == [
        ("first view, consistent", False)
    ]
    assert compared(1, steps[1].next_state) == [("determined", True)]
    assert compared(1, "Nothing happens.") == [("determined", False)]
    refused = episode(HOT, [("dance", "Nothing happens.")], "time_limit").transitions[0]
    asked = StepContext(refused.task, (), refused.state, refused.action)
    assert ALFWORLD.compare(asked, refused, "You dance.") == [("nothing happens", False)]
