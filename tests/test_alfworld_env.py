"""`AlfworldEnv` keeps Gymnasium's contract and its own, on generated games and on an official one."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from alfworld_games import COUNTS, generated_games, make_env, official_data, play
from gymnasium.utils.env_checker import check_env

import dreamgym_env  # noqa: F401 (registers the environments)
from dreamgym_env.domains.alfworld_room import Room
from dreamgym_env.types import Task

pytest.importorskip("alfworld", reason="needs dreamgym-env[alfworld]")

from dreamgym_env.wrappers.alfworld.env import AlfworldEnv
from dreamgym_env.wrappers.alfworld.oracle import AlfworldOracle
from dreamgym_env.wrappers.alfworld.reader import AlfworldReader


def won(env: Any, **reset: Any) -> tuple[Any, ...]:
    """The last step of an episode of the oracle."""
    env.reset(**reset)
    for _ in range(50):
        step = env.step(AlfworldOracle().act(env))
        if step[2] or step[3]:
            break
    return tuple(step)


def test_gymnasiums_own_check() -> None:
    env = gym.make("Real-ALFWorld-v0", data_dir=generated_games())
    check_env(env.unwrapped)
    env.close()


def test_an_episode_from_first_text_to_success() -> None:
    env = make_env()
    state, info = env.reset(seed=3)
    assert state.startswith("You are in the middle of a room.")
    assert "Your task is to" not in state
    assert "Welcome" not in state
    task = info["task"]
    assert (task.domain, task.split, task.initial_state, task.origin) == ("alfworld", "train", state, "seed")
    assert info["instruction"] == task.instruction
    assert (info["success"], info["end_reason"], info["score"], info["possible"]) == (False, None, 0.0, True)
    assert info["available_actions"] == env.engine.admissible
    assert info["alfworld_version"] == env.metadata["alfworld_version"] == "0.4.2"
    assert task.task_id.split("/")[1].startswith(info["task_type"])
    _, reward, terminated, truncated, info = won(env, options={"task": task})
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["success"], info["end_reason"], info["score"]) == (True, "success", 1.0)
    assert info["available_actions"] == []
    with pytest.raises(gym.error.ResetNeeded):
        env.step("look")
    env.close()


def test_the_oracle_wins_every_game_within_the_horizon() -> None:
    env = make_env("all")
    assert len(env.task_ids) == sum(COUNTS.values())
    assert all(won(env, options={"task_id": task_id})[4]["success"] for task_id in env.task_ids)
    env.close()


def test_an_official_game() -> None:
    env = AlfworldEnv(data_dir=official_data())
    state, info = env.reset(seed=0)
    assert state.startswith("You are in the middle of a room. Looking quickly around you, you see a cabinet 8,")
    assert info["instruction"] == "put a hot potato in sinkbasin"
    assert won(env, seed=0)[4]["success"]
    env.close()


def test_what_is_not_possible_does_nothing() -> None:
    env = make_env(horizon=3)
    before = env.reset(seed=0)[1]["available_actions"]
    for action in ("fly to the moon", "open nowhere 1"):
        state, reward, *_, info = env.step(action)
        assert (state, reward, info["possible"]) == ("Nothing happens.", 0.0, False)
        assert info["available_actions"] == before
    walk = next(action for action in before if action.startswith("go to"))
    _, reward, terminated, truncated, info = env.step(f"  {walk.upper().replace(' ', '  ')} ")
    assert (reward, terminated, truncated, info["end_reason"]) == (0.0, False, True, "time_limit")
    assert info["possible"]
    assert info["available_actions"] == []
    with pytest.raises(gym.error.ResetNeeded):
        env.step("look")
    env.close()


def test_seeds_draw_tasks_and_ids_name_them() -> None:
    env = make_env()
    drawn = [env.reset(seed=seed)[1]["task"].task_id for seed in (1, 1)]
    assert drawn[0] == drawn[1]
    assert len({env.reset()[1]["task"].task_id for _ in range(12)}) > 2
    held_out = make_env("held_out")
    assert held_out.task_ids == make_env("valid_unseen").task_ids
    assert not set(held_out.task_ids) & set(env.task_ids)
    task = env.task_of(held_out.task_ids[0])
    assert task.split == "held_out"
    assert env.reset(options={"task": task})[1]["task"] == task
    one = make_env("all", tasks=[task.task_id])
    assert one.task_ids == [task.task_id]
    assert {env.task_of(each).task_id.split("/")[1].split("-")[0] for each in make_env(task_types=[4]).task_ids} == {
        "pick_heat_then_place_in_recep"
    }
    env.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 0}, "`horizon` must be >= 1"),
        ({"games": 0}, "`games` must be >= 1"),
        ({"split": "test"}, "`split` must be one of"),
        ({"render_mode": "rgb_array"}, "`render_mode` must be one of"),
        ({"task_types": [9]}, "`task_types` must be of"),
        ({"tasks": []}, "at least one game"),
        ({"tasks": ["train/../trial"]}, "a task id must be '<split>/<task>/<trial>'"),
        ({"tasks": ["alfworld-1"]}, "a task id must be"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_env(**settings)


def test_wrong_calls() -> None:
    env = make_env()
    for call in (lambda: env.step("look"), lambda: env.engine, lambda: env.goal):
        with pytest.raises(gym.error.ResetNeeded):
            call()
    with pytest.raises(ValueError, match=r"`options` takes 'task' or 'task_id', got \['goal'\]"):
        env.reset(options={"goal": 1})
    with pytest.raises(ValueError, match=r"must be a dreamgym_env\.Task, got str"):
        env.reset(options={"task": "put"})
    with pytest.raises(ValueError, match="a task id must be"):
        env.reset(options={"task": Task("train/a/b", "alfworld", "x", "y")})
    env.reset(seed=0)
    with pytest.raises(TypeError, match="`action` must be a str such as"):
        env.step(3)
    env.close()


def test_without_data_games_are_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    monkeypatch.setenv("DREAMGYM_CACHE", str(tmp_path / "cache"))
    env = AlfworldEnv(games=1)
    assert env.generated
    assert env.root == str(tmp_path / "cache" / "alfworld" / "1-0.4.2-seed0")
    assert env.task_ids == [make_env().task_of(env.task_ids[0]).task_id]
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("game.tw-pddl")}
    assert len(made) == 1
    AlfworldEnv(games=1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("game.tw-pddl")} == made


def test_pickled_in_mid_episode_and_closed() -> None:
    env = make_env()
    env.reset(seed=4)
    for _ in range(3):
        env.step(AlfworldOracle().act(env))
    copy = pickle.loads(pickle.dumps(env))
    action = AlfworldOracle().act(env)
    assert AlfworldOracle().act(copy) == action
    assert copy.step(action)[0] == env.step(action)[0]
    assert copy.reset()[1]["task"] == env.reset()[1]["task"]
    env.close()
    assert env.reset(seed=4)[0] == copy.reset(seed=4)[0]
    env.close()
    copy.close()


def test_in_parallel_processes_as_one_by_one() -> None:
    texts = {}
    for mode in ("sync", "async"):
        envs = gym.make_vec(
            "Real-ALFWorld-v0",
            num_envs=2,
            vectorization_mode=mode,
            vector_kwargs={"shared_memory": False} if mode == "async" else {},  # texts have no fixed size
            data_dir=generated_games(),
        )
        states, infos = envs.reset(seed=5)
        following, rewards, *_ = envs.step(("look", "inventory"))
        texts[mode] = (list(states), [task.task_id for task in infos["task"]], list(following), list(rewards))
        envs.close()
    assert texts["sync"] == texts["async"]
    alone = make_env()
    assert texts["sync"][1] == [alone.reset(seed=seed)[1]["task"].task_id for seed in (5, 6)]
    alone.close()


def test_rendering(capsys: pytest.CaptureFixture[str]) -> None:
    env = make_env(render_mode="ansi")
    assert env.render() is None
    env.reset(seed=0)
    env.step("look")
    assert str(env.render()).startswith(f"Instruction: {env.task.instruction}\n> look\nYou are")
    assert capsys.readouterr().out == ""
    human = make_env(render_mode="human")
    human.reset(seed=0)
    assert human.render() is None
    assert "You are in the middle of a room" in capsys.readouterr().out
    env.close()
    human.close()


@pytest.mark.parametrize("name", ["oracle", "slips-0.3", "searcher-0", "searcher-0.2", "stumbler-0.5", "random"])
def test_demonstrators(name: str) -> None:
    env = make_env()
    policy = env.demonstrator(name, seed=1)
    episodes = [play(env, policy, options={"task_id": task_id}) for task_id in env.task_ids]
    wins = sum(steps[-1][1].terminated for steps in episodes)
    least = {"oracle": 6, "slips-0.3": 5, "searcher-0": 5, "searcher-0.2": 4, "stumbler-0.5": 2, "random": 0}
    assert wins >= least[name]
    if name == "searcher-0":
        assert policy.thought
    if name == "stumbler-0.5":
        vain = [step for steps in episodes for step in steps if not step[-1]]
        assert 0.05 < len(vain) / sum(map(len, episodes)) < 0.5
    if name == "random":
        assert not all(possible for steps in episodes for *_, possible in steps)
    env.close()


def test_an_orderly_search_follows_the_list_of_places_and_its_thought_says_so() -> None:
    env = make_env()
    searched = 0
    for task_id in env.task_ids:
        env.reset(options={"task_id": task_id})
        policy, listed = env.demonstrator("stumbler-0", seed=1), Room.after(env.state, ()).places
        named: dict[str, list[str]] = {}
        done = False
        while not done:
            action = policy.act(env)
            if match := re.search(r"; (\w+): unseen; next (.*)", policy.thought):
                assert action == f"go to {match[2]}"
                named.setdefault(match[1], []).append(match[2])
            _, _, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
        assert terminated
        for places in named.values():
            assert len(set(places)) == len(places)
            assert places == sorted(places, key=listed.index)
            searched += len(places) > 1
    assert searched >= 2
    env.close()


def test_who_stumbles_does_it_again_and_believes_what_is_not_so() -> None:
    env = make_env()
    env.reset(seed=0)
    stubborn = AlfworldReader(0.0, 0, stumble=1.0, orderly=True)
    first = stubborn.act(env.task, env.state, env.engine.admissible, env.transitions)
    thought = stubborn.thought
    for _ in range(3):
        env.step(first)
        assert stubborn.act(env.task, env.state, env.engine.admissible, env.transitions) == first
        assert stubborn.thought == thought
    mistaken = set()
    for seed in range(12):
        env.reset(seed=seed)
        reader = AlfworldReader(0.0, seed, stumble=0.7, orderly=True)
        last, done = "", False
        while not done:
            offered = list(env.engine.admissible)
            action = reader.act(env.task, env.state, offered, env.transitions)
            if action not in offered and action != last:
                here = reader.thought.split(";")[0].removeprefix("at ")
                assert reader.thought.endswith((f"next {here}", f" 1 at {here}"))
                mistaken.add(action.split()[0])
            last = action
            _, _, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
    assert mistaken >= {"go", "take"}
    env.close()


@pytest.mark.parametrize("name", ["nobody", "slips", "oracle-0.3", "slips-1.5", "searcher-2"])
def test_unknown_demonstrators(name: str) -> None:
    with pytest.raises(ValueError, match="must be oracle, random, slips-P, fumbles-P, searcher-P or stumbler-P"):
        make_env().demonstrator(name, seed=0)


def test_a_missing_alfworld_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['alfworld'] = None\n"
        "import gymnasium, dreamgym_env\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'textworld']\n"
        "gymnasium.make('Real-ALFWorld-v0')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode
    assert "pip install 'dreamgym-env[alfworld]'" in done.stderr.splitlines()[-1]
