"""Held-out measures: shares of a list made by hand, and of a model that is always right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dreamed_shop import Scripted, ShopModel, play, tasks_of

from dreamgym_env.domains.webshop import WEBSHOP
from dreamgym_env.domains.webshop_pages import DONE_STATE, SEARCH_STATE, ItemPage, ResultsPage, Row, render
from dreamgym_env.experience_model import ExperienceConfig, ExperienceModel
from dreamgym_env.trainers import measure as measuring
from dreamgym_env.trainers.intervals import Share
from dreamgym_env.trainers.measure import MeasureConfig, held_out, measure, show, summarise
from dreamgym_env.trajectories import write_trajectories
from dreamgym_env.types import ParseError, Prediction, StepContext, Task, Transition

TASK = Task("t", "webshop", "Find me rugs, and price lower than 30.00 dollars", SEARCH_STATE, split="held_out")
LISTING = render(ResultsPage(1, 1, (Row("B000000RUG", "Alpha rug", "$24.99"),)))
ITEM = ItemPage("Alpha rug", "$24.99", options=(("color", ("navy", "red")),))
CHOSEN = replace(ITEM, chosen=(("color", "red"),))
Found = tuple[StepContext, Transition, Prediction | ParseError]


def found(state: str, action: str, truth: str, said: str | None, rewards: tuple[float, float] | None = None) -> Found:
    """A measured step; `said` None is a parse error, `rewards` are (true, predicted) at an end."""
    true, predicted = rewards or (0.0, 0.0)
    step = Transition(TASK, 0, state, action, truth, true, rewards is not None)
    result = ParseError("r", "") if said is None else Prediction("", said, predicted, rewards is not None)
    return StepContext(TASK, (), state, action), step, result


BUY = (render(CHOSEN), "click[Buy Now]", DONE_STATE)
OPENED = (LISTING, "click[B000000RUG]", render(ITEM))
CHOSE = (render(ITEM), "click[red]", render(CHOSEN))
LIST = [
    found(SEARCH_STATE, "search[rug]", LISTING, LISTING),
    found(SEARCH_STATE, "search[rug]", LISTING, None),
    found(*OPENED, render(ITEM)),
    found(*OPENED, render(replace(ITEM, price="$2.00"))),
    found(*OPENED, render(replace(ITEM, options=()))),
    found(*CHOSE, render(CHOSEN)),
    found(*CHOSE, render(ITEM)),
    found(*BUY, DONE_STATE, (1.0, 1.0)),
    found(*BUY, DONE_STATE, (1.0, 0.0)),
    found(*BUY, None, (1.0, 0.0)),
    found(*BUY, DONE_STATE, (0.0, 1.0)),
    found(*BUY, DONE_STATE, (0.0, 0.0)),
]


def test_shares_of_a_list_made_by_hand() -> None:
    measures = summarise(WEBSHOP, LIST)
    assert measures.parsed == Share(10, 12)
    assert measures.exact_state == Share(1 + 1 + 1 + 4, 12)
    assert measures.success_precision == Share(1, 2)
    assert measures.success_recall == Share(1, 3)
    assert measures.by_action == {
        "buy": Share(4, 5), "choose option": Share(1, 2), "open item": Share(1, 3), "search": Share(1, 2),
    }  # fmt: skip
    assert measures.details == {
        "chosen options": Share(1, 2), "item title and price": Share(4, 5), "offered options": Share(2, 3),
    }  # fmt: skip


def test_impossible_and_nothing() -> None:
    context, step, result = found(LISTING, "click[Buy Now]", LISTING, LISTING)
    measures = summarise(WEBSHOP, [(context, replace(step, possible=False), result)])
    assert measures.by_action == {"impossible": Share(1, 1)}
    empty = summarise(WEBSHOP, [])
    assert (empty.parsed, empty.success_recall.rate) == (Share(0, 0), None)


@pytest.mark.parametrize("policy", ["oracle", "random"])
def test_a_model_that_is_always_right_measures_one(policy: str) -> None:
    model = ShopModel()
    experience = ExperienceModel(
        model, WEBSHOP, None, ExperienceConfig(top_k=0, attempts=1, use_known=False, use_contradictions=False)
    )
    episodes = [play(task, policy, 3) for task in tasks_of("held_out", 3)]
    measures = measure(experience, episodes, batch=5)
    steps = sum(len(one.transitions) for one in episodes)
    shares = [measures.parsed, measures.exact_state, *measures.by_action.values(), *measures.details.values()]
    assert measures.parsed.n == steps == sum(share.n for share in measures.by_action.values())
    assert all(share.rate == 1.0 for share in shares)
    assert max(model.batches) == 5
    if policy == "oracle":
        assert measures.success_precision == measures.success_recall == Share(3, 3)


def test_as_dreamed_rules_and_what_is_known_answer_too() -> None:
    """A model that only mumbles is right where it is not asked; by itself it is right nowhere."""
    episodes = [play(task, "random", 3) for task in tasks_of("held_out", 3)]
    mumbler = Scripted(lambda *_: "mumble")

    def measured(as_dreamed: bool) -> measuring.Measures:
        config = ExperienceConfig(top_k=0, attempts=1, use_known=as_dreamed, use_contradictions=False)
        return measure(ExperienceModel(mumbler, WEBSHOP, None, config), episodes, as_dreamed)

    assert measured(False).parsed.count == 0
    dreamed = measured(True)
    assert dreamed.by_action["impossible"].rate == 1.0
    asked = [len(call) for call in mumbler.calls[len(mumbler.calls) // 2 :]]
    assert dreamed.parsed.count == dreamed.exact_state.count == dreamed.parsed.n - sum(asked) > 0


def test_task_variations_are_counted_by_what_is_wrong_with_them() -> None:
    tasks = [*tasks_of("train", 4), *tasks_of("held_out", 1)]
    new = "<task>Find me green hats, and price lower than 30.00 dollars</task>"
    leaked = f"<task>{tasks[-1].instruction}</task>"
    said = Scripted(lambda _, row, __: (new, "mumble", leaked, "<task>Find me hats</task>")[row])
    report = measuring.measure_variations(ExperienceModel(said, WEBSHOP), tasks, 4)
    assert report == {
        "usable": {"count": 1, "n": 4},
        "rejections": {"unparsed": 1, "duplicate": 1, "invalid": 1},
        "examples": ["Find me green hats, and price lower than 30.00 dollars"],
    }


def test_only_held_out_tasks_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    held = [play(task) for task in tasks_of("held_out", 3)]
    train = [play(task) for task in tasks_of("train", 3)]
    write_trajectories(file, [*train, *held])
    assert held_out(MeasureConfig(data=(file,))) == held
    assert held_out(MeasureConfig(data=(file,), steps=1)) == held[:1]
    assert held_out(MeasureConfig(data=(file, file), steps=10_000)) == held * 2
    write_trajectories(file, train)
    with pytest.raises(ValueError, match="`data` must hold trajectories of held-out tasks, got none"):
        held_out(MeasureConfig(data=(file,)))


def test_the_command_asks_greedily_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Through the endpoint spelling of a model, here bound to one that mumbles."""
    said = Scripted(lambda *_: "mumble")
    monkeypatch.setattr("dreamgym_env.loading._language_model", lambda spec: said)
    file = tmp_path / "data.jsonl"
    write_trajectories(file, [play(task) for task in tasks_of("held_out", 2)])
    output = tmp_path / "reports" / "measure.json"
    report = measuring.main(MeasureConfig(data=(file,), model="openai:x@http://x", top_k=0, output=output))
    assert report["parsed"] == {"count": 0, "n": report["exact_state"]["n"]}
    assert json.loads(output.read_text(encoding="utf-8")) == report
    assert {one.temperature for one in said.samplings} == {0.0}
    assert sum(len(call) for call in said.calls) == report["parsed"]["n"]
    assert "parsed" in capsys.readouterr().out
    said.calls.clear()
    dreamed = measuring.main(MeasureConfig(data=(file,), model="openai:x@http://x", top_k=0, as_dreamed=True))
    in_vain = dreamed["parsed"]["n"] - dreamed["parsed"]["count"]
    assert sum(len(call) for call in said.calls) == ExperienceConfig().attempts * in_vain > 0
    show(summarise(WEBSHOP, LIST))
    assert "10/12 = 0.833 [0.552, 0.953]" in capsys.readouterr().out
