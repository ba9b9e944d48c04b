"""A world that is a file: its grammar, rules and mistakes, and the dream of it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from dreamed_shop import Scripted
from own_worlds import CELLAR, HALL, HOUSE, LIT, LampModel, context, house_file, lamp_folder, make_lamp

from dreamgym_env.domain import Action, Domain, load_domain
from dreamgym_env.domains.declared import DeclaredDomain
from dreamgym_env.domains.declared_grammar import Grammar, Pattern
from dreamgym_env.domains.declared_rules import lines_about
from dreamgym_env.loading import assets_of, forget_grown_buffers, starting_policy
from dreamgym_env.prompts import answer
from dreamgym_env.trainers.pools import open_pool
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import DataError, Prediction, Task, Trajectory


@pytest.fixture
def house(tmp_path: Path) -> DeclaredDomain:
    found = load_domain(house_file(tmp_path))
    assert isinstance(found, DeclaredDomain)
    return found


def said(state: str, reward: float = 0.0, terminated: bool = False) -> Prediction:
    return Prediction("", state, reward, terminated)


def test_it_is_a_domain(house: DeclaredDomain) -> None:
    assert isinstance(house, Domain)
    assert (house.name, house.horizon, house.outcomes) == ("house", 12, ("success",))
    assert "take <thing>" in house.agent_instruction
    assert "<action></action>" in house.agent_instruction
    assert "one of: continue, success. Success comes with take {thing} only." in house.experience_instruction
    assert "<task></task>" in house.task_instruction


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("go north", Action("go", "north", "go north")),
        ("  GO   North ", Action("go", "north", "go north")),
        ("open door to EAST", Action("open door to", "east", "open door to east")),
        ("take red ball", Action("take", "red ball", "take red ball")),
        ("say [it's {x} <b>]", Action("say", "it's {x} <b>", "say [it's {x} <b>]")),
        ("go up", None),
        ("go", None),
        ("take", None),
        ("please go north", None),
        ("take " + "x" * 3000, None),
        ("", None),
    ],
)
def test_actions_are_read(house: DeclaredDomain, action: str, expected: Action | None) -> None:
    assert house.parse_action(HALL, action) == expected
    if expected:
        assert house.parse_action(HALL, expected.text) == expected


def test_the_longer_pattern_is_meant() -> None:
    grammar = Grammar((Pattern("take {thing}"), Pattern("take {thing} from {place}"), Pattern("click[{text}]")))
    read = grammar.read("take red apple from box from hell")
    assert read is not None
    assert (read[0].text, read[1]) == ("take {thing} from {place}", {"thing": "red apple", "place": "box from hell"})
    assert grammar.parse("click[Buy Now]") == Action("click", "Buy Now", "click[Buy Now]")
    for wrong in ("", "take {thing", "put {a} on {a}", "x {1}"):
        with pytest.raises(ValueError, match="an action must"):
            Pattern(wrong)


def test_what_a_state_offers(house: DeclaredDomain) -> None:
    assert house.available_actions(HALL, ()) == ["go north", "open door to east", "say [<words>]"]
    assert house.available_actions(CELLAR, ()) == ["go south", "take ball", "say [<words>]"]
    can = {
        action: house.is_possible(context(state=HALL, action=action), parsed)
        for action in ("go north", "go east", "open door to east", "close door to east", "take ball", "say [hello]")
        if (parsed := house.parse_action(HALL, action))
    }
    assert [action for action, possible in can.items() if possible] == ["go north", "open door to east", "say [hello]"]
    assert house.impossible_response(HALL, "go east") == HALL


def test_lists_are_split_and_spelled_as_the_state_does(tmp_path: Path) -> None:
    world = load_domain(house_file(tmp_path, available="[{find: '^You can: (.*)$', split: ', '}]"))
    state = "A room.\nYou can: go north, take Green Hat, dance."
    assert world.available_actions(state, ()) == ["go north", "take Green Hat"]
    assert world.parse_action(state, "take green hat") == Action("take", "Green Hat", "take Green Hat")


def test_a_fixed_answer_hides_no_action(tmp_path: Path) -> None:
    world = load_domain(house_file(tmp_path, impossible="Nothing happens."))
    step = (HALL, "go east", "Nothing happens.")
    after = context(step, step, state="Nothing happens.", action="go north", possible=(False, False))
    assert world.available_actions(after.state, after.history) == world.available_actions(HALL, ())
    assert world.is_possible(after, Action("go", "north", "go north"))
    assert world.impossible_response(HALL, "x") == "Nothing happens."


def test_recorded_actions_need_names_that_were_shown(tmp_path: Path) -> None:
    (tmp_path / "trajectories.jsonl").write_bytes((lamp_folder() / "trajectories.jsonl").read_bytes())
    text = "name: flat\ndescription: a flat\nactions: ['switch on {thing}', 'go to {room}', 'say [{words}]']\n"
    world = load_domain(house_file(tmp_path, text, placeholders="{words: free}", available="recorded"))
    state = "You are in the hall. A lamp and a LAMPSHADE are here."
    assert world.available_actions(state, ()) == ["switch on lamp", "go to hall"]
    for action, possible in (("switch on lamp", True), ("switch on shade", False), ("say [hello]", True)):
        parsed = world.parse_action(state, action)
        assert parsed is not None
        assert world.is_possible(context(state=state, action=action), parsed) is possible


def test_recall_shows_the_room_that_an_action_leads_to(house: DeclaredDomain) -> None:
    walk = context((HALL, "go north", CELLAR), state=CELLAR, action="go south")
    assert house.recall(walk) == [*HALL.split("\n"), "To the south lies the hall."]
    assert house.recall(context(state=HALL, action="go north")) == ["To the north lies the cellar."]
    assert house.recall(context(state=HALL, action="say [cellar]")) == []
    assert house.recall(context(state=HALL, action="gibberish")) == []


def test_long_lines_are_recalled_sentence_by_sentence() -> None:
    state = "There is a stove. " * 10 + "A box stands here! The boxer left. Is it a BOX?"
    assert lines_about(["box"], [state, "a box"]) == ["A box stands here!", "Is it a BOX?", "a box"]
    assert lines_about(["box"], [f"box {i}" for i in range(20)]) == [f"box {i}" for i in range(8)]
    assert lines_about([""], ["a"]) == []


def test_what_was_shown_is_known_until_a_door_moves(house: DeclaredDomain) -> None:
    walk = (HALL, "go north", CELLAR)
    back = context(walk, state=CELLAR, action="go south")
    assert house.known(back) == Prediction("", HALL, 0.0, False, attempts=0)
    again = context(walk, (CELLAR, "go south", HALL), state=HALL, action="GO north")
    assert house.known(again) == Prediction("", CELLAR, 0.0, False, attempts=0)
    opened = context(walk, (CELLAR, "go south", HALL), (HALL, "open door to east", LIT), state=LIT, action="go north")
    assert house.known(opened) is None
    refused = context(
        walk, (CELLAR, "open door to east", CELLAR), state=CELLAR, action="go south", possible=(True, False)
    )
    assert house.known(refused) is not None
    assert house.known(context(state=HALL, action="go north")) is None
    assert house.known(context(walk, state=CELLAR, action="take ball")) is None
    assert house.known(context(walk, state=CELLAR, action="go east")) is None
    assert house.is_open(context(state=HALL, action="go north"))
    assert not house.is_open(back)
    assert not house.is_open(context(state=HALL, action="say [hello]"))


def test_contradictions(house: DeclaredDomain) -> None:
    first = context(state=HALL, action="go north")
    assert house.contradiction(first, said(CELLAR)) is None
    assert house.contradiction(first, said("You are in the garden.")) == "a step leads into the room that is named"
    assert house.contradiction(first, said(" ")) == "the next state must not be empty"
    door = context(state=HALL, action="open door to east")
    assert house.contradiction(door, said(LIT)) is None
    reason = house.contradiction(door, said(LIT + "\nThe door to the East is broken."))
    assert reason == "must not show 'the east is broken'"
    closed = context(state=HALL, action="go east")
    assert house.contradiction(closed, said(HALL)) is None
    assert house.contradiction(closed, said(LIT)) == f"the action is impossible here, so it must show\n{HALL}"
    back = context((HALL, "go north", CELLAR), state=CELLAR, action="go south")
    assert house.contradiction(back, said(LIT)) == f"must show\n{HALL}"


def test_ends(house: DeclaredDomain) -> None:
    take, go = context(state=CELLAR, action="take ball"), context(state=HALL, action="go north")
    assert house.contradiction(take, said("You have it.", 1.0, True)) is None
    assert house.contradiction(take, said("You lost.", 0.0, True)) == "an episode ends with success or goes on"
    assert house.contradiction(go, said(CELLAR, 1.0, True)) == "success comes with take {thing} only"


@pytest.mark.parametrize(
    ("instruction", "problem"),
    [
        ("Find the ball.", None),
        ("find the box.", None),
        ("Find the cat.", "of the form"),
        ("", "one line"),
        ("Find\nit", "one line"),
        ("x" * 1001, "one line"),
    ],
)
def test_tasks(house: DeclaredDomain, instruction: str, problem: str | None) -> None:
    found = house.task_problem(Task("t", "house", instruction, HALL))
    assert (found is None) if problem is None else (problem in str(found))


MISTAKES = [
    ({"name": "webshop"}, r"`name` must be one word .* got 'webshop'"),
    ({"name": "my world"}, r"`name` must be one word"),
    ({"horizon": "0"}, r"`horizon` must be a number of steps >= 1, got 0"),
    ({"horizon": "yes"}, r"`horizon` must be a number of steps >= 1, got True"),
    ({"description": "3"}, r"`description` must be a text, got 3; put it in quotes"),
    ({"actions": "[]"}, r"`actions` must hold at least one text"),
    ({"actions": "[look, no]"}, r"`actions` must be a text, got False; put it in quotes"),
    ({"actions": "[look, Look]"}, r"`actions` must hold each pattern once"),
    ({"placeholders": "{colour: [red]}"}, r"`placeholders` names \['colour'\], which no action has"),
    ({"avalable": "grammar"}, r"unknown key 'avalable'; do you mean 'available'\?"),
    ({"available": "all"}, r"`available` must be 'grammar', 'recorded' or a list of rules, got 'all'"),
    ({"available": "[{find: x}]"}, r"`available` must hold `always`, `find` with `action`"),
    ({"available": "[{find: '(', action: go}]"}, r"`available: find` '\(' is no regular expression"),
    ({"available": "[{find: x, action: 'go {way}'}]"}, r"names \{way\}, which nothing binds; known here: \[\]"),
    ({"available": "[{find: x, split: ','}]"}, r"must have a group"),
    ({"recall": "[{when: fly, show: x}]"}, r"`recall: when` must be one of `actions`, .*got 'fly'"),
    ({"recall": "[{show: '{place}'}]"}, r"names \{place\}, which nothing binds"),
    ({"known": "{repeats: true}"}, r"`known` must list as `changing`"),
    ({"known": "{changing: [], repeats: 1}"}, r"`known: repeats` must be true or false, got 1"),
    ({"contradictions": "[{when: 'take {thing}'}]"}, r"must say what a next state `must` or `never` shows"),
    ({"contradictions": "[{must: x, why: y}]"}, r"`contradictions` takes .*, got \['why'\]"),
    ({"outcomes": "[draw]"}, r"`outcomes` must be some of"),
    ({"ends": "{failure: 'take {thing}'}"}, r"`ends` must give some of the outcomes \('success',\)"),
    ({"open": "[sleep]"}, r"`open` must be one of `actions`"),
    ({"task_form": "'('"}, r"`task_form` is no regular expression"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=lambda value: str(value)[:50])
def test_mistakes_are_told(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    path = house_file(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        load_domain(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is no YAML"),
        ("just words", "must be keys and values"),
        ("", "must be keys and values"),
        ("name: a\nname: b\n", "the key 'name' stands twice"),
        ("name: !!python/object/apply:os.system ['exit 1']", "is no YAML: could not determine a constructor"),
        (HOUSE.replace("name: house", ""), "`name` must be a text, got nothing"),
    ],
)
def test_files_that_are_no_worlds(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "world.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_domain(str(path))
    with pytest.raises(DataError, match=r"no world file at .*nowhere.yaml; `dreamgym new-world --out FOLDER`"):
        load_domain(str(tmp_path / "nowhere.yaml"))


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = house_file(tmp_path)
    assert load_domain(path) is load_domain(path)
    assert load_domain("house") is load_domain(path)
    before = load_domain(path)
    house_file(tmp_path, horizon="3")
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))
    assert (before.horizon, load_domain(path).horizon, load_domain("house").horizon) == (12, 3, 3)
    with pytest.raises(ValueError, match="the path of a world file"):
        load_domain("never-loaded")


HOOKS = """
from dreamgym_env.domains.declared import DeclaredDomain

class World(DeclaredDomain):
    def recall(self, context):
        return ["hooked", *super().recall(context)]

class Other: pass
"""


def test_hooks_run_only_where_they_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    (tmp_path / "hooks.py").write_text(trace + HOOKS, encoding="utf-8")
    path = house_file(tmp_path, hooks="hooks.py:World")
    with pytest.raises(DataError, match=r"`hooks` would run the Python code 'hooks.py:World'; where you trust it"):
        load_domain(path)
    with pytest.raises(DataError, match="trust_hooks=True"):
        gym.make("DreamGym-v0", domain=path)
    assert not (tmp_path / "ran").exists()
    world = load_domain(path, trust_hooks=True)
    assert (tmp_path / "ran").exists()
    assert world.recall(context(state=HALL, action="go north")) == ["hooked", "To the north lies the cellar."]
    monkeypatch.setenv("DREAMGYM_TRUST_HOOKS", "1")
    assert load_domain(path) is world
    for wrong, message in (
        ("hooks.py:Other", "must name a subclass of DeclaredDomain"),
        ("gone.py:World", "there is none at"),
        ("hooks.py", "must be 'package.module:Class'"),
    ):
        (tmp_path / wrong.partition(".")[0]).mkdir(exist_ok=True)
        with pytest.raises(DataError, match=message):
            load_domain(house_file(tmp_path / wrong.partition(".")[0], hooks=f"../{wrong}"), trust_hooks=True)


def test_the_dream_of_a_file_takes_what_lies_beside_it() -> None:
    env: Any = make_lamp().unwrapped
    assert [task.task_id for task in env.tasks] == ["lamp-0", "lamp-1"]
    assert len(env.experience_model.replay_buffer) > 0
    env.reset(seed=0, options={"task_id": "lamp-1"})
    *_, info = env.step("go to hall")
    assert info["demonstrations"]
    assert not any(one.startswith(("example-2", "example-3")) for one in info["demonstrations"])
    held_out: Any = make_lamp(split="held_out").unwrapped
    assert [task.task_id for task in held_out.tasks] == ["lamp-2", "lamp-3"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_shows_how_the_buffer_fills(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_grown_buffers()
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")  # Rich takes any output for a terminal
    make_lamp()
    assert ("filling the replay buffer of lamp" in capsys.readouterr().err) is terminal


def test_seed_tasks_may_be_those_of_the_trajectories(tmp_path: Path) -> None:
    for name in ("world.yaml", "trajectories.jsonl"):
        (tmp_path / name).write_bytes((lamp_folder() / name).read_bytes())
    env: Any = make_lamp(domain=str(tmp_path / "world.yaml")).unwrapped
    assert [task.task_id for task in env.tasks] == ["lamp-0", "lamp-1"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    path = house_file(tmp_path)
    with pytest.raises(ValueError, match=r"`domain` must be one of .*the path of a world file"):
        gym.make("DreamGym-v0")
    with pytest.raises(ValueError, match="`tasks` must be given: the world 'house' has neither"):
        gym.make("DreamGym-v0", domain=path)
    task = Task("house-1", "house", "Find the ball.", HALL)
    with pytest.raises(ValueError, match="`experience_model` must be given: the world file of 'house'"):
        gym.make("DreamGym-v0", domain=path, tasks=[task])
    model = Scripted(lambda *_: answer("", CELLAR, 0.0, False))
    with pytest.raises(ValueError, match="`replay_buffer` must be given: the world 'house'"):
        gym.make("DreamGym-v0", domain=path, tasks=[task], experience_model=model)
    env = gym.make("DreamGym-v0", domain=path, tasks=[task], experience_model=model, top_k=0)
    env.reset(seed=0)
    assert env.step("go north")[0] == CELLAR
    assert env.step("go south")[0] == HALL
    assert len(model.calls) == 1


def test_models_lie_beside_the_file_or_elsewhere(tmp_path: Path) -> None:
    world = load_domain(house_file(tmp_path, model="runs/experience", policy="hf:org/name"))
    assert assets_of(world).experience_model == str(tmp_path / "runs" / "experience")
    assert starting_policy(world) == "org/name"
    remote = load_domain(house_file(tmp_path.parent, HOUSE, model="openai:m@http://h/v1"))
    assert assets_of(remote).experience_model == "openai:m@http://h/v1"
    with pytest.raises(ValueError, match="`policy` must be given: the world file of 'house' has no key `policy`"):
        starting_policy(remote)


def test_many_dreams_at_once() -> None:
    settings = {"domain": str(lamp_folder() / "world.yaml"), "top_k": 0}
    pool = open_pool("DreamGym-v0", 2, experience_model=LampModel(), **settings)
    assert (pool.domain.name, pool.source, pool.horizon) == ("lamp", "dream", 10)
    pool.reset([0, 1], pool.tasks)
    results = pool.step([0, 1], ["switch on lamp", "open window"])
    assert [result[1:3] for result in results] == [(1.0, True), (0.0, False)]
    assert results[1][0] == "Nothing happens."


def elsewhere() -> list[Trajectory]:
    """The example's episodes, of a world that no process knows by its name."""
    found = []
    for one in read_trajectories(lamp_folder() / "trajectories.jsonl"):
        task = replace(one.task, domain="elsewhere")
        steps = tuple(replace(step, task=task) for step in one.transitions)
        found.append(replace(one, task=task, transitions=steps))
    return found


def test_a_policy_is_taught_with_the_files_instruction() -> None:
    pytest.importorskip("torch")
    from guessing_world import make_tokenizer

    from dreamgym_env.trainers.sft import SFTConfig
    from dreamgym_env.trainers.sft_data import load_demonstrations

    config = SFTConfig("model", ("episodes.jsonl",), "out", domain=str(lamp_folder() / "world.yaml"))
    found = load_demonstrations(config, make_tokenizer(), elsewhere())
    assert (len(found.train), len(found.held_out)) == (2, 2)
    with pytest.raises(ValueError, match="the path of a world file"):
        load_demonstrations(replace(config, domain=None), make_tokenizer(), elsewhere())


def test_a_teacher_is_shown_the_files_instruction(tmp_path: Path) -> None:
    from dreamgym_env.trainers.annotate import AnnotateConfig, annotate_with_teacher

    path = str(lamp_folder() / "world.yaml")
    teacher = Scripted(lambda *_: "because")
    config = AnnotateConfig(tmp_path / "in.jsonl", tmp_path / "out.jsonl", domain=path)
    found = annotate_with_teacher(config, elsewhere(), teacher)
    assert all(step.reasoning_trace == "because" for one in found if one for step in one.transitions)
    shown = [conversation[1]["content"] for conversation in teacher.calls[0]]
    assert len(shown) == 10
    assert all(f"World: {load_domain(path).experience_instruction}\n" in text for text in shown)
