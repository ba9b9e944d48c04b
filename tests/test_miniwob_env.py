"""`Real-MiniWoB-v0` in a real browser: its tasks, its seeds, what it refuses, and where the browser comes from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from web_browser import make_miniwob, missing

pytest.importorskip("browsergym.core", reason="needs dreamgym-env[webarena]")

from dreamgym_env.domains.miniwob_games import GAMES
from dreamgym_env.domains.web_page import read
from dreamgym_env.loading import choose_tasks
from dreamgym_env.trainers.collect import write_tasks
from dreamgym_env.trainers.pools import open_pool
from dreamgym_env.trainers.text_play import ScriptedAgent, play_texts
from dreamgym_env.wrappers.webarena.browser import BrowserError, browser, find_chromium
from dreamgym_env.wrappers.webarena.miniwob import SEEDS, MiniWoBEnv
from dreamgym_env.wrappers.webarena.miniwob_reader import MiniWoBReader

pytestmark = pytest.mark.skipif(bool(missing()), reason=str(missing()))


def number(env: Any, role: str, name: str) -> str:
    """The number of the first element of that role and name."""
    found = [str(one.number) for one in env.page.elements.values() if (one.role, one.name) == (role, name)]
    assert found, env.state
    return found[0]


@pytest.mark.parametrize("every", [25, pytest.param(1, marks=pytest.mark.slow)])
def test_all_tasks_open_and_show_a_page(every: int) -> None:
    env = make_miniwob(task="all").unwrapped
    assert isinstance(env, MiniWoBEnv)
    assert len(env.names) == 125
    for name in env.names[::every]:
        state, info = env.reset(options={"task_id": f"{name}-7"})
        assert read(state).url == f"miniwob/{name}.html"
        assert info["instruction"], name
    env.close()


def test_a_seed_is_a_page() -> None:
    env = make_miniwob(task="click-link").unwrapped
    one, other = (env.reset(options={"task_id": f"click-link-{seed}"})[0] for seed in (5, 6))
    assert one != other
    again = make_miniwob(task="click-link").unwrapped
    assert (
        again.reset(options={"task_id": "click-link-5"})[0] == env.reset(options={"task_id": "click-link-5"})[0] == one
    )
    env.close()
    assert env.reset(options={"task_id": "click-link-5"})[0] == one
    again.close()
    env.close()


def test_filling_choosing_and_failing() -> None:
    env = make_miniwob(task="enter-text").unwrapped
    assert isinstance(env, MiniWoBEnv)
    _, info = env.reset(seed=1)
    word = info["instruction"].split('"')[1]
    box = next(one for one in env.page.elements.values() if one.role == "textbox")
    state, reward, terminated, _, info = env.step(f"fill('{box.number}', {word!r})")
    assert (reward, terminated, info["possible"], info["error"]) == (0.0, False, True, "")
    assert f"value='{word}'" in state
    _, reward, terminated, _, info = env.step(f"click('{number(env, 'button', 'Submit')}')")
    assert (reward, terminated, info["end_reason"]) == (1.0, True, "success")
    env.reset(seed=1)
    _, reward, terminated, _, info = env.step(f"click('{number(env, 'button', 'Submit')}')")
    assert (reward, terminated, info["end_reason"], info["success"]) == (0.0, True, "failure", False)
    chooser = make_miniwob(task="choose-list").unwrapped
    _, info = chooser.reset(seed=2)
    label = info["instruction"].removeprefix("Select ").partition(" from the list")[0]
    chooser.step(f"select_option('1', {label!r})")
    assert chooser.page.elements["1"].value == label
    assert chooser.step(f"click('{number(chooser, 'button', 'Submit')}')")[1] == 1.0
    env.close()
    chooser.close()


def test_nothing_leaves_the_page() -> None:
    env = make_miniwob().unwrapped
    before, _ = env.reset(seed=0)
    for action in (
        "goto('http://example.com')",
        "new_tab()",
        "send_msg_to_user('x')",
        "goto('javascript:core.endEpisode(1)')",
    ):
        state, reward, *_, info = env.step(action)
        assert (state, reward, info["possible"]) == (before, 0.0, False)
    env.close()


def test_splits_and_arguments() -> None:
    train, held_out = (make_miniwob(split=split).unwrapped for split in ("train", "held_out"))
    assert (len(train.task_ids), len(held_out.task_ids)) == (len(SEEDS["train"]), len(SEEDS["held_out"]))
    assert not set(train.task_ids) & set(held_out.task_ids)
    assert train.task_of(held_out.task_ids[0]).split == "held_out"
    two = make_miniwob(task=["click-test", "click-dialog"], split="all").unwrapped
    assert len(two.task_ids) == 2400
    assert make_miniwob(tasks=["click-test-3"]).unwrapped.task_ids == ["click-test-3"]
    for settings, message in (
        ({"task": "click-moon"}, "`task` must be one of"),
        ({"split": "test"}, "`split` must be one of"),
        ({"tasks": ["click-test-1200"]}, "a task id must be '<task>-<seed>'"),
        ({"tasks": ["click-test-01"]}, "a task id must be"),
        ({"tasks": []}, "at least one task"),
        ({"settle": -1.0}, "`settle` must be >= 0 seconds"),
        ({"seeds": 0}, "`seeds` must be >= 1 of each split"),
    ):
        with pytest.raises(ValueError, match=message):
            make_miniwob(**settings)


def test_demonstrators_and_first_states(tmp_path: Path) -> None:
    env: Any = make_miniwob(task=["click-button", "login-user"], seeds=2).unwrapped
    assert env.task_ids == ["click-button-0", "login-user-0", "click-button-1", "login-user-1"]
    assert len(make_miniwob(task="dreamed", split="all", seeds=3).unwrapped.task_ids) == 6 * len(GAMES)  # type: ignore[attr-defined]
    for task_id in env.task_ids:
        env.reset(options={"task_id": task_id})
        actor = env.demonstrator("oracle", 0)
        while env.end_reason is None:
            env.step(actor.act(env))
        assert env.end_reason == "success", task_id
    env.close()
    plain: Any = make_miniwob(task="plain", split="all", seeds=200).unwrapped
    seeds = {*range(8), *range(120, 200), *range(1000, 1008)}
    chosen = sorted(one for one in plain.task_ids if int(one.rpartition("-")[2]) in seeds)
    assert chosen == sorted(task.task_id for task in choose_tasks(None, "miniwob", None))
    path = tmp_path / "tasks.jsonl"
    assert write_tasks("Real-MiniWoB-v0", path, {"task": "click-button", "seeds": 1}) == 2
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(one["task_id"], one["split"]) for one in told] == [
        ("click-button-0", "train"), ("click-button-1000", "held_out"),
    ]  # fmt: skip
    assert all(one["instruction"] and read(one["initial_state"]).elements for one in told)


def test_the_bundled_first_pages_are_those_that_open() -> None:
    env: Any = make_miniwob(task="plain").unwrapped
    for task in choose_tasks(None, "miniwob", "held_out")[::16]:
        env.reset(options={"task_id": task.task_id})
        assert env.task == task
    env.close()


def test_a_busy_page_is_waited_for() -> None:
    env: Any = make_miniwob(task="click-test").unwrapped
    env.reset(seed=0)
    env._session.page.evaluate("() => void setTimeout(() => {const end = Date.now() + 900; while (Date.now() < end);})")
    _, reward, _, _, info = env.step("click('1')")
    assert (reward, info["possible"], info["error"]) == (1.0, True, "")
    env.close()


def test_an_agent_is_told_what_the_opened_page_asks_for() -> None:
    """`task_of` opens no page, so instruction and first page are known from the reset on."""
    pool = open_pool("Real-MiniWoB-v0", 1, task=["enter-text-dynamic", "click-option"], seeds=1, split="held_out")
    assert {task.instruction for task in pool.tasks} == {""}
    played = play_texts(pool, pool.tasks, ScriptedAgent(MiniWoBReader(0.0, 0)), "reader")
    pool.close()
    assert [one.trajectory.end_reason for one in played] == ["success", "success"]
    assert all(read(one.trajectory.task.initial_state).elements for one in played)


def test_environments_share_one_browser_and_survive_its_end() -> None:
    one, other = make_miniwob().unwrapped, make_miniwob().unwrapped
    running = browser()
    before = len(running.contexts)  # of other tests
    state, _ = one.reset(seed=0)
    other.reset(seed=1)
    assert browser() is running
    assert len(running.contexts) == before + 2
    assert one.step("hover('1')")[0] == state
    running.close()
    *_, truncated, info = one.step("click('1')")
    assert (truncated, info["end_reason"], info["success"]) == (True, "site_error", False)
    assert info["error"]
    assert one.reset(seed=0)[0] == state
    assert browser() is not running
    one.close()
    other.close()


def test_finding_chromium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chromium"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DREAMGYM_CHROMIUM", raising=False)
    assert find_chromium() == find_chromium("/nowhere/chrome") == str(path)
    assert find_chromium(sys.executable) == sys.executable
    path.unlink()
    with pytest.raises(BrowserError, match="no Chromium was found: install"):
        find_chromium()
    monkeypatch.setenv("DREAMGYM_CHROMIUM", str(path))
    with pytest.raises(BrowserError, match="DREAMGYM_CHROMIUM must be a browser's executable"):
        find_chromium()


def test_missing_packages_name_the_extra() -> None:
    for absent, env_id, said in (
        ("browsergym", "Real-MiniWoB-v0", "pip install 'dreamgym-env[webarena]'"),
        ("webarena", "Real-WebArena-v0", "pip install --no-deps browsergym-webarena==0.14.3"),
    ):
        code = (
            f"import sys; sys.modules[{absent!r}] = None\nimport gymnasium, dreamgym_env\n"
            f"gymnasium.make({env_id!r}, **({{'sites': 'local'}} if 'Arena' in {env_id!r} else {{}}))"
        )
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
        assert done.returncode
        assert said in done.stderr.splitlines()[-1]
