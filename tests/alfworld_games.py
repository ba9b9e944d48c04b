"""A handful of generated ALFWorld games for the tests, made once, and where the official one is looked for."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dreamgym_env.types import Prediction, StepContext, Transition

_CACHE = tempfile.mkdtemp(prefix="alfworld-tests-cache-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["DREAMGYM_CACHE"] = _CACHE  # what games are translated to is kept here, not with the user's
COUNTS = {"train": 6, "valid_seen": 2, "valid_unseen": 6}


@cache
def generated_games() -> str:
    """A folder with one game of each task type to train on and some of the other splits, for `data_dir`."""
    generate = pytest.importorskip("dreamgym_env.wrappers.alfworld.generate", reason="needs dreamgym-env[alfworld]")
    folder = Path(tempfile.mkdtemp(prefix="alfworld-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for split, count in COUNTS.items():
        generate.generate(folder, split, count, seed=0)
    return str(folder)


def make_env(split: Any = "train", **settings: Any) -> Any:
    """An `AlfworldEnv` on the generated games."""
    folder = generated_games()
    from dreamgym_env.wrappers.alfworld.env import AlfworldEnv

    return AlfworldEnv(data_dir=folder, split=split, **settings)


def official_data() -> str:
    """The folder of an official game, or a skip that says how to run the test."""
    pytest.importorskip("alfworld", reason="needs dreamgym-env[alfworld]")
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "alfworld"
    folder = Path(os.environ.get("ALFWORLD_OFFICIAL", beside))
    if not list(folder.glob("json_2.1.1/*/*/*/game.tw-pddl")):
        pytest.skip(
            f"no official ALFWorld games: set ALFWORLD_OFFICIAL to a folder with json_2.1.1 ({folder} has none)"
        )
    return str(folder)


def play(env: Any, policy: Any, **reset: Any) -> list[tuple[StepContext, Prediction, dict[str, Any], bool]]:
    """One episode: each step's context, what truly came of it, the info before it, and whether it was possible."""
    state, info = env.reset(**reset)
    history: list[Transition] = []
    steps = []
    done = False
    while not done:
        action = policy.act(env)
        following, reward, terminated, truncated, after = env.step(action)
        context = StepContext(info["task"], tuple(history), state, action)
        steps.append((context, Prediction("", following, reward, terminated), info, after["possible"]))
        history.append(env.unwrapped.transitions[-1])
        state, info, done = following, after, terminated or truncated
    return steps
