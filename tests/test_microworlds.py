"""Micro-worlds: drawn by seed alone, and every answer follows from what stands in the chat."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pytest

from dreamgym_env.parsing import parse_prediction
from dreamgym_env.trainers.microworlds import (
    FAMILIES,
    SYSTEM,
    Goal,
    Names,
    Record,
    checks,
    draw_chat,
    draw_goal,
    draw_records,
    make_names,
    record_page,
)
from dreamgym_env.types import Message

NAMES = Names.from_seed(0)
CHAIR = Record(
    "B0AAAAAAAA", "Zaro chair, soft, blue", ("chair", "soft", "blue"), 24.99, (("tone", ("red", "tan")),), "a note"
)
WISH = Goal("chair", ("soft",), (("tone", "red"),), 30.0)


def chats(family: str, count: int = 60) -> list[list[Message]]:
    rng = random.Random(11)
    return [draw_chat(rng, NAMES, rng.random(), [family]) for _ in range(count)]


def turns(chat: Sequence[Message]) -> list[tuple[str, str]]:
    """(user, assistant) texts."""
    return [(a["content"], b["content"]) for a, b in zip(chat[1::2], chat[2::2], strict=True)]


def test_names_are_distinct_and_fixed_by_the_seed() -> None:
    assert Names.from_seed(0) == NAMES != Names.from_seed(1)
    assert (len(set(NAMES.plain)), len(set(NAMES.capital)), len(set(NAMES.ids))) == (1500, 200, 1000)
    assert all(name[0].isupper() for name in NAMES.capital)
    assert all(re.fullmatch("B0[0-9A-Z]{8}", code) for code in NAMES.ids)
    assert len(make_names(50, random.Random(2))) == 50


@pytest.mark.parametrize("family", FAMILIES)
def test_chats_are_fixed_by_the_seed_and_alternate(family: str) -> None:
    first, second = chats(family), chats(family)
    assert first == second
    assert len({str(chat) for chat in first}) == len(first)
    for chat in first:
        assert chat[0] == {"role": "system", "content": SYSTEM}
        assert [message["role"] for message in chat[1:]] == ["user", "assistant"] * ((len(chat) - 1) // 2)
        assert chat[1]["content"].startswith("Task: ")
        assert not any("Task: " in user for user, _ in turns(chat)[1:])


def test_level_sets_the_size_and_families_are_mixed() -> None:
    def rows(level: float) -> int:
        rng = random.Random(3)
        drawn = [draw_chat(rng, NAMES, level, ["records"])[1]["content"] for _ in range(40)]
        return max(len(set(re.findall(r"^\[(B0\w+)\]", text, re.MULTILINE))) for text in drawn)

    assert rows(0.0) <= 3 < rows(1.0) <= 10
    rng = random.Random(4)
    openings = {draw_chat(rng, NAMES, 0.5)[1]["content"].split()[1] for _ in range(40)}
    assert openings == {"Find", "put"}


@pytest.mark.parametrize(
    ("chosen", "price", "words", "verdict"),
    [
        ({"tone": "red"}, 24.99, ("chair", "soft", "blue"), True),
        ({"tone": "red"}, 24.99, ("chair", "blue", "soft"), True),
        ({"tone": "red"}, 30.0, ("chair", "soft"), True),
        ({"tone": "tan"}, 24.99, ("chair", "soft"), False),
        ({}, 24.99, ("chair", "soft"), False),
        ({"tone": "red"}, 30.01, ("chair", "soft"), False),
        ({"tone": "red"}, 24.99, ("chair", "blue"), False),
        ({"tone": "red"}, 24.99, ("table", "soft"), False),
    ],
)
def test_a_verdict_by_hand(chosen: dict[str, str], price: float, words: tuple[str, ...], verdict: bool) -> None:
    trace, good = checks(WISH, Record("B0", "t", words, price, CHAIR.options, ""), chosen)
    assert good is verdict
    assert trace.endswith("so success" if verdict else "so failure")
    assert (" no;" in trace) is not verdict


def test_a_trace_by_hand() -> None:
    assert checks(WISH, CHAIR, {"tone": "tan"}) == (
        "checks: chair chair yes; soft soft yes: yes; tone red no; $24.99 under 30.00 yes; so failure", False,
    )  # fmt: skip
    second = Record("B0", "t", ("chair", "blue", "soft"), 24.99, CHAIR.options, "")
    told = "chair chair yes; soft blue no, soft soft yes: yes; tone red yes; $24.99 under 30.00 yes"
    assert checks(WISH, second, {"tone": "red"}) == (f"checks: {told}; so success", True)
    assert WISH.text == "Find me soft chair with tone: red, and price lower than 30.00 dollars"


def test_a_goal_is_met_by_the_record_that_it_was_drawn_for() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        records, _ = draw_records(rng, NAMES, 5)
        goal = draw_goal(rng, records[0])
        assert checks(goal, records[0], dict(goal.options))[1]


def test_records_answers_follow_from_what_was_said() -> None:
    """Titles, prices, choices and verdicts are looked up in the text alone, by another reader than the writer."""
    verdicts = []
    for chat in chats("records"):
        goal, listing = chat[1]["content"].split("\nState:\n")[0], chat[1]["content"].split("\nState:\n")[1]
        rows = dict(re.findall(r"^\[(B0\w+)\] (.*)$", listing, re.MULTILINE))
        bound = float(goal.partition("lower than ")[2].split()[0])
        wanted = set(re.findall(r"(?:with|and) ([^,:]+: [^,]+)", goal.partition(", and price lower")[0]))
        chosen: dict[str, str] = {}
        title = price = ""
        for user, said in turns(chat):
            action = re.findall(r'^Action: "click\[(.*)\]"', user, re.MULTILINE)[-1]
            found = parse_prediction(said)
            if action in rows:
                title, _, price = rows[action].rpartition(" | ")
                chosen = {}
            if found.terminated:
                told = {f"{name}: {value}" for name, value in chosen.items()}
                head = title.partition(" ")[2].split(", ")
                asked = goal.removeprefix("Task: Find me ").partition(" with ")[0].partition(", and price")[0]
                *words, last = asked.split(", ")
                fits = set(words) <= set(head[1:]) and any(f"{word} {head[0]}" == last for word in head[1:])
                good = fits and wanted <= told and float(price.lstrip("$")) <= bound
                assert (found.reward > 0) is good
                verdicts.append(good)
            elif found.next_state.startswith(title) and action not in ("Back", "Note"):
                lines = found.next_state.split("\n")
                assert lines[:2] == [title, f"Price: {price}"]
                shown = next((line for line in lines if line.startswith("Chosen: ")), "Chosen: ")
                options = {n: v for n, v in (line.split(": ", 1) for line in lines[2:-1]) if n != "Chosen"}
                chosen.update({name: action for name, values in options.items() if f"[{action}]" in values})
                assert shown == "Chosen: " + "; ".join(f"{n} = {chosen[n]}" for n in options if n in chosen)
    assert 0.1 < sum(verdicts) / len(verdicts) < 0.9
    assert len(verdicts) > 40


def test_copies_are_exact() -> None:
    """What is recalled or shown beside an action stands in the chat or in the answer letter by letter."""
    for chat in chats("records"):
        said: list[str] = []
        for user, reply in turns(chat):
            said.append(user.partition("State:\n")[2] + reply)
            recalled = re.search(r"Seen before:\n(.*?)\n(?:Similar steps|Action: )", user, re.DOTALL)
            for line in recalled[1].split("\n") if recalled else []:
                assert any(line in text for text in said)
            shown = re.search(r"Similar steps:\nAction: .*?\n(.*?)\nAction: ", user, re.DOTALL)
            if shown:
                assert parse_prediction(reply).next_state == shown[1]


def test_picks_open_a_record_that_fits_then_choose_then_end() -> None:
    for chat in chats("picks"):
        actions = [re.sub(r"</?action>", "", said) for _, said in turns(chat)]
        listing = chat[1]["content"]
        assert actions[0].startswith("click[B0")
        assert f"\n[{actions[0][6:-1]}] " in listing
        assert actions[-1] == "click[End]"
        goal = listing.partition("\n")[0]
        assert [value[6:-1] for value in actions[1:-1]] == re.findall(r": ([^,:]+)", goal.removeprefix("Task: "))
        for (user, _), action in zip(turns(chat)[1:], actions[1:], strict=True):
            assert f"[{action[6:-1]}]" in user
        last = turns(chat)[-1][0]
        assert last.count(" = ") == len(actions) - 2


def test_rooms_keep_every_thing_in_its_place() -> None:
    ends = 0
    for chat in chats("rooms"):
        known: dict[str, list[str]] = {}
        thing, place = re.findall(r"^Task: put (.*) in (.*)$", chat[1]["content"], re.MULTILINE)[0]
        held = here = ""
        for user, said in turns(chat):
            verb, argument = re.findall(r'^Action: "(\w+)\[(.*)\]"', user, re.MULTILINE)[-1]
            found = parse_prediction(said)
            if verb == "go":
                here = argument
                if here not in known:
                    known[here] = _contents(user.partition("Seen before:\n")[2].split("\nAction")[0])
            elif verb == "take":
                known[here].remove(argument)
                held = argument
            else:
                assert argument == held
                known[here].append(argument)
                held = ""
            assert found.next_state == f"In {here}: {', '.join(known[here]) or 'nothing'}"
            if found.terminated:
                assert found.reward == 1.0
                assert thing in known[place]
                ends += 1
            else:
                assert thing not in known.get(place, [])
    assert ends


def _contents(line: str) -> list[str]:
    things = line.partition(": ")[2]
    return [] if things == "nothing" else things.split(", ")


def test_a_page_by_hand() -> None:
    assert record_page(CHAIR, {"tone": "tan"}).split("\n") == [
        "Zaro chair, soft, blue", "Price: $24.99", "tone: [red] [tan]", "Chosen: tone = tan", "[Back] [Note] [End]",
    ]  # fmt: skip
