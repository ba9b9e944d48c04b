"""The task generator: prompts, parsing, refusals with their counts, lineage, quick dreams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dreamgym_env.domain import load_domain
from dreamgym_env.task_generator import (
    GENERIC_INSTRUCTION,
    TaskGenerator,
    normalised,
    parse_task,
    task_answer,
    task_messages,
)
from dreamgym_env.types import Completion, Conversation, LanguageModel, Sampling, Task

WEBSHOP = load_domain("webshop")
FORM = "Find me machine wash throw pillow covers with color: {}, and price lower than {}.00 dollars"
SEEDS = [
    Task(f"s{i}", "webshop", FORM.format(color, price), "WebShop\n[Search]")
    for i, (color, price) in enumerate([("navy", 30), ("red", 40), ("green", 50)])
]


class Scripted:
    """A language model that answers by a function of the prompt's last line and of how often it was asked."""

    def __init__(self, answer: Callable[[str, int], Completion | str]) -> None:
        self.answer, self.asked = answer, dict[str, int]()
        self.conversations: list[Conversation] = []

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        return [self._one(conversation) for conversation in conversations]

    def _one(self, conversation: Conversation) -> Completion:
        self.conversations.append(conversation)
        last = conversation[-1]["content"].split("\n")[-1]
        self.asked[last] = self.asked.get(last, 0) + 1
        answer = self.answer(last, self.asked[last])
        return answer if isinstance(answer, Completion) else Completion(answer)


def generator(answer: Callable[[str, int], Completion | str], **settings: Any) -> TaskGenerator:
    model = Scripted(answer)
    assert isinstance(model, LanguageModel)
    return TaskGenerator(model, WEBSHOP, **settings)


def dearer(last: str, asked: int) -> str:
    return task_answer(last.replace(".00 dollars", f"{asked}.00 dollars"))


def test_seed_tasks_are_tasks_of_the_domain() -> None:
    assert [WEBSHOP.task_problem(task) for task in SEEDS] == [None] * 3


def test_prompt_shows_the_seed_tasks_one_a_line() -> None:
    system, user = task_messages(WEBSHOP, [SEEDS[0], replace(SEEDS[1], instruction="two\nlines")])
    assert system == {"role": "system", "content": getattr(WEBSHOP, "task_instruction", GENERIC_INSTRUCTION)}
    assert user == {"role": "user", "content": f"{SEEDS[0].instruction}\ntwo lines"}
    with pytest.raises(ValueError, match="at least one task"):
        task_messages(WEBSHOP, [])


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        ("Sure: <task>\n find a\n lamp </task>.", "find a lamp"),
        ("find a lamp", None),
        ("<task>find a lamp", None),
        ("<task> </task>", None),
        ("<task>a</task><task>b</task>", None),
        ("<task>a <task>b</task>", None),
        (f"<task>{'x' * 2001}</task>", None),
    ],
)
def test_parse(text: str, instruction: str | None) -> None:
    assert parse_task(text) == instruction
    assert parse_task(task_answer("  one\ntask ")) == "one task"


def test_variations_carry_their_lineage() -> None:
    maker = generator(dearer)
    first = maker.propose(SEEDS)
    assert [task.task_id for task in first] == ["s0~1", "s1~1", "s2~1"]
    assert first[0] == Task("s0~1", "webshop", FORM.format("navy", 301), "WebShop\n[Search]", "generated", "s0")
    assert [task.task_id for task in maker.propose([first[0], SEEDS[0]])] == ["s0~1~1", "s0~2"]
    assert not maker.rejections


def test_the_parent_is_shown_last_among_others() -> None:
    maker = generator(dearer)
    maker.propose(SEEDS, shown=2)
    shown = [conversation[-1]["content"].split("\n") for conversation in maker.language_model.conversations]
    texts = [task.instruction for task in SEEDS]
    assert shown == [[texts[1], texts[0]], [texts[2], texts[1]], [texts[0], texts[2]]]


def test_refusals_are_counted_and_asked_again() -> None:
    def answer(last: str, asked: int) -> Completion | str:
        if "navy" in last:
            return [Completion("", "error", error="down"), last.upper(), dearer(last, 7)][asked - 1]
        if "red" in last:
            return task_answer(last.upper() + " !")  # a known task in other letters
        return ["<task>sing a song</task>", dearer(last, 3)][min(asked, 2) - 1]

    maker = generator(answer, max_attempts=3)
    assert [task.task_id for task in maker.propose(SEEDS)] == ["s0~1", "s2~1"]
    assert maker.rejections == {"model_error": 1, "unparsed": 1, "duplicate": 3, "invalid": 1}
    assert maker.language_model.asked == {SEEDS[0].instruction: 3, SEEDS[1].instruction: 3, SEEDS[2].instruction: 2}


def test_two_equal_proposals_of_one_batch_give_one_task() -> None:
    maker = generator(lambda last, asked: task_answer(FORM.format("teal", 60)), max_attempts=1)
    assert [task.task_id for task in maker.propose(SEEDS)] == ["s0~1"]
    assert maker.rejections["duplicate"] == 2


def test_known_tasks_are_never_proposed_nor_their_ids_used_again() -> None:
    held_out = replace(SEEDS[0], task_id="h", instruction=FORM.format("teal", 60), split="held_out")
    earlier = replace(SEEDS[0], task_id="s0~4", instruction=FORM.format("pink", 60))
    texts = [held_out.instruction, earlier.instruction, FORM.format("grey", 60)]
    maker = generator(lambda last, asked: task_answer(texts[asked - 1]), known=[held_out, earlier])
    (task,) = maker.propose(SEEDS[:1])
    assert (task.task_id, task.instruction) == ("s0~5", texts[2])
    with pytest.raises(ValueError, match="task 'h' is held out"):
        maker.propose([held_out])


def test_normalised_keeps_numbers_apart() -> None:
    assert normalised("Price  lower than 30.00 Dollars!") == normalised("price lower than 30.00 dollars")
    assert normalised("30.50 dollars") != normalised("3050 dollars")


def test_feasible_keeps_what_sometimes_succeeds() -> None:
    maker = generator(dearer)
    tasks = [replace(SEEDS[0], task_id=str(i)) for i in range(4)]
    asked: list[int] = []

    def roll_out(some: Sequence[Task], n: int) -> list[list[float]]:
        asked.append(n)
        return [[0.0, 1.0], [0.0, 0.0], [1.0, 1.0], []]

    assert [task.task_id for task in maker.feasible(tasks, roll_out, n=2)] == ["0"]
    assert maker.rejections == {"infeasible": 1, "too_easy": 1, "undreamed": 1}
    assert [task.task_id for task in maker.feasible(tasks, roll_out, n=2, need_failure=False)] == ["0", "2"]
    assert maker.feasible([], roll_out) == []
    assert asked == [2, 2]
    with pytest.raises(ValueError, match="must give rewards for 3 tasks, got 4"):
        maker.feasible(tasks[:3], roll_out)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="`max_attempts` must be >= 1, got 0"):
        generator(dearer, max_attempts=0)
    with pytest.raises(ValueError, match="`shown` must be >= 1"):
        generator(dearer).propose(SEEDS, shown=0)
    assert generator(dearer).propose([]) == []
