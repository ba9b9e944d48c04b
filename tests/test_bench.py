"""`dreamgym bench`: that it measures what it says, at sizes of a second; never how fast anything is."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from dreamgym_env.domain import load_domain
from dreamgym_env.experience_model import ExperienceConfig, ExperienceModel
from dreamgym_env.prompts import answer
from dreamgym_env.trainers import bench
from dreamgym_env.trainers.bench import BenchConfig, DreamSpeed, Figure, TimedModel, dream_speed
from dreamgym_env.trainers.scratch import SmallConfig, build_model, build_tokenizer, fit_vocabulary
from dreamgym_env.types import Completion, Conversation, Sampling, StepContext


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer(fit_vocabulary(["WebShop [Search] Page 1 of shoes, click[Buy Now]"] * 3))
    build_model(SmallConfig(hidden_size=64, layers=3, attention=(1,), feed_forward=64), tokenizer).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    (folder / "dreamgym.json").write_text('{"experience": {"top_k": 0, "max_tokens": 3, "attempts": 1}}', "utf-8")
    return folder


def test_every_figure_is_there(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = BenchConfig(
        seconds=0.05, num_envs=2, episodes=2, experience_model=str(checkpoint), replay_buffer="none",
        policy=str(checkpoint), output=tmp_path / "deep" / "bench.json", threads=1,
    )  # fmt: skip
    record = bench.main(config)
    assert json.loads((tmp_path / "deep" / "bench.json").read_text(encoding="utf-8")) == record
    figures = {figure["name"]: figure for figure in record["figures"]}
    assert list(figures) == [
        "native WebShop, text", "native WebShop, text_rich", "native WebShop, state",
        "native WebShop, load and index",
        "dream, one by one, all re-read by `generate`", "dream, 2 dreams, all re-read",
        "dream, one by one, prefixes kept", "dream, 2 dreams, prefixes kept",
        "share of that step outside the language model", "share of that step in retrieval",
        "policy update, tokens per episode",
    ]  # fmt: skip
    assert all(figure["value"] >= 0 for figure in figures.values())
    text = figures["native WebShop, text"]
    assert text["ratio"] == pytest.approx(text["value"] / 38)
    assert "measured elsewhere" in text["against"]
    first, last = figures["dream, one by one, all re-read by `generate`"], figures["dream, 2 dreams, prefixes kept"]
    assert last["ratio"] == pytest.approx(last["value"] / first["value"])
    assert figures["share of that step in retrieval"]["value"] == 0.0  # there is no buffer here
    assert "target" in capsys.readouterr().out


def test_tokens_are_counted_against_one_sample_per_step(checkpoint: Path) -> None:
    tokens, ratio = bench.token_ratio(BenchConfig(episodes=1, policy=str(checkpoint), num_envs=2))
    # A policy that says nothing readable takes all 15 steps. Where each adds d tokens to a first prompt of p, one
    # sample per step has 15 p + (1 + ... + 15) d = 15 p + 120 d tokens against p + 15 d: 8 to 15 times as many.
    assert tokens > 15
    assert 8 <= ratio <= 15


class SlowModel:
    """Answers each conversation with the search page after a pause."""

    pause = 0.02

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        time.sleep(self.pause)
        return [Completion(answer("", "WebShop\n[Search]", 0.0, False)) for _ in conversations]

    def seed(self, seed: int) -> None:
        pass

    def forget(self) -> None:
        pass


class SlowBuffer:
    """Finds nothing, after a pause."""

    def retrieve(self, contexts: Sequence[StepContext], k: int) -> list[list[Any]]:
        time.sleep(SlowModel.pause)
        return [[] for _ in contexts]


def test_time_is_told_apart() -> None:
    model = ExperienceModel(
        SlowModel(), load_domain("webshop"), SlowBuffer(), ExperienceConfig(attempts=1, use_contradictions=False)
    )
    speed = dream_speed(BenchConfig(seconds=0.3, num_envs=2), model, model.language_model, 2)
    assert speed.transitions > 0
    assert speed.seconds >= speed.model_seconds + speed.retrieval_seconds
    assert speed.retrieval_seconds > 0
    assert speed.outside == pytest.approx(1 - speed.model_seconds / speed.seconds)
    assert speed.outside >= speed.retrieval_seconds / speed.seconds
    assert model.counts["steps"] == 0  # the caller's own model is left alone


def test_speeds_by_hand() -> None:
    speed = DreamSpeed(transitions=30, seconds=2.0, model_seconds=1.5, retrieval_seconds=0.25)
    assert (speed.per_second, speed.outside) == (15.0, 0.25)
    assert DreamSpeed(0, 0.0, 0.0, 0.0).per_second == 0.0


def test_an_endpoint_cannot_be_benched_so() -> None:
    with pytest.raises(ValueError, match="`experience_model` must be a local checkpoint"):
        bench.dream_figures(BenchConfig(experience_model="openai:M@http://127.0.0.1:9/v1", replay_buffer="none"))


@pytest.mark.parametrize(("name", "value"), [("seconds", 0), ("num_envs", 1), ("episodes", 0)])
def test_config_says_what_is_wrong(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        BenchConfig(**{name: value})  # type: ignore[arg-type]


def test_the_table_shows_what_has_no_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    bench.show([Figure("a", 12345.6, "steps/s"), Figure("b", 3.21, "%", "c", 2.0, ">= 1")])
    shown = capsys.readouterr().out
    assert "12,346 steps/s" in shown
    assert "3.2 %" in shown


def test_timed_model_counts_its_own_seconds() -> None:
    timed = TimedModel(SlowModel())
    timed.complete([[{"role": "user", "content": "x"}]], Sampling())
    timed.complete([[{"role": "user", "content": "x"}]], Sampling())
    assert timed.seconds >= 2 * SlowModel.pause
