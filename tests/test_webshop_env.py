"""`WebShopEnv` keeps Gymnasium's contract and its own."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env
from webshop_data import RUG, write_shop

from dreamgym_env.domains.webshop import WEBSHOP
from dreamgym_env.domains.webshop_pages import DONE_STATE, SEARCH_STATE, read, render
from dreamgym_env.types import StepContext, Task
from dreamgym_env.wrappers.webshop.env import WebShopEnv


@pytest.fixture(autouse=True)
def _sample_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)


def small(tmp_path: Path, **settings: Any) -> WebShopEnv:
    return WebShopEnv(data_dir=write_shop(tmp_path), split="all", **settings)


def buy_rug(env: WebShopEnv, *choices: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
    """Opens the rug, makes the choices, buys; gives the last step's result."""
    for action in ("search[rug washable]", f"click[{RUG}]", *(f"click[{choice}]" for choice in choices)):
        assert env.step(action)[4]["possible"], action
    return env.step("click[Buy Now]")


@pytest.mark.parametrize("mode", ["state", "text", "text_rich"])
def test_gymnasiums_own_check(mode: str) -> None:
    env = gym.make("Real-WebShop-v0", observation_mode=mode)
    check_env(env.unwrapped)


def test_a_goal_bought_rightly_pays_one(tmp_path: Path) -> None:
    env = small(tmp_path)
    task_id = next(one for one in env.task_ids if "color: red, and size: small" in env.task_of(one).instruction)
    observation, info = env.reset(options={"task_id": task_id})
    assert observation == SEARCH_STATE
    assert info["available_actions"] == ["search[<keywords>]"]
    assert (info["success"], info["end_reason"], info["score"]) == (False, None, 0.0)
    observation, reward, terminated, truncated, info = buy_rug(env, "red", "small")
    assert (observation, reward, terminated, truncated) == (DONE_STATE, 1.0, True, False)
    assert (info["success"], info["end_reason"], info["available_actions"]) == (True, "success", [])
    with pytest.raises(gym.error.ResetNeeded):
        env.step("search[rug]")


@pytest.mark.parametrize(("kind", "paid"), [("outcome", 0.0), ("graded", 3 / 4)])
def test_a_partly_right_purchase(tmp_path: Path, kind: Any, paid: float) -> None:
    env = small(tmp_path, reward=kind)
    task_id = next(one for one in env.task_ids if "color: red, and size: small" in env.task_of(one).instruction)
    env.reset(options={"task_id": task_id})
    _, reward, terminated, _, info = buy_rug(env, "red")  # washable, red and the price, but no size
    assert (reward, terminated) == (paid, True)
    assert (info["score"], info["success"], info["end_reason"]) == (3 / 4, False, "failure")


def test_time_limit(tmp_path: Path) -> None:
    env = small(tmp_path, horizon=2)
    env.reset(seed=0)
    assert env.step("search[rug]")[3] is False
    _, reward, terminated, truncated, info = env.step("nonsense")
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert (info["end_reason"], info["possible"], info["available_actions"]) == ("time_limit", False, [])
    with pytest.raises(gym.error.ResetNeeded):
        env.step("search[rug]")
    assert small(tmp_path).horizon == WEBSHOP.horizon == 15


def test_a_purchase_in_the_last_step_is_an_end_not_a_truncation(tmp_path: Path) -> None:
    env = small(tmp_path, horizon=3)
    env.reset(seed=0)
    assert buy_rug(env)[2:4] == (True, False)


def test_seeds_draw_tasks_and_ids_name_them() -> None:
    env = WebShopEnv()
    drawn = [env.reset(seed=seed)[1]["task"].task_id for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    following = [env.reset()[1]["task"].task_id for _ in range(5)]
    assert len(set(following)) == 5
    task = env.task_of("webshop-synthetic-17")
    assert env.reset(options={"task": task})[1]["task"] == task
    assert (task.domain, task.split, task.initial_state) == ("webshop", "held_out", SEARCH_STATE)


def test_splits_do_not_overlap() -> None:
    train, held_out = WebShopEnv(), WebShopEnv(split="held_out")
    assert len(held_out.task_ids) == 500
    assert not set(train.task_ids) & set(held_out.task_ids)
    assert {train.task_of(one).split for one in train.task_ids} == {"train"}
    assert {train.task_of(one).split for one in held_out.task_ids} == {"held_out"}
    evaluation = WebShopEnv(split="eval", split_style="original")
    assert evaluation.task_ids[0] == "webshop-synthetic-500"
    assert evaluation.task_of("webshop-synthetic-1499").split == "held_out"
    assert WebShopEnv(tasks=["webshop-synthetic-3"]).reset(seed=9)[1]["task"].task_id == "webshop-synthetic-3"


def test_human_goals() -> None:
    env = WebShopEnv(goals="human")
    _, info = env.reset(seed=0)
    assert info["task"].task_id.startswith("webshop-human-")
    assert len(env.task_ids) == 225


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 0}, "`horizon` must be >= 1"),
        ({"observation_mode": "html"}, "`observation_mode` must be one of"),
        ({"reward": "dense"}, "`reward` must be one of"),
        ({"backend": "java"}, "`backend` must be one of"),
        ({"render_mode": "rgb_array"}, "`render_mode` must be one of"),
        ({"tasks": []}, "at least one task"),
        ({"tasks": ["webshop-human-1"]}, "a task id must be 'webshop-synthetic-0' to"),
        ({"tasks": ["webshop-synthetic-01"]}, "a task id must be"),
        ({"backend": "original", "data_dir": "x"}, "`data_dir` must be None with backend='original'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WebShopEnv(**settings)


def test_wrong_calls(tmp_path: Path) -> None:
    env = small(tmp_path)
    with pytest.raises(gym.error.ResetNeeded):
        env.step("search[rug]")
    with pytest.raises(ValueError, match=r"`options` takes 'task' or 'task_id', got \['goal'\]"):
        env.reset(options={"goal": 1})
    with pytest.raises(ValueError, match=r"must be a dreamgym_env\.Task, got str"):
        env.reset(options={"task": "buy"})
    with pytest.raises(ValueError, match="a task id must be"):
        env.reset(options={"task": Task("webshop-generated-1", "webshop", "x", SEARCH_STATE)})
    env.reset(seed=0)
    with pytest.raises(TypeError, match="`action` must be a str such as"):
        env.step(3)  # type: ignore[arg-type]


def test_envs_share_one_shop_and_pickle_in_mid_episode() -> None:
    env, other = WebShopEnv(), WebShopEnv(observation_mode="text")
    assert env.shop is other.shop
    env.reset(seed=4)
    env.step("search[green tea]")
    data = pickle.dumps(env)
    assert len(data) < 60_000  # the shop travels as its key; its files have 860,000 bytes
    copy = pickle.loads(data)
    assert copy.shop is env.shop
    assert copy.step("click[Next >]")[0] == env.step("click[Next >]")[0]
    assert copy.reset()[1]["task"] == env.reset()[1]["task"]


def test_another_process_loads_the_same_shop(tmp_path: Path) -> None:
    env = WebShopEnv()
    env.reset(seed=4)
    env.step("search[green tea]")
    (tmp_path / "env.pickle").write_bytes(pickle.dumps(env))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).step('click[Next >]')[0])"
    output = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "env.pickle")], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == env.step("click[Next >]")[0]


def test_dream_and_real_shop_agree_on_what_is_possible() -> None:
    """In mode "state" the domain's rules and the engine must give the same answer to any action."""
    env, rng, seen = WebShopEnv(goals="human"), random.Random(0), set()
    for _ in range(60):
        state, info = env.reset(seed=rng.randrange(1000))
        done = False
        while not done:
            offered = info["available_actions"]
            odd = ["click[nothing]", " Click[ buy  now ] ", "search[tea [hot]]", "search[ ]", "go", "click[search]"]
            odd += ["search[green\ntea]", "click[B0]", "search[<c> beauty]"]
            action = rng.choice(odd) if rng.random() < 0.3 else rng.choice(offered)
            assert offered == WEBSHOP.available_actions(state, ())
            parsed = WEBSHOP.parse_action(state, action)
            expected = parsed is not None and WEBSHOP.is_possible(StepContext(info["task"], (), state, action), parsed)
            following, _, terminated, truncated, info = env.step(action)
            assert info["possible"] == expected, action
            assert expected or following == WEBSHOP.impossible_response(state, action)
            assert render(read(following)) == following
            seen.add((read(state).__class__.__name__, expected))
            state, done = following, terminated or truncated
    assert len(seen) == 8  # search, results, item and sub-pages, possible and impossible actions


def test_text_modes_read_actions_as_the_original(tmp_path: Path) -> None:
    env = small(tmp_path, observation_mode="text")
    env.reset(seed=0)
    assert not env.step(" search[rug]")[4]["possible"]
    assert env.step("search[rug]")[0].startswith("Instruction: [SEP] Find me")
    assert env.get_available_actions() == {
        "has_search_bar": False,
        "clickables": ["back to search", "next >", RUG.lower()],
    }
    assert env.state.startswith("Page 1 (Total results: 1)")


def test_rendering(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = small(tmp_path, render_mode="ansi")
    assert env.render() is None
    env.reset(seed=0)
    assert str(env.render()).startswith("Instruction: Find me")
    assert capsys.readouterr().out == ""
    human = small(tmp_path, render_mode="human")
    human.reset(seed=0)
    human.step("search[rug]")
    assert human.render() is None
    assert "Page 1 (Total results: 1)" in capsys.readouterr().out
