"""The audit: it passes a dream that is the real shop, and counts exactly what a lying one gets wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from dreamed_shop import LyingModel, ShopModel, actions_of, play, shop_env, tasks_of

from dreamgym_env.domains.webshop_pages import DONE_STATE, SEARCH_STATE
from dreamgym_env.trainers import audit
from dreamgym_env.trainers.audit import AuditConfig, judge, replay
from dreamgym_env.trainers.intervals import Share
from dreamgym_env.trainers.trust import PolicyAudit, distrust, passes, target_of
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import StepContext, Task, Trajectory
from dreamgym_env.vector_env import DreamGymVectorEnv

RAW = {"use_rules": False, "use_recall": False, "use_contradictions": False, "attempts": 1}


def make_vector(num_envs: int, model: Any, **settings: Any) -> DreamGymVectorEnv:
    options = {"experience_model": model, "replay_buffer": None, "top_k": 0, "tasks": tasks_of("train", 12)}
    return DreamGymVectorEnv(num_envs, **(options | settings))


for name, kind in (("Honest", ShopModel), ("Lying", LyingModel)):
    gym.register(
        id=f"{name}Dream-v0",
        entry_point="dreamgym_env.env:DreamGymEnv",
        vector_entry_point=lambda num_envs=1, kind=kind, **settings: make_vector(num_envs, kind(), **settings),
    )


def dreamed(model: Any, task: Task, actions: Sequence[str], **settings: Any) -> Trajectory:
    """An episode of these actions in a dream."""
    env = gym.make("DreamGym-WebShop-v0", experience_model=model, replay_buffer=None, top_k=0, tasks=[task], **settings)
    env.reset(seed=0)
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    found: Trajectory = env.unwrapped.dream.trajectory("test")  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("policy", ["reader", "random"])
def test_a_dream_that_is_the_real_shop_passes(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = AuditConfig(
        policies=(policy,), env_id="HonestDream-v0", episodes=12, output=tmp_path / "reports" / "audit.json",
        trajectories=tmp_path / "dreams.jsonl",
    )  # fmt: skip
    report = audit.main(config)
    (found,) = report["policies"]
    told = {name: met for name, met in found["passes"].items() if met is not None}
    assert all(told.values())
    assert {"contradictions", "broken"} <= set(told)
    assert found["dreamed_success"] == found["real_success"]
    assert found["dreamed_success"]["n"] == 12
    steps = found["replay_same_state"]
    assert steps["count"] == steps["n"] == found["contradictions"]["n"] > 16
    for share in ("confirmed", "replay_success"):
        assert found[share]["count"] == found[share]["n"] == found["dreamed_success"]["count"]
    assert found["denied"]["count"] == found["broken"]["count"] == found["contradictions"]["count"] == 0
    assert found["errors"] == {}
    if policy == "reader":
        assert found["confirmed"]["n"] > 0
    assert report["model_counts"]["failed"] == 0
    assert json.loads(config.output.read_text(encoding="utf-8")) == report  # type: ignore[union-attr]
    dreams = list(read_trajectories(config.trajectories))  # type: ignore[arg-type]
    assert [one.trajectory_id for one in dreams] == [f"dream-{policy}-{number}" for number in range(12)]
    assert {step.source for one in dreams for step in one.transitions} == {"dream"}
    assert "MISSED" not in capsys.readouterr().out


def test_the_raw_model_is_audited_without_the_mechanisms(capsys: pytest.CaptureFixture[str]) -> None:
    config = AuditConfig(policies=("reader",), env_id="LyingDream-v0", episodes=4, raw=True)
    found = audit.main(config)["policies"][0]
    assert found["dreamed_success"] == {"count": 4, "n": 4}
    assert found["confirmed"] == {"count": 0, "n": 4}
    # Each search led to a product's page; three times back, bought. Each purchase lacks a stated option.
    assert found["contradictions"] == {"count": 8, "n": 20}
    assert found["replay_success"] == {"count": 0, "n": 4}
    assert found["passes"]["confirmed"] is found["passes"]["contradictions"] is False
    assert "MISSED" in capsys.readouterr().out


def test_checked_by_the_mechanisms_the_same_lies_are_broken_dreams() -> None:
    found = audit.main(AuditConfig(policies=("reader",), env_id="LyingDream-v0", episodes=4))["policies"][0]
    assert found["broken"] == {"count": 4, "n": 4}
    assert found["dreamed_success"] == {"count": 0, "n": 0}


def test_a_lying_dream_is_caught_with_exact_counts() -> None:
    task, other = tasks_of("train", 4)[:2]
    honest = dreamed(ShopModel(), task, actions_of(task))
    last = honest.transitions[-1]
    denying = replace(honest, transitions=(*honest.transitions[:-1], replace(last, reward=0.0)), end_reason="failure")
    bought_nowhere = dreamed(LyingModel(), task, ["click[Buy Now]"], **RAW)
    assert [(step.state, step.possible) for step in bought_nowhere.transitions] == [(SEARCH_STATE, False)]
    bought_anything = dreamed(LyingModel(), other, ["search[rug]", "click[Buy Now]"], **RAW)
    wandered = dreamed(LyingModel(), other, ["click[nowhere]", "gibberish", "click[Buy Now]"], **RAW)
    broken = Trajectory(task, honest.transitions[:2], "model_error")
    steps = len(honest.transitions)
    episodes = [honest, denying, bought_nowhere, bought_anything, wandered, broken]
    lived = [play(task), play(other, "random", 1)]
    found = judge("test", episodes, lived, shop_env())
    assert found == PolicyAudit(
        policy="test",
        dreamed_success=Share(4, 5),
        real_success=Share(sum(one.success for one in lived), 2),
        confirmed=Share(1, 4),
        denied=Share(1, 2),
        replay_success=Share(1, 4),
        replay_same_state=Share(2 * steps + 2, 2 * steps + 1 + 2 + 3 + 2),
        impossible_accepted=Share(2, 3),
        contradictions=Share(4, 2 * steps + 1 + 2 + 3 + 2),  # a search that led to a product, three false ends
        broken=Share(1, 6),
        errors={"impossible_accepted": 2, "contradiction": 4},
    )
    assert not any(passes(found).values())


class SilentReferee:
    """Finds nothing, and cannot tell how an episode ended."""

    def step_errors(self, context: StepContext, transition: Any) -> list[str]:
        return []

    def judge(self, trajectory: Trajectory) -> None:
        return None


def test_a_replay_judges_where_the_referee_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    task, env = tasks_of("train", 4)[0], shop_env()
    monkeypatch.setattr(env.unwrapped, "referee", SilentReferee, raising=False)
    won, lost = play(task), play(task, "random", 1)
    assert (won.success, lost.success) == (True, False)

    def ending(episode: Trajectory, reward: float) -> Trajectory:
        last = replace(episode.transitions[-1], reward=reward, terminated=True)
        return replace(
            episode, transitions=(*episode.transitions[:-1], last), end_reason="success" if reward else "failure"
        )

    elsewhere = replace(won, transitions=(replace(won.transitions[0], next_state="elsewhere"), *won.transitions[1:]))
    broken = replace(won, end_reason="model_error")
    found = judge("test", [won, ending(won, 0.0), ending(lost, 1.0), elsewhere, broken], [won], env)
    assert found.confirmed == Share(1, 2)  # what went elsewhere is not judged
    assert found.denied == Share(1, 2)
    assert found.replay_success == Share(2, 3)


def test_replay_counts_the_steps_that_show_the_same() -> None:
    task = tasks_of("train", 4)[0]
    env, episode = shop_env(), play(task)
    steps = len(episode.transitions)
    assert replay(env, episode) == (steps, True)
    changed = [replace(step, next_state="elsewhere") if step.step_index == 1 else step for step in episode.transitions]
    assert replay(env, replace(episode, transitions=tuple(changed))) == (steps - 1, True)
    assert replay(env, replace(episode, transitions=episode.transitions[:-1])) == (steps - 1, False)
    longer = (*episode.transitions, episode.transitions[-1])
    assert replay(env, replace(episode, transitions=longer)) == (steps, True)  # the real episode is over by then
    assert replay(env, replace(episode, transitions=())) == (0, False)


def test_the_referee_names_what_is_unreal() -> None:
    task = tasks_of("train", 4)[0]
    referee, episode = shop_env().referee(), play(task)
    listed = next(step for step in episode.transitions if step.action.startswith("search"))
    opened = next(step for step in episode.transitions if step.action.startswith("click[B0"))
    first = StepContext(task, (), listed.state, listed.action)
    assert referee.step_errors(first, listed) == []
    asin = listed.next_state.split("\n")[2][1:11]
    assert referee.step_errors(first, replace(listed, next_state=listed.next_state.replace(asin, "B0XXXXXXXX"))) == [
        "unreal_row"
    ]
    context = StepContext(task, episode.transitions[: opened.step_index], opened.state, opened.action)
    lines = opened.next_state.split("\n")
    invented = "\n".join([*lines[:2], "mood: [happy] [sad]", *lines[-1:]])
    assert referee.step_errors(context, opened) == []
    assert referee.step_errors(context, replace(opened, next_state=invented)) == ["unreal_options"]
    assert referee.step_errors(context, replace(opened, next_state="nonsense")) == ["contradiction"]


def test_the_referee_judges_a_product_that_only_the_dream_has() -> None:
    task = tasks_of("train", 4)[0]
    referee, episode = shop_env().referee(), play(task)
    goal = referee.goal(episode)
    last = episode.transitions[-1]
    attributes, options = ", ".join(goal.attributes), dict(goal.options)
    lines = [f"Invented {goal.query}, {attributes}", f"Price: ${goal.price_upper - 1:.2f} | Rating: N.A."]
    lines += [f"{name}: [{value}]" for name, value in options.items()]
    if options:
        lines.append("Chosen: " + "; ".join(f"{name} = {value}" for name, value in options.items()))
    page = "\n".join([*lines, "[Back to Search] [< Prev] [Description] [Buy Now]"])

    def judged(state: str, **changes: Any) -> bool | None:
        step = replace(last, state=state, **changes)
        verdict: bool | None = referee.judge(replace(episode, transitions=(step,)))
        return verdict

    assert judged(page) is True
    assert judged(page.replace(attributes, "plain")) is False
    assert judged(page.replace(f"${goal.price_upper - 1:.2f}", f"${goal.price_upper + 1:.2f}")) is False
    assert judged(page.replace(goal.query, "anvil")) is False
    assert judged(page, terminated=False) is None
    assert judged(SEARCH_STATE) is False
    assert referee.judge(replace(episode, transitions=())) is None
    assert referee.judge(replace(episode, task=replace(task, instruction="other"))) is None


def test_the_reader_goes_on_in_any_dream() -> None:
    task = tasks_of("train", 4)[0]
    reader = shop_env().reader(0.0, 0)
    words = reader.act(task, SEARCH_STATE, ["search[<keywords>]"], ())
    assert words.startswith("search[")
    for state in ("", "nonsense", DONE_STATE):
        assert reader.act(task, state, [], ()) == words
    goal = shop_env().shop.goals[int(task.task_id.rpartition("-")[2])]
    assert all(attribute in words for attribute in goal.attributes)


def test_shares_and_settings() -> None:
    assert (Share(1, 4).rate, Share(0, 0).rate, str(Share(0, 0))) == (0.25, None, "-")
    assert str(Share(5, 10)) == "5/10 = 0.500 [0.237, 0.763]"
    with pytest.raises(ValueError, match="`episodes` must be >= 1, got 0"):
        AuditConfig(episodes=0)
    nothing = PolicyAudit("none", *([Share(0, 0)] * 9))
    assert set(passes(nothing).values()) == {None}
    edge = replace(nothing, confirmed=Share(9, 10), impossible_accepted=Share(51, 1000), contradictions=Share(1, 100))
    assert passes(edge) == {
        "confirmed": True,
        "denied": None,
        "impossible_accepted": False,
        "contradictions": True,
        "broken": None,
    }
    leaking = replace(nothing, dreamed_finds=Share(373, 1219), real_finds=Share(360, 1747))
    assert (passes(leaking)["dreamed_finds"], target_of("dreamed_finds")) == (False, "not above real")
    assert passes(replace(leaking, dreamed_finds=Share(93, 304)))["dreamed_finds"] is False
    assert passes(replace(leaking, dreamed_finds=Share(31, 122)))["dreamed_finds"] is True  # too few to tell
    assert (target_of("confirmed"), target_of("real_success")) == (">= 0.9", "")


def test_a_card_is_trusted_only_with_a_passed_audit_of_enough_successes() -> None:
    def card(judged: int, **passed: bool | None) -> dict[str, Any]:
        audit_record = {"policy": "p", "passes": passed, "confirmed": {"count": judged, "n": judged}}
        return {"reports": {"audit": {"policies": [audit_record]}, "measure": {}}}

    assert "no audit" in str(distrust({}))
    assert "no audit" in str(distrust(card(50), policy="another"))
    assert distrust(card(50, confirmed=True, broken=None)) is None
    assert "misses broken" in str(distrust(card(50, confirmed=True, broken=False)))
    assert "only 3 dreamed successes" in str(distrust(card(3, confirmed=True)))
