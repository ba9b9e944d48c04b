"""Which words of a templated world are names, and how the words of tasks and of labels are exchanged together."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dreamgym_env.trainers.names import (
    copied_names,
    copied_words,
    exchange_classes,
    exchange_labels,
    no_labels,
    number_classes,
    permuted,
    read_in,
    said_in,
    unread_words,
)
from dreamgym_env.trainers.scratch import build_tokenizer, fit_vocabulary
from dreamgym_env.trainers.supervised import Example
from dreamgym_env.types import Task, Trajectory, Transition

PROJECTS = ("tidepool", "windrow", "saltmarsh", "paperboat")
USERS = ("Ada", "Bruno", "Celia", "Dario")
EPISODES = [
    (f"Change the role of {user} in {project}.", f"click link {project}\nfill textbox {user}\nclick button Save Role")
    for project in PROJECTS
    for user in USERS
] + [(f"Star the project {project}.", f"click link {project}\nclick button Star") for project in PROJECTS]
"""Instructions, and what the agent says."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    texts = [f"Task: {asked}\nProject with a Role\n{said}" for asked, said in EPISODES]
    return build_tokenizer(fit_vocabulary(texts, line_share=2, plain_forms=True))


def examples_of(tokenizer: Any) -> list[Example]:
    texts = [f"Task: {asked}\nProject with a Role\n{said}" for asked, said in EPISODES]
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return [Example(np.asarray(ids, np.int32), np.ones(len(ids), np.float32)) for ids in encoded]


def members(tokenizer: Any, classes: list[list[tuple[int, ...]]]) -> list[set[str]]:
    return [{token for one in each for token in tokenizer.convert_ids_to_tokens(list(one))} for each in classes]


def test_what_agents_repeat_is_a_name(tokenizer: Any) -> None:
    asked, said = zip(*EPISODES, strict=True)
    found = {token for token in copied_names(tokenizer.tokenize, asked, said) if token.strip().isalpha()}
    assert found == {f" {name}" for name in (*PROJECTS, *USERS)} | {" Star"}
    half = [text.replace("fill textbox Ada", "noop()") if index % 2 else text for index, text in enumerate(said)]
    assert " Ada" in copied_names(tokenizer.tokenize, asked, half)  # Ada is asked for in the even episodes
    without = [text.replace("fill textbox Ada", "noop()") for text in said]
    assert " Ada" not in copied_names(tokenizer.tokenize, asked, without)
    assert " Ada" in copied_names(tokenizer.tokenize, asked, without, share=0.0)


def test_names_are_no_part_of_a_longer_token() -> None:
    task = Task("t", "webarena", "Star the project tidepool.", "home")
    won = Trajectory(
        task, (Transition(task, 0, "home", "click('1')", "page", thought="click link tidepool"),), "success"
    )
    lost = Trajectory(task, (Transition(task, 0, "home", "click('1')", "page", thought="click link Star"),), "failure")
    assert copied_words([won, lost]) == frozenset()  # all that succeeded say it: a word of the format
    other = Task("o", "webarena", "Star the project windrow.", "home")
    others = [Trajectory(other, (replace(won.transitions[0], thought="click link windrow"),), "success")] * 2
    names = copied_words([won, lost, *others])
    assert names == {" tidepool"}
    texts = ["Project\nrow 'tidepool | a queue'\nclick link tidepool"] * 5
    joined, apart = (fit_vocabulary(texts, phrases=9, names=some) for some in (frozenset[str](), names))
    assert "\nrow 'tidepool | a queue'" in joined.lines
    assert "\nclick link tidepool" in joined.lines
    assert not apart.lines
    assert any("tidepool" in phrase for phrase in fit_vocabulary(texts, line_share=2, phrases=9).phrases)
    found = fit_vocabulary(texts, line_share=2, phrases=9, names=names).phrases
    assert found
    assert not any("tidepool" in phrase for phrase in found)


def test_the_words_of_tasks_keep_their_meaning_with_copied_names(tokenizer: Any) -> None:
    asked, said = zip(*EPISODES, strict=True)
    classes = exchange_classes(tokenizer, examples_of(tokenizer), asked, said, said, "copied")
    names = members(tokenizer, classes)
    assert {f" {name}" for name in USERS} <= set.union(*names)
    assert {f" {name}" for name in PROJECTS} in names
    kept = {" Change", " role", " Role", " project", " in", " the", " Save", " button"}
    assert set.union(*names).isdisjoint(kept)
    rare = set.union(
        *members(tokenizer, exchange_classes(tokenizer, examples_of(tokenizer), asked, said, said, "rare"))
    )
    assert rare & {" change", " save", " star"}  # words that nothing holds back


def test_labels_are_exchanged_in_both_forms_and_names_with_them(tokenizer: Any) -> None:
    asked, said = zip(*EPISODES, strict=True)
    examples = examples_of(tokenizer)
    classes = exchange_classes(tokenizer, examples, asked, said, said, "copied")
    wider = exchange_labels(tokenizer, asked, said, said, classes)
    ids = [index for each in wider for one in each for index in one]
    assert len(ids) == len(set(ids))  # no word is in two classes, so that all is one bijection
    labels = members(tokenizer, wider)[0]
    assert {" Save", " save", " Star", " star"} <= labels
    assert labels.isdisjoint({" Role", " role", " the"})  # which most instructions say
    plain = build_tokenizer(fit_vocabulary(["all is said without any capital"] * 3))
    assert exchange_labels(plain, ["all is said"], [""], [""], [[(1,), (2,)]]) == [[(1,), (2,)]]
    pairs = dict(wider[0])
    for seed in range(10):
        example = Example(np.asarray([*pairs, *pairs.values()], np.int32), np.ones(2 * len(pairs), np.float32))
        found = permuted(example, wider, len(tokenizer), random.Random(seed)).ids
        assert [pairs[one] for one in found[: len(pairs)]] == found[len(pairs) :].tolist()


def test_words_that_ask_and_words_of_the_agents_own_are_no_labels() -> None:
    asked = ["Which city has Ada?", "Which phone has Bruno?", "Upvote the post of Ada.", "Upvote the post of Celia."]
    said = ["In Eastmere.", "It is 555-2817.", "click button Upvote", "click button Upvote"]
    read = ["City | Eastmere", "City | Phone | 555-2817 it", "Upvote", "Upvote"]
    found = no_labels(asked, said, read)
    assert {" which", " has", " in", " is", " phone", " ada"} <= found
    assert found.isdisjoint({" upvote", " it", " eastmere"})  # repeated, or read in half of the episodes


def test_what_an_agent_says_and_does_not_read_is_no_name(tokenizer: Any) -> None:
    said = ["It is Ada, on page 2.", "It is Bruno.", "click link Ada", "fill 'It works'"]
    read = ["Ada", "Bruno | It works", "Ada", "It works"]
    assert unread_words(said, read) >= {" It", " is", " click"}
    assert unread_words(said, read).isdisjoint({" Ada", " Bruno", " works"})
    assert " It" not in unread_words(said, read, share=0.4)  # one of three times
    asked, told = zip(*EPISODES, strict=True)
    pages = [text.replace("Ada", "nobody") for text in told]
    names = members(tokenizer, exchange_classes(tokenizer, examples_of(tokenizer), asked, told, pages, "copied"))
    assert " Ada" not in set.union(*names)
    assert {" Bruno", " Celia"} <= set.union(*names)


def test_what_an_agent_said_and_read() -> None:
    task = Task("t", "webarena", "Open tidepool.", "home")
    steps = (
        Transition(task, 0, "home", "click('1')", "page", thought="click link tidepool"),
        Transition(task, 1, "page", "noop()", "page"),
    )
    episode = Trajectory(task, steps, "time_limit")
    assert said_in(episode) == "click link tidepool\nclick('1')\n\nnoop()"
    assert read_in(episode) == "home\npage"


def test_a_price_with_and_without_its_sign_is_one_number() -> None:
    texts = [f"Price: ${price} and {price}, of {count} stars {rating}" for price, count, rating in PRICES]
    tokenizer = build_tokenizer(fit_vocabulary(texts * 3))
    classes = [[tokenizer.convert_ids_to_tokens(list(one)) for one in members] for members in number_classes(tokenizer)]
    assert sorted(next(one for one in classes if len(one[0]) == 2)) == [
        [" 44.80", " $44.80"],
        [" 7.25", " $7.25"],
        [" 9.50", " $9.50"],
    ]
    assert sorted(next(one for one in classes if [" 3.5"] in one)) == [[" 3.5"], [" 4.5"]]
    assert sorted(next(one for one in classes if [" 12"] in one)) == [[" 12"], [" 15"], [" 31"]]


PRICES = (("44.80", 12, "3.5"), ("7.25", 15, "4.5"), ("9.50", 31, "3.5"))
