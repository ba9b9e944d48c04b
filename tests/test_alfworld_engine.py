"""The fast engine says what the stock engine says, word for word; generated games can be won and repeated."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import COUNTS, generated_games, official_data

pytest.importorskip("alfworld", reason="needs dreamgym-env[alfworld]")

import textworld

from dreamgym_env.types import DataError
from dreamgym_env.wrappers.alfworld import benchmark, translation
from dreamgym_env.wrappers.alfworld.engine import Engine, split_intro
from dreamgym_env.wrappers.alfworld.fast import FastPddlEnv
from dreamgym_env.wrappers.alfworld.games import (
    KINDS,
    Game,
    Kind,
    find_games,
    first_look,
    official_root,
    official_splits,
    read_game,
    read_kinds,
)
from dreamgym_env.wrappers.alfworld.generate import GenerateConfig, game_folder, generate
from dreamgym_env.wrappers.alfworld.grammar import FastGrammar
from dreamgym_env.wrappers.alfworld.oracle import Situation, next_action


def games(split: Any = "all") -> tuple[Game, ...]:
    return find_games(generated_games(), official_splits(split), KINDS)


def compare(game: Game, steps: int, rng: random.Random) -> int:
    """Plays random and oracle commands in both engines; every text, list, fact and flag must be the same."""
    infos = textworld.EnvInfos(won=True, admissible_commands=True, facts=True)
    stock, fast = benchmark.stock_engine(), FastPddlEnv(infos)
    stock.request_infos.facts = True
    helper = Engine()
    helper.begin(game.path)
    states = []
    for engine in (stock, fast):
        engine.load(str(game.path))
        states.append(engine.reset())
    for number in range(steps):
        for key in ("feedback", "raw", "admissible_commands", "won", "lost", "score", "done", "command_templates"):
            assert states[0].get(key) == states[1].get(key), (game.task_id, number, key)
        assert sorted(map(str, states[0]["facts"])) == sorted(map(str, states[1]["facts"]))
        if states[0]["won"]:
            break
        command = next_action(Situation.of(helper), game.goal)
        if rng.random() < 0.7:
            command = rng.choice([*states[0]["admissible_commands"], "go to nowhere 1", " look "])
        helper.act(command)
        states = [engine.step(command)[0] for engine in (stock, fast)]
    helper.close()
    fast.close()
    return number + 1


def test_same_words_as_the_stock_engine() -> None:
    """Of two task types; the slow test below has all six."""
    chosen = {game.kind: game for game in games("train")}
    kinds: tuple[Kind, ...] = ("look_at_obj_in_light", "pick_heat_then_place_in_recep")
    assert sum(compare(chosen[kind], 7, random.Random(0)) for kind in kinds) >= 12


@pytest.mark.slow
def test_same_words_as_the_stock_engine_for_longer() -> None:
    assert {game.kind for game in games("train")} == set(KINDS)
    steps = sum(compare(game, 50, random.Random(number)) for number, game in enumerate(games("all")))
    assert steps >= 300


def test_same_words_in_an_official_game() -> None:
    (game,) = find_games(official_data(), ("train",), KINDS)
    assert compare(game, 8, random.Random(1)) > 5
    assert read_game(game.path, "train").goal.thing == "potato"


def test_the_benchmark_counts_no_difference() -> None:
    figures = benchmark.main(benchmark.BenchmarkConfig(Path(generated_games()), games=1, steps=2, processes=2))
    assert figures["sync steps/s"] > 0
    assert figures["async steps/s"] > 0
    assert figures["steps"] == 2
    assert figures["steps that differ"] == 0
    with pytest.raises(ValueError, match="`steps` must be >= 1"):
        benchmark.BenchmarkConfig(steps=0)


def test_first_texts_are_known_without_an_engine() -> None:
    engine = Engine()
    for game in (games("train")[0], *find_games(official_data(), ("train",), KINDS)):
        assert split_intro(engine.begin(game.path)) == (game.initial_state, game.instruction)
    engine.close()
    with pytest.raises(ValueError, match="must begin with its banner"):
        split_intro("You are in a maze.")


def test_a_start_before_a_receptacle_is_read() -> None:
    problem = "(:init (receptacleAtLocation Bed_bar_1 l1) (atLocation agent1 l1) ) (:goal x)"
    assert first_look(problem) == "You are facing the bed 1. Next to it, you see nothing."
    with pytest.raises(ValueError, match="no receptacle or no agent"):
        first_look("(:init (atLocation agent1 l1) ) (:goal x)")


def test_a_translation_is_made_once_kept_and_made_again_where_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = json.loads(games()[0].path.read_text(encoding="utf-8"))
    monkeypatch.setenv("DREAMGYM_CACHE", str(tmp_path / "cache"))
    problem = data["pddl_domain"], data["pddl_problem"]
    translation.translate.cache_clear()
    made = translation.translate(*problem)
    (file,) = (tmp_path / "cache").rglob("*.json.gz")
    assert file == translation.kept_file(*problem)
    whole = file.read_bytes()

    def again() -> translation.Translation:
        translation.translate.cache_clear()
        return translation.translate(*problem)

    with monkeypatch.context() as patch:
        patch.setattr(translation, "translate_anew", None)  # from the file alone
        assert again() == made
    spoilt = whole[:200] + bytes(byte ^ 255 for byte in whole[200:260]) + whole[260:]
    for damaged in (
        b"",
        spoilt,
        whole[: len(whole) // 2],
        b"no archive",
        gzip.compress(b"[]"),
        gzip.compress(b'{"sas": 3}'),
    ):
        file.write_bytes(damaged)
        assert again() == made
        assert file.read_bytes() == whole
    monkeypatch.setenv("DREAMGYM_CACHE", str(file))  # a file, so that nothing can be kept below it
    assert again() == made
    assert len(list(file.parent.iterdir())) == 1


def test_expressions_in_a_grammar_run_no_code() -> None:
    grammar = FastGrammar()
    with pytest.raises(ValueError, match="may add names and strings"):
        grammar.derive("{__import__('os').getcwd()}", {"variables": {}})
    engine = Engine()
    engine.begin(games("train")[0].path)
    with pytest.raises(NotImplementedError, match="keeps no planner"):
        engine._env._pddl_state.replan({})
    engine.close()


def test_games_of_all_types_in_rooms_that_do_not_mix() -> None:
    found = {split: games(split) for split in COUNTS}
    assert {split: len(of_split) for split, of_split in found.items()} == COUNTS
    rooms = {split: {game.task_id.split("/")[1].rpartition("-")[2] for game in found[split]} for split in COUNTS}
    assert not (rooms["train"] | rooms["valid_seen"]) & rooms["valid_unseen"]
    wishes = {split: {game.task_id.split("/")[1] for game in found[split]} for split in COUNTS}
    assert not wishes["train"] & wishes["valid_seen"]
    assert {game.kind for game in found["train"]} == {game.kind for game in found["valid_unseen"]} == set(KINDS)


def test_the_same_seed_makes_the_same_games_and_a_cut_run_goes_on(tmp_path: Path) -> None:
    (first,) = generate(tmp_path, "train", 1, seed=0)
    assert first.read_bytes() == (Path(generated_games()) / first.relative_to(tmp_path)).read_bytes()
    stamp = first.stat().st_mtime_ns
    assert generate(tmp_path, "train", 2, seed=0)[0].stat().st_mtime_ns == stamp
    assert not list(tmp_path.rglob(".new-*"))
    assert game_folder("train", 0, seed=1) != game_folder("train", 0, seed=0)
    with pytest.raises(ValueError, match="`games` must be >= 0"):
        GenerateConfig(games=-1)


def test_walkthroughs_win() -> None:
    game, engine = games("valid_unseen")[0], Engine()
    engine.begin(game.path)
    for command in json.loads(game.path.read_text())["walkthrough"]:
        assert command in engine.admissible
        engine.act(command)
    assert engine.won
    engine.close()
    engine.close()


def test_alfworlds_own_environment_takes_the_games(capsys: pytest.CaptureFixture[str]) -> None:
    from alfworld.agents.environment.alfred_tw_env import AlfredTWEnv

    folder = f"{generated_games()}/json_2.1.1"
    config = {
        "env": {"goal_desc_human_anns_prob": 0, "task_types": [1, 2, 3, 4, 5, 6]},
        "dataset": {"data_path": f"{folder}/train", "num_train_games": -1},
    }
    assert AlfredTWEnv(config).num_games == COUNTS["train"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("game.tw-pddl", "{", "is not a game file"),
        ("game.tw-pddl", "[]", "is not a game file"),
        ("game.tw-pddl", "{}", "is not a game file: KeyError"),
        ("solvable", False, "is not marked as solvable"),
        ("grammar", "", "no task sentence"),
        ("pddl_problem", "(define)", "is not a game file"),
        ("traj_data.json", None, "has no traj_data.json"),
    ],
)
def test_broken_files_are_named_and_skipped(tmp_path: Path, name: str, content: Any, reason: str) -> None:
    good, bad = games("train")[:2]
    for game in (good, bad):
        shutil.copytree(game.path.parent, tmp_path / "json_2.1.1" / Path(game.task_id))
    path = tmp_path / "json_2.1.1" / bad.task_id / "game.tw-pddl"
    if name in ("game.tw-pddl", "traj_data.json"):
        path.with_name(name).unlink()
    if name == "game.tw-pddl":
        path.write_text(content)
    elif name != "traj_data.json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {name: content}))
    with pytest.warns(UserWarning, match=reason) as warned:
        assert [game.task_id for game in find_games(str(tmp_path), ("train",), KINDS)] == [good.task_id]
    assert str(path) in str(warned[0].message)


def test_nothing_playable_and_types_not_played(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="alfworld-download"):
        find_games(str(tmp_path), ("train",), KINDS)
    game = games("train")[0]
    sliced = tmp_path / "json_2.1.1" / "train" / "pick_and_place_simple-AppleSliced-None-Fridge-1" / "trial"
    shutil.copytree(game.path.parent, sliced)
    with pytest.raises(DataError, match="does not play"):
        read_game(sliced / "game.tw-pddl", "train")
    (sliced / "traj_data.json").write_text("{}")
    with pytest.raises(DataError, match="must hold `pddl_params`"):
        _ = Game("x", sliced / "game.tw-pddl", game.kind, "train", "", "").goal


def test_where_games_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    assert official_root(None) is None
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / ".cache" / "alfworld"))  # as importing alfworld sets it
    assert official_root(None) is None
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="ALFWORLD_DATA must be a folder"):
        official_root(None)
    with pytest.raises(DataError, match="`data_dir` must be a folder"):
        official_root(str(tmp_path))
    assert official_root(generated_games()) == generated_games()


def test_task_types_by_name_and_number() -> None:
    assert read_kinds([6, "look_at_obj_in_light", 2]) == ("look_at_obj_in_light", "pick_two_obj_and_place")
    for wrong in ([], [7], ["pick"]):
        with pytest.raises(ValueError, match="`task_types` must be of"):
            read_kinds(wrong)
