"""The page `docs/own-world.md`, followed word for word: a game from PyPI that nobody here wrote becomes a world.

Its code blocks are taken from the page, its texts from the game at run time; nothing of it is kept here.
"""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from dreamgym_env.trainers import audit, collect, measure
from dreamgym_env.trainers.collect import CollectConfig
from dreamgym_env.trainers.new_world import NewWorldConfig, main
from dreamgym_env.trainers.new_world_check import LET_THROUGH, check_world
from dreamgym_env.trainers.pools import open_pool
from dreamgym_env.trajectories import read_trajectories

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-world.md"
pytest.importorskip("textworld_express", reason="needs textworld-express")
if shutil.which("java") is None:
    pytest.skip("needs Java", allow_module_level=True)


def block(language: str, word: str) -> str:
    """The page's code block of a language that holds the word."""
    (found,) = [
        text
        for text in re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        if word in text
    ]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a reader of the page has after its third step, with fewer episodes."""
    here = tmp_path_factory.mktemp("coin")
    (here / "coin_env.py").write_text(block("python", "class CoinEnv"), encoding="utf-8")
    sys.path.insert(0, str(here))
    for split, count in (("train", 24), ("held_out", 6)):
        collect.main(
            CollectConfig(
                env="coin_env:Coin-v0", out=here / f"{split}.jsonl", episodes=count, split=split,
                policies=("gold:0.4", "random:0.6"), seed=1,
            )
        )  # fmt: skip
    main(NewWorldConfig(out=here / "draft", from_trajectories=(here / "train.jsonl", here / "held_out.jsonl")))
    (here / "world.yaml").write_text(block("yaml", "name: coin"), encoding="utf-8")
    for name in ("tasks.jsonl", "trajectories.jsonl"):
        shutil.copy(here / "draft" / name, here / name)
    yield here
    sys.path.remove(str(here))
    sys.modules.pop("coin_env", None)


def test_the_draft_can_be_dreamed_and_says_what_it_lacks(folder: Path) -> None:
    report = check_world(folder / "draft" / "world.yaml")
    assert dict(report.problems) == {}
    assert report.counts[LET_THROUGH] > 0
    assert any(LET_THROUGH.split(" `")[1].split("`")[0] in note for note in report.notes)


def test_the_completed_world_agrees_with_every_real_step(folder: Path) -> None:
    report = check_world(folder / "world.yaml")
    assert dict(report.problems) == {}
    assert report.counts[LET_THROUGH] == 0
    assert report.counts["steps, impossible"] > 50
    assert report.counts["steps that need no model (`known`)"] > 20
    assert (report.counts["trajectories, train"], report.counts["trajectories, held_out"]) == (24, 6)


def test_the_world_plays_for_real(folder: Path) -> None:
    pool = open_pool("coin_env:Coin-v0", 1, split="held_out", games=3)
    assert (pool.source, pool.domain.name, len(pool.tasks), pool.horizon) == ("real", "coin", 3, 30)
    state, info = pool.reset([0], pool.tasks[:1])[0]
    assert state == pool.tasks[0].initial_state
    offered = set(pool.domain.available_actions(state, ()))
    assert offered < set(info["available_actions"])  # the game also lists what would change nothing
    for action in info["available_actions"]:
        pool.reset([0], pool.tasks[:1])
        after = pool.step([0], [action])[0][0]
        assert (after != state) == (action in offered)


@pytest.mark.slow
def test_a_small_model_of_it_is_trained_measured_dreamed_and_audited(folder: Path) -> None:
    """At a size at which it learns little: that every command does its job, not how well."""
    pytest.importorskip("torch")
    scratch = importlib.import_module("dreamgym_env.trainers.scratch")
    vocabulary = importlib.import_module("dreamgym_env.trainers.vocabulary")
    experience = importlib.import_module("dreamgym_env.trainers.experience")
    settings = importlib.import_module("dreamgym_env.trainers.experience_config")
    world, data = str(folder / "world.yaml"), (folder / "train.jsonl",)
    sizes = scratch.SmallConfig(hidden_size=64, heads=2, layers=3, attention=(1, 2), feed_forward=128)
    words = vocabulary.VocabularyConfig(data, None, folder / "words", (world,), phrases=200, model=sizes)
    assert vocabulary.main(words)["vocabulary"] > 300
    config = settings.ExperienceTrainingConfig(
        data, folder / "experience", (world,), str(folder / "words"), "keep",
        million_tokens=0.25, permute_share=0.0, top_k=0,
    )  # fmt: skip
    card = experience.main(config)
    assert card["experience"]["max_tokens"] >= 400
    report = measure.main(
        measure.MeasureConfig((folder / "held_out.jsonl",), str(folder / "experience"), world, 80, as_dreamed=True)
    )
    assert report["exact_state"]["n"] >= 80
    env = gym.make("DreamGym-v0", domain=world, experience_model=str(folder / "experience"), attempts=2)
    _, info = env.reset(seed=0)
    assert info["task"].task_id in {one.task.task_id for one in read_trajectories(folder / "train.jsonl")}
    env.step(info["available_actions"][0])
    found: Any = audit.main(
        audit.AuditConfig(
            ("random",), "DreamGym-v0", "coin_env:Coin-v0", 6, num_envs=2,
            settings=(f"domain={world}", f"experience_model={folder / 'experience'}"),
        )
    )  # fmt: skip
    assert found["policies"][0]["contradictions"]["count"] == 0
    assert found["policies"][0]["real_success"]["n"] == 6
