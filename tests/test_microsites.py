"""Micro-sites: every task is solved by actions that its pages offer, and rests on what they show."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("torch")

from guessing_world import demonstrations, make_tokenizer
from transformers import AutoTokenizer

from dreamgym_env.domain import load_domain
from dreamgym_env.domains.web_page import Element, Text, page_of
from dreamgym_env.loading import embedded_policy_path, embedded_trajectories_path
from dreamgym_env.trainers.microsite_tasks import TASKS, draw_demonstration
from dreamgym_env.trainers.microsites import MicroSite, SiteWords
from dreamgym_env.trainers.sft import SFTConfig
from dreamgym_env.trainers.sft_data import load_demonstrations, supply_of
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import StepContext, Trajectory

LABELS = tuple(
    (f"{one}a".capitalize(), f"{one}a") for one in map("".join, zip("bcdfghklmn" * 7, "aeiou" * 14, strict=True))
)
WORDS = SiteWords(
    tuple((f"{big}{n}", f"{small}{n}") for n, (big, small) in enumerate(LABELS)),
    tuple(f"Name{n}" for n in range(80)),
    tuple(f"thing{n}" for n in range(90)),
)
DOMAIN = load_domain("webarena")


@pytest.fixture(scope="module")
def drawn() -> list[Trajectory]:
    rng = random.Random(4)
    return [draw_demonstration(rng, WORDS, "webarena") for _ in range(100)]


def test_every_action_is_offered_and_what_it_changes_is_what_the_rules_know(drawn: list[Trajectory]) -> None:
    for episode in drawn:
        for step in episode.transitions:
            context = StepContext(step.task, episode.transitions[: step.step_index], step.state, step.action)
            action = DOMAIN.parse_action(step.state, step.action)
            assert action is not None
            assert DOMAIN.is_possible(context, action), (step.state, step.action)
            if step.action.startswith(("fill", "select_option")):
                known = DOMAIN.known(context)
                assert known is not None
                assert known.next_state == step.next_state
        states = [(one.next_state, after.state) for one, after in pairwise(episode.transitions)]
        assert all(before == after for before, after in states)
        assert episode.success
        assert episode.transitions[-1].reward == 1.0


def test_thoughts_name_the_element_and_answers_quote_a_line(drawn: list[Trajectory]) -> None:
    for episode in drawn:
        for step in episode.transitions:
            page = page_of(step.state)
            assert page is not None
            if step.action.startswith("send_msg_to_user"):
                lines = [re.sub(r"^\[\d+\] ", "", line) for line in step.state.split("\n")]
                assert step.thought in lines, (step.thought, step.state)
            else:
                number = re.findall(r"\('(\d+)'", step.action)[0]
                element = page.elements[number]
                named, _, row = step.thought.partition(" of ")
                assert named.endswith(f"{element.role} {element.name}")
                above = [line.text for line in page.lines[: page.lines.index(element)] if isinstance(line, Text)]
                assert not row or [text.split(" | ")[0] for text in above if " | " in text or text == row][-1] == row


def test_what_is_written_stands_in_the_task(drawn: list[Trajectory]) -> None:
    written = 0
    for episode in drawn:
        for step in episode.transitions:
            if found := re.fullmatch(r"(?:fill|select_option)\('\d+', (['\"])(.*)\1\)", step.action):
                written += 1
                assert found[2].lower() in episode.task.instruction.lower()
    assert written > 25


@pytest.mark.parametrize("task", TASKS, ids=lambda one: one.__name__)
def test_each_task_is_drawn_by_the_seed_alone(task: Any) -> None:
    made = [task(MicroSite(random.Random(3), WORDS, 6)) for _ in range(2)]
    assert made[0][0] == made[1][0]
    assert made[0][1].steps == made[1][1].steps
    assert task(MicroSite(random.Random(5), WORDS, 6))[1].steps != made[0][1].steps


def test_lists_grow_but_not_beyond_the_most() -> None:
    rng = random.Random(0)
    sizes = []
    for _ in range(60):
        episode = draw_demonstration(rng, WORDS, "miniwob", most=6)
        assert episode.task.domain == "miniwob"
        links = [
            sum(isinstance(line, Element) for line in page.lines)
            for step in episode.transitions
            if (page := page_of(step.state))
        ]
        sizes.append(max(links))
    assert len(set(sizes)) > 5
    assert max(sizes) < 20


def test_words_are_those_of_the_vocabulary() -> None:
    with pytest.raises(ValueError, match=r"at least 60 words with and without a capital and 60 plain ones, got 0 and"):
        SiteWords.of(make_tokenizer())


def test_sft_reads_them_beside_its_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SiteWords, "of", classmethod(lambda cls, tokenizer: WORDS))
    tokenizer = AutoTokenizer.from_pretrained(embedded_policy_path("miniwob"))
    episodes = [one for one in read_trajectories(embedded_trajectories_path("miniwob")) if one.success][:12]
    config = SFTConfig("m", ("t",), "o", micro_share=0.75, state_weight=0.2)
    data = load_demonstrations(config, tokenizer, episodes)
    supply = supply_of(config, data, tokenizer)
    pool = supply.draw(0)
    assert len(pool) == 48
    assert [one.ids.tolist() for one in pool[:12]] == [one.ids.tolist() for one in data.train]
    assert [one.ids.tolist() for one in supply.draw(0)] == [one.ids.tolist() for one in pool]
    assert [one.ids.tolist() for one in supply.draw(9)[12:]] != [one.ids.tolist() for one in pool[12:]]
    assert {round(float(weight), 3) for one in pool for weight in one.weights} == {0.0, 0.2, 1.0}
    short = replace(config, max_tokens=1_000)
    assert (
        max(len(one) for one in pool[12:]) > 1_000 >= max(len(one) for one in supply_of(short, data, tokenizer).draw(0))
    )
    with pytest.raises(ValueError, match="`max_tokens` must leave room for tasks of micro-sites, got 100; nine in ten"):
        supply_of(replace(config, max_tokens=100), data, tokenizer).draw(0)
    guesses = load_demonstrations(config, make_tokenizer(), demonstrations(20))
    with pytest.raises(ValueError, match="`micro_share` must be 0 for worlds that are not web sites, got episodes of"):
        supply_of(config, guesses, make_tokenizer())
