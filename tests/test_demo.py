"""`dreamgym demo`: its parts by themselves, and the whole of it on tiny checkpoints made here."""

from __future__ import annotations

import io
import json
import random
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

pytest.importorskip("torch")

from rich.console import Console

from dreamgym_env import loading
from dreamgym_env.trainers import cli, demo
from dreamgym_env.trainers.agent import Rollout
from dreamgym_env.trainers.collect import run_episode
from dreamgym_env.trainers.demo import Clock, DemoConfig, check_assets, dream_settings, grpo_config
from dreamgym_env.trainers.demo_views import Views, audit_rows, choose_episodes_to_tell
from dreamgym_env.trainers.intervals import Share
from dreamgym_env.trainers.pools import read_settings
from dreamgym_env.trainers.scratch import SmallConfig, build_model, build_tokenizer, fit_vocabulary
from dreamgym_env.trainers.trust import PolicyAudit, passes
from dreamgym_env.trainers.worlds import WORLDS
from dreamgym_env.types import DataError, EndReason, Trajectory


def shop(name: str, number: int, seed: int = 0) -> Trajectory:
    """An episode of a demonstrator on the held-out task of that number, with traces."""
    env: Any = gym.make("Real-WebShop-v0", split="held_out", disable_env_checker=True)
    task_id = env.unwrapped.task_ids[number]
    policy = env.unwrapped.demonstrator(name, seed)
    trajectory = run_episode(env, policy, name, f"{name}-{number}", seed=0, options={"task_id": task_id})
    return env.unwrapped.annotator().annotate(trajectory)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of the right form: it knows no page and no action, which the demo must survive."""
    folder = tmp_path_factory.mktemp("tiny")
    texts = [step.next_state for number in range(3) for step in shop("oracle", number).transitions]
    tokenizer = build_tokenizer(fit_vocabulary(texts))
    shape = SmallConfig(hidden_size=64, layers=3, attention=(1,), feed_forward=64)
    build_model(shape, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny(checkpoint: Path, out: Path) -> DemoConfig:
    return DemoConfig(
        out=out, minutes=0.01, policy=str(checkpoint), experience_model=str(checkpoint), replay_buffer="none",
        episodes=3, curve_episodes=2, curve_every=2, audit_episodes=2, max_updates=2, tasks_per_update=1, group_size=2,
        max_tokens=2, threads=1,
    )  # fmt: skip


def test_the_whole_demo_on_tiny_checkpoints(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main(tiny(checkpoint, tmp_path))
    shown = capsys.readouterr().out
    record = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert record["real_steps"]["train"] == 0
    assert record["real_steps"]["eval"] == sum(point["real"]["steps"] for point in record["points"])
    assert record["updates"] == 1  # the time is up at once, but one update is always made
    assert [point["update"] for point in record["points"]] == [0, 1]
    assert [point["real"]["n"] for point in record["points"]] == [3, 3]
    assert record["settings"]["grpo"]["env_id"] == "DreamGym-WebShop-v0"
    assert {"torch", "transformers", "python"} <= set(record["versions"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<details") == 4  # three episodes and the settings
    assert "<svg" in page
    assert "real interactions used by the RL: 0" in shown
    assert "report.html" in shown
    assert (tmp_path / "policy" / "model.safetensors").exists()


def test_evaluations_in_between_leave_the_last_update_to_the_last_one(checkpoint: Path, tmp_path: Path) -> None:
    demo.main(replace(tiny(checkpoint, tmp_path), minutes=5, curve_every=1, max_updates=3))
    points = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))["points"]
    assert [point["update"] for point in points] == [0, 1, 2, 3]
    assert [point["real"]["n"] for point in points] == [3, 2, 2, 3]


def test_missing_assets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "ASSETS", tmp_path)
    with pytest.raises(DataError, match=r"`policy` must be a checkpoint where none is bundled: .*--policy FOLDER"):
        check_assets(DemoConfig())
    with pytest.raises(DataError, match=r"`experience_model` must be .*--experience-model FOLDER"):
        check_assets(DemoConfig(policy="mine"))
    check_assets(DemoConfig(policy="mine", experience_model="openai:M@http://localhost:8000"))
    assert cli.main(["demo", "--out", str(tmp_path / "out")]) == 1


def test_settings_reach_the_dream_as_they_are() -> None:
    config = DemoConfig(experience_model="openai:M@http://localhost:1/v1", replay_buffer="none", learning_rate=3e-4)
    settings = read_settings(dream_settings(config))
    assert settings == {"experience_model": "openai:M@http://localhost:1/v1", "replay_buffer": None}
    assert read_settings(dream_settings(DemoConfig()))["replay_buffer"] == "embedded"
    grpo = grpo_config(config)
    assert (grpo.env_id, grpo.eval_envs) == ("DreamGym-WebShop-v0", ("Real-WebShop-v0",))
    assert grpo.learning_rate == 3e-4


def test_sizes_and_rate_are_the_worlds_own_where_none_are_given() -> None:
    shop, rooms = DemoConfig(), DemoConfig(world="alfworld", episodes=7)
    assert (shop.sizes.minutes, shop.sizes.episodes) == (8.0, 200)
    assert rooms.sizes == replace(WORLDS["alfworld"].demo, episodes=7)
    found = [
        (grpo_config(one).env_id, grpo_config(one).learning_rate, grpo_config(one).kl_coef) for one in (shop, rooms)
    ]
    assert found == [("DreamGym-WebShop-v0", 2e-4, 0.0), ("DreamGym-ALFWorld-v0", 3e-4, 0.01)]
    assert grpo_config(rooms).eval_episodes == 7
    web = grpo_config(DemoConfig(world="web"))
    rounds = [(one.tasks_per_update, one.mini_batch) for one in (grpo_config(shop), grpo_config(rooms), web)]
    assert rounds == [(8, 8), (8, 8), (48, 16)]  # mini-batches of the preset, as much smaller as its rounds
    assert (web.env_id, web.eval_envs, web.eval_settings) == (
        "DreamGym-MiniWoB-v0", ("Real-MiniWoB-v0",), ("task=plain",),
    )  # fmt: skip


def test_the_clock_keeps_time_for_the_last_evaluation() -> None:
    clock = Clock(minutes=8, started=time.monotonic() - 300, evaluation=60, update=20)
    assert clock.room(0)  # 300 + 20 + 96 + 12 of 480
    assert not clock.room(1)
    assert not replace(clock, update=120).room(0)
    assert not replace(clock, evaluation=150).room(0)
    assert not replace(clock, started=time.monotonic() - 390).room(0)


@pytest.mark.parametrize("name", ["minutes", "episodes", "curve_every", "max_updates"])
def test_config_says_what_is_wrong(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        DemoConfig(**{name: 0})  # type: ignore[arg-type]


def audit(**changes: Any) -> dict[str, Any]:
    values = {
        "policy": "p", "dreamed_success": Share(5, 10), "real_success": Share(4, 10), "confirmed": Share(4, 5),
        "denied": Share(0, 0), "replay_success": Share(4, 5), "replay_same_state": Share(50, 60),
        "impossible_accepted": Share(0, 6), "contradictions": Share(0, 60), "broken": Share(0, 10),
    }  # fmt: skip
    found = PolicyAudit(**{**values, **changes})
    return {**asdict(found), "passes": passes(found)}


def test_an_audit_from_a_card_says_what_was_met() -> None:
    record = json.loads(json.dumps(audit()))  # as a card holds it
    rows = {name: (value, target, met) for name, value, target, met in audit_rows(record)}
    assert len(rows) == 9  # no view there could show what is sought
    seen = audit_rows(audit(dreamed_finds=Share(2, 9), real_finds=Share(1, 9)))
    assert [row[1] for row in seen[-2:]] == [str(Share(2, 9)), str(Share(1, 9))]
    assert rows["dreamed successes that the rules confirm"] == ("4/5 = 0.800 [0.376, 0.964]", ">= 0.9", False)
    assert rows["true successes that the dream denies"] == ("-", "<= 0.1", None)  # nothing to judge by
    assert rows["impossible actions that the dream accepts"][2] is True
    assert rows["episodes that succeed in the dream"][1:] == ("", None)


def test_the_audit_on_record_is_taken_from_the_card(tmp_path: Path) -> None:
    policies = [{**audit(), "policy": "random"}, {**audit(), "policy": "embedded"}]
    card = {"reports": {"measures": {"parsed": {"count": 1, "n": 1}}, "audit": {"policies": policies}}}
    (tmp_path / "dreamgym.json").write_text(json.dumps(card), encoding="utf-8")
    nothing: Any = None  # no environment is needed
    source, found = demo.audited(DemoConfig(experience_model=str(tmp_path)), nothing)
    assert found["policy"] == "embedded"
    assert "of embedded, as the experience model's card tells it" in source
    assert demo.audited(DemoConfig(experience_model=str(tmp_path), policy="mine"), nothing)[1]["policy"] == "random"


def show(act: Any) -> str:
    views = Views(1.0, Console(file=io.StringIO(), width=120))
    act(views)
    return views.console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_dream_that_misses_a_target_is_not_passed_over() -> None:
    assert "misses a target" in show(lambda views: views.audit("card", audit()))
    assert "misses a target" not in show(lambda views: views.audit("card", audit(confirmed=Share(5, 5))))


def test_an_episode_is_shown_with_its_reasoning_and_its_brackets() -> None:
    trajectory = shop("oracle", 0)
    shown = show(lambda views: views.episode(trajectory))
    assert "[Buy Now]" in shown
    assert all(step.action in shown for step in trajectory.transitions)
    assert trajectory.transitions[-1].reasoning_trace[:40] in shown
    assert shown.rstrip().endswith("End: success")


def ended(trajectory: Trajectory, reason: EndReason) -> Rollout:
    return Rollout(replace(trajectory, end_reason=reason), ())


def test_told_are_a_task_that_was_learned_and_a_failure() -> None:
    good, other, broken = shop("oracle", 0), shop("oracle", 1), shop("random", 2, seed=random.Random(0).getrandbits(8))
    before = [ended(other, "success"), ended(good, "failure"), ended(broken, "failure")]
    after = [ended(other, "success"), ended(good, "success"), ended(broken, "failure")]
    told = choose_episodes_to_tell(before, after, WORLDS["webshop"])
    assert [one.title for one in told] == [
        "Before training: failure", "After training, the same task: success", "After training, another task: failure",
    ]  # fmt: skip
    assert {told[0].trajectory.task, told[1].trajectory.task} == {good.task}
    steps = len(good.transitions)
    assert told[1].remark.endswith(f"real WebShop: success; {steps} of {steps} states are the very same.")
    assert "no success" in told[2].remark
    assert len(choose_episodes_to_tell(before[:1], after[:1], WORLDS["webshop"])) == 2
