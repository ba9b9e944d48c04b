"""`ExperienceModel`: what is asked, what is drawn again, what is given up, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from dreamed_shop import Scripted, ShopModel, play, tasks_of

from dreamgym_env.domains.alfworld import ALFWORLD
from dreamgym_env.domains.webshop import WEBSHOP
from dreamgym_env.domains.webshop_pages import DONE_STATE, SEARCH_STATE, ItemPage, ResultsPage, Row, render
from dreamgym_env.experience_model import ExperienceConfig, ExperienceModel
from dreamgym_env.prompts import answer
from dreamgym_env.replay_buffer import ReplayBuffer
from dreamgym_env.types import (
    Completion,
    Conversation,
    Demonstration,
    LanguageModel,
    ParseError,
    Prediction,
    StepContext,
    Task,
    Transition,
)

TASK = Task("t", "webshop", "Find me rugs, and price lower than 30.00 dollars", SEARCH_STATE)
SEARCH = StepContext(TASK, (), SEARCH_STATE, "search[rug]")
LISTING = render(ResultsPage(1, 1, (Row("B000000RUG", "Alpha rug", "$24.99"),)))
GOOD, GARBAGE = answer("searched", LISTING, 0.0, False), "I cannot do that"
ENDED = answer("", DONE_STATE, 1.0, True)


def model_of(script: object, **settings: object) -> tuple[ExperienceModel, Scripted]:
    """A model that says `script`'s entries in turn, call by call, the same in every row."""
    said = list(script) if isinstance(script, (list, tuple)) else script
    language_model = Scripted(lambda call, row, _: said[call] if isinstance(said, list) else said(call, row, _))  # type: ignore[operator]
    config = ExperienceConfig(**{"top_k": 0, **settings})  # type: ignore[arg-type]
    return ExperienceModel(language_model, WEBSHOP, None, config), language_model


def test_a_prediction_carries_what_it_was_made_of() -> None:
    model, said = model_of([GOOD])
    assert isinstance(said, LanguageModel)
    assert model.predict([SEARCH]) == [
        Prediction("searched", LISTING, 0.0, False, prompt='Action: "search[rug]"', attempts=1)
    ]
    assert (said.samplings[0].temperature, said.samplings[0].max_tokens) == (0.7, 1024)
    assert dict(model.counts) == {"steps": 1, "known": 0, "completions": 1, "failed": 0}


def test_no_contexts_ask_nothing() -> None:
    model, said = model_of([])
    assert model.predict([]) == []
    assert said.calls == []


def test_answers_keep_the_order_of_the_batch() -> None:
    def script(call: int, row: int, conversation: Conversation) -> str:
        number = conversation[-1]["content"].partition("search[")[2].partition("]")[0]
        if number in "135" and call == 0:
            return GARBAGE
        return answer(number, LISTING, 0.0, False)

    model, said = model_of(script)
    contexts = [StepContext(TASK, (), SEARCH_STATE, f"search[{number}]") for number in range(6)]
    results = model.predict(contexts)
    assert [one.reasoning_trace for one in results if isinstance(one, Prediction)] == list("012345")
    assert [one.attempts for one in results] == [1, 2, 1, 2, 1, 2]
    assert [len(call) for call in said.calls] == [6, 3]
    assert dict(model.counts) == {"steps": 6, "known": 0, "completions": 9, "unparsed": 3, "failed": 0}


class AskedBuffer:
    """Shows one and the same demonstration, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def retrieve(self, contexts: Sequence[StepContext], k: int) -> list[list[Demonstration]]:
        self.asked.append([context.action for context in contexts])
        shown = Transition(TASK, 0, SEARCH_STATE, "search[mat]", LISTING)
        return [[Demonstration("one:0", shown, 1.0)] for _ in contexts]


@pytest.mark.parametrize("use_known", [True, False])
def test_what_the_episode_has_shown_needs_no_model_and_no_demonstrations(use_known: bool) -> None:
    buffer, said = AskedBuffer(), Scripted(lambda *_: GOOD)
    model = ExperienceModel(said, WEBSHOP, buffer, ExperienceConfig(1, use_known=use_known, use_contradictions=False))
    back = StepContext(TASK, (), LISTING, "click[Back to Search]")
    first, second, third = model.predict([back, SEARCH, back])
    assert buffer.asked == [["search[rug]"]]
    asked = [conversation[-1]["content"] for conversation in said.calls[0]]
    assert ["Similar steps" in one for one in asked] == ([True] if use_known else [False, True, False])
    assert first == third
    assert isinstance(first, Prediction)
    assert isinstance(second, Prediction)
    prompt = 'Action: "click[Back to Search]"'
    known = Prediction("back to search", SEARCH_STATE, 0.0, False, prompt, attempts=0)
    assert first == (known if use_known else Prediction("searched", LISTING, 0.0, False, prompt, attempts=1))
    assert second.demonstration_ids == ("one:0",)
    assert model.counts["known"] == (2 if use_known else 0)
    if use_known:
        model.predict([back])
        assert len(said.calls) == len(buffer.asked) == 1


@pytest.mark.parametrize(("bad", "counted"), [(GARBAGE, "unparsed"), (ENDED, "contradictions")])
def test_what_cannot_be_is_drawn_again(bad: str, counted: str) -> None:
    model, said = model_of([bad, bad, GOOD], temperature=0.0)
    (result,) = model.predict([SEARCH])
    assert isinstance(result, Prediction)
    assert result.attempts == 3
    assert dict(model.counts) == {"steps": 1, "known": 0, "completions": 3, counted: 2, "failed": 0}
    assert [one.temperature for one in said.samplings] == [0.0, 0.5, 0.5]  # a greedy retry would say the same
    assert said.calls[0] == said.calls[2]


def test_what_is_open_has_its_own_temperature() -> None:
    """A search is open, an item page is not; each batch of one temperature keeps the order of the answers."""
    model, said = model_of(lambda call, row, _: GARBAGE, temperature=0.0, open_temperature=1.0, attempts=2)
    opened = StepContext(
        TASK, (Transition(TASK, 0, SEARCH_STATE, "search[rug]", LISTING),), LISTING, "click[B000000RUG]"
    )
    model.predict([SEARCH, opened, SEARCH])
    drawn = [(one.temperature, len(call)) for one, call in zip(said.samplings, said.calls, strict=True)]
    assert drawn == [(1.0, 2), (0.0, 1), (1.0, 2), (0.5, 1)]
    with pytest.raises(ValueError, match="`open_temperature` must be >= 0, got -1"):
        ExperienceConfig(open_temperature=-1)


@pytest.mark.parametrize("brief", [True, False])
def test_what_is_known_may_stand_in_brief(brief: bool) -> None:
    back = Transition(TASK, 1, LISTING, "click[Back to Search]", SEARCH_STATE)
    history = (Transition(TASK, 0, SEARCH_STATE, "search[rug]", LISTING, reasoning_trace="searched"), back)
    model, said = model_of([], brief_known=brief)
    (again,) = model.predict([StepContext(TASK, history, SEARCH_STATE, "search[rug]")])
    assert isinstance(again, Prediction)
    assert (again.next_state, again.attempts, said.calls) == (LISTING, 0, [])
    assert ("Seen before" in again.prompt, again.reasoning_trace == "searched") == (not brief, not brief)
    assert again.prompt.endswith('Action: "search[rug]"')


def test_one_broken_step_does_not_kill_the_batch() -> None:
    def script(call: int, row: int, conversation: Conversation) -> str | Completion:
        asked = conversation[-1]["content"]
        if "broken" in asked:
            return Completion("", "error", error="the server is gone")
        return ENDED if "lies" in asked else GARBAGE if "mumbles" in asked else GOOD

    model, _ = model_of(script, attempts=2)
    words = ("fine", "broken", "lies", "mumbles", "good")
    results = model.predict([StepContext(TASK, (), SEARCH_STATE, f"search[{word}]") for word in words])
    assert [type(one) for one in results] == [Prediction, ParseError, ParseError, ParseError, Prediction]
    assert results[1] == ParseError("the server is gone", "", 2)
    assert results[2] == ParseError("an episode ends with click[Buy Now] and only there", ENDED, 2)
    assert isinstance(results[3], ParseError)
    assert results[3].text == GARBAGE
    counts = {
        "model_errors": 2,
        "contradictions": 2,
        "unparsed": 2,
        "failed": 3,
        "steps": 5,
        "known": 0,
        "completions": 8,
    }
    assert dict(model.counts) == counts


def test_retries_are_explained_only_where_asked() -> None:
    model, said = model_of(
        [ENDED, Completion("", "error", error="gone"), GARBAGE, GOOD], attempts=4, explain_retries=True
    )
    (result,) = model.predict([SEARCH])
    assert isinstance(result, Prediction)
    first, second, third, fourth = (call[0] for call in said.calls)
    told = {
        "role": "user",
        "content": "That cannot be: an episode ends with click[Buy Now] and only there\nAnswer again.",
    }
    assert second == [*first, {"role": "assistant", "content": ENDED}, told]
    assert third == second  # nothing was said, so there is nothing to explain
    assert [message["role"] for message in fourth[-2:]] == ["assistant", "user"]
    assert fourth[-2]["content"] == GARBAGE
    assert result.prompt == 'Action: "search[rug]"'  # retries are no part of the episode


def test_mechanisms_can_be_switched_off() -> None:
    lines = ItemPage("Alpha rug", "$24.99")
    clicked = StepContext(TASK, (), LISTING, "click[b000000rug]")
    model, said = model_of([answer("", render(lines), 0.0, False)])
    model.predict([clicked])
    asked = said.calls[0][0][-1]["content"]
    assert asked.endswith('Seen before:\n[B000000RUG] Alpha rug | $24.99\nAction: "click[B000000RUG]"')
    plain, said = model_of([ENDED], use_recall=False, use_contradictions=False)
    (result,) = plain.predict([clicked])
    assert isinstance(result, Prediction)
    assert result.reward == 1.0
    assert "Seen before" not in said.calls[0][0][-1]["content"]


def test_what_the_domain_can_mend_is_not_drawn_again() -> None:
    """A thing listed twice is struck out; another place than was gone to cannot be mended and is drawn again."""
    room = "You are in the middle of a room. Looking quickly around you, you see a bed 1, and a desk 1."
    asked = StepContext(Task("t", "alfworld", "put a book in desk", room), (), room, "go to desk 1")
    view = "You arrive at {}. On the {}, you see a pen 2, and a pen {}."
    said = [answer("", view.format(*words), 0.0, False) for words in (("bed 1", "bed 1", 2), ("desk 1", "desk 1", 2))]

    def predicted(**settings: bool) -> tuple[object, dict[str, int]]:
        script = Scripted(lambda call, *_: said[call])
        model = ExperienceModel(script, ALFWORLD, None, ExperienceConfig(top_k=0, attempts=2, **settings))
        (found,) = model.predict([asked])
        return getattr(found, "next_state", None), dict(model.counts)

    text, counts = predicted()
    assert text == "You arrive at desk 1. On the desk 1, you see a pen 2."
    assert (counts["mended"], counts["contradictions"], counts["failed"]) == (1, 1, 0)
    text, counts = predicted(use_mending=False)
    assert text is None
    assert (counts.get("mended"), counts["contradictions"], counts["failed"]) == (None, 2, 1)


def episode_of(steps: int) -> StepContext:
    """An episode that has opened page after page, and its next action."""
    states = [SEARCH_STATE, *(render(ResultsPage(n, 99, (Row(f"B{n}", f"Rug {n}", "$2.00"),))) for n in range(1, 99))]
    actions = ["search[rug]", *["click[Next >]"] * 99]
    past = [
        Transition(TASK, n, states[n], actions[n], states[n + 1], prompt=f'Action: "{actions[n]}"')
        for n in range(steps)
    ]
    return StepContext(TASK, tuple(past), states[steps], actions[steps])


def test_a_conversation_that_is_too_long_leaves_its_first_steps_out() -> None:
    asked: list[int] = []

    def script(call: int, row: int, conversation: Conversation) -> Completion | str:
        pages = sum(message["role"] == "assistant" for message in conversation)
        asked.append(pages)
        if pages > 5:
            return Completion("", "error", error="too long", overflow=True)
        assert "Page 4 (" in conversation[1]["content"]  # as if it had begun there
        assert "Task: Find me rugs" in conversation[1]["content"]
        return answer("", render(ResultsPage(10, 99, (Row("BX", "Last rug", "$2.00"),))), 0.0, False)

    model, _ = model_of(script, use_known=False, use_recall=False)
    first, second = model.predict([episode_of(9), episode_of(9)])
    assert isinstance(first, Prediction)
    assert first == second
    assert first.attempts == 1
    assert asked == [9, 9, 8, 8, 7, 7, 5, 5]  # without 1, 2 and 4 of nine
    assert model.counts["shortened"] == 2
    assert model.counts["failed"] == 0


def test_a_step_that_is_too_long_by_itself_is_given_up() -> None:
    model, said = model_of(lambda *_: Completion("", "error", error="too long", overflow=True), use_known=False)
    (result,) = model.predict([episode_of(3)])
    assert isinstance(result, ParseError)
    assert result.reason == "too long"
    assert [len(call[0]) for call in said.calls] == [8, 6, 4, 2, 2, 2]  # all three attempts, the past left out once
    assert (model.counts["shortened"], model.counts["failed"]) == (1, 1)


def test_another_configuration_of_the_same_model() -> None:
    model, said = model_of([GARBAGE, GARBAGE, GARBAGE, GARBAGE])
    model.predict([SEARCH])
    once = model.with_config(attempts=1, use_recall=False)
    assert (once.config.attempts, once.config.use_recall, model.config.attempts) == (1, False, 3)
    assert once.language_model is said
    once.predict([SEARCH])
    assert once.counts["completions"] == 1
    assert model.counts["completions"] == 3
    with pytest.raises(TypeError, match="retries"):
        model.with_config(retries=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"top_k": -1}, "top_k"), ({"attempts": 0}, "attempts"), ({"temperature": -0.1}, "temperature")],
)
def test_wrong_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"`{message}` must be >= "):
        ExperienceConfig(**settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def buffer() -> Iterator[ReplayBuffer]:
    with ReplayBuffer("memory", domain="webshop", name="experience-model") as buffer:
        buffer.add([play(task, policy) for task in tasks_of("train", 4) for policy in ("oracle", "careless-0.5")])
        yield buffer


def test_demonstrations_come_from_a_real_buffer(buffer: ReplayBuffer) -> None:
    script = lambda call, row, conversation: GOOD  # noqa: E731
    said = Scripted(script)
    model = ExperienceModel(said, WEBSHOP, buffer, ExperienceConfig(top_k=2))
    item = play(tasks_of("train", 4)[0]).transitions[-2]
    results = model.predict([SEARCH, StepContext(TASK, (), item.next_state, "click[Buy Now]")])
    asked = [conversation[-1]["content"] for conversation in said.calls[0]]
    assert all(text.count("Action: ") == 3 and "Similar steps:\n" in text for text in asked)
    assert asked[1].count("Outcome: ") == 2  # a purchase is shown purchases
    assert asked[0].rindex("Action: ") > asked[0].rindex("Total results")  # the question stands last
    (found,) = [one for one in results if isinstance(one, Prediction)]
    assert len(set(found.demonstration_ids)) == 2
    assert all(one.rpartition(":")[0] for one in found.demonstration_ids)
    assert "Similar steps" not in _asked_without(model, said)


def _asked_without(model: ExperienceModel, said: Scripted) -> str:
    model.with_config(top_k=0).predict([SEARCH])
    return said.calls[-1][0][-1]["content"]


def test_the_same_question_gets_the_same_demonstrations(buffer: ReplayBuffer) -> None:
    model = ExperienceModel(ShopModel(), WEBSHOP, buffer, ExperienceConfig(top_k=3))
    task = tasks_of("train", 4)[1]
    context = StepContext(task, (), SEARCH_STATE, play(task).transitions[0].action)
    first, second = (model.predict([context])[0] for _ in range(2))
    assert isinstance(first, Prediction)
    assert first == second
    assert first.next_state == play(task).transitions[0].next_state
