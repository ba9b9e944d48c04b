"""Real environments that bring neither demonstrators nor a referee: random episodes, and audits by replay."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from guessing_world import DOMAIN, WORDS, GuessingEnv, dream_registered, make_task

from dreamgym_env.trainers import audit, collect
from dreamgym_env.trainers.audit import AuditConfig
from dreamgym_env.trainers.collect import CollectConfig
from dreamgym_env.trainers.unrefereed import ReplayReferee, pick
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import StepContext, Trajectory, Transition


class OpenGuess(GuessingEnv):
    """The guessing world with no more in its `info` than a stranger's environment has."""

    def _info(self, possible: bool, end_reason: str | None) -> dict[str, Any]:
        return {"task": self.task, "available_actions": DOMAIN.available_actions(self.state, ())}


class MuteGuess(GuessingEnv):
    """... and not even that; or no task."""

    def __init__(self, keys: list[str], **settings: Any) -> None:
        self.keys = keys
        super().__init__(**settings)

    def _info(self, possible: bool, end_reason: str | None) -> dict[str, Any]:
        return dict.fromkeys(self.keys, self.task)


gym.register(id="OpenGuess-v0", entry_point=OpenGuess)
gym.register(id="MuteGuess-v0", entry_point=MuteGuess)


def test_random_episodes_of_a_strangers_environment(tmp_path: Path) -> None:
    config = CollectConfig(env="OpenGuess-v0", out=tmp_path / "a.jsonl", episodes=40, policies=("random:1",), seed=1)
    report = collect.main(config)
    episodes = list(read_trajectories(config.out))
    ends = {reason: sum(one.end_reason == reason for one in episodes) for reason in ("success", "time_limit")}
    assert ends == {"success": report["random/success"], "time_limit": report["random/time_limit"]}
    assert min(ends.values()) > 5  # two guesses of three words: 5 of 9 succeed
    for one in episodes:
        assert {step.action for step in one.transitions} <= {f"say[{word}]" for word in WORDS}
        assert [step.reward for step in one.transitions] == [0.0] * (len(one.transitions) - 1) + [float(one.success)]
        assert one.transitions[-1].action == "say[moon]" or not one.success
        assert one.task.split == "train"
    again = CollectConfig(env="OpenGuess-v0", out=tmp_path / "b.jsonl", episodes=40, policies=("random:1",), seed=1)
    collect.main(again)
    assert config.out.read_bytes() == again.out.read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policies": ("oracle:1",)}, "`policies` must be random:1 where the environment has no `demonstrator"),
        ({"env": "no_such_module:Guess-v0"}, "names the module 'no_such_module', which cannot be imported"),
        ({"env": "MuteGuess-v0", "settings": ('keys=["task"]',)}, "`info` must hold `available_actions` at each step"),
        ({"env": "MuteGuess-v0", "settings": ('keys=["goal"]',)}, r"`info` must hold the `task`.*the keys"),
    ],
)  # fmt: skip
def test_what_an_environment_lacks_is_said(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    options = {"env": "OpenGuess-v0", "out": tmp_path / "a.jsonl", "episodes": 1, "policies": ("random:1",)}
    with pytest.raises(ValueError, match=message):
        collect.main(CollectConfig(**(options | settings)))


def test_a_placeholder_gets_a_word() -> None:
    rng = random.Random(0)
    said = {pick(rng, make_task(0), "Say a word", ["say[<word>]"]) for _ in range(60)}
    assert said == {f"say[{word}]" for word in ("Find", "the", "word", "Say", "a")}
    assert {pick(rng, make_task(0), "", ["b", "c"]) for _ in range(20)} == {"b", "c"}


def dreamed(*steps: tuple[str, str], end: Any) -> Trajectory:
    """An episode of (action, dreamed state) steps."""
    task, state, transitions = make_task(0), "Say a word", list[Transition]()
    for index, (action, after) in enumerate(steps):
        last = end in ("success", "failure") and index == len(steps) - 1
        transitions.append(Transition(task, index, state, action, after, float(last and end == "success"), last))
        state = after
    return Trajectory(task, tuple(transitions), end)


def test_a_replay_judges_what_shows_the_same() -> None:
    referee = ReplayReferee(OpenGuess(), DOMAIN)
    assert referee.judge(dreamed(("say[moon]", "Not moon"), end="success")) is True
    assert referee.judge(dreamed(("say[sun]", "Not sun"), ("say[moon]", "?"), end="failure")) is True
    assert referee.judge(dreamed(("say[sun]", "Not sun"), end="success")) is False
    assert referee.judge(dreamed(("say[sun]", "Not sun"), ("say[star]", "Not star"), end="time_limit")) is False
    assert referee.judge(dreamed(("say[sun]", "You sang"), ("say[moon]", "Not moon"), end="success")) is None
    assert referee.judge(dreamed(("say[moon]", "Not moon"), end="model_error")) is None


def test_rules_judge_steps() -> None:
    referee = ReplayReferee(OpenGuess(), DOMAIN)
    task = make_task(0)

    def errors(action: str, after: str, terminated: bool = False) -> list[str]:
        context = StepContext(task, (), "Say a word", action)
        return referee.step_errors(context, Transition(task, 0, "Say a word", action, after, 0.0, terminated))

    assert errors("say[sun]", "Not sun") == []
    assert errors("shout[sun]", "Say a word") == []
    assert errors("shout[sun]", "Not sun") == errors("sing", "Say a word", True) == ["impossible_accepted"]


@pytest.mark.parametrize(("secret", "confirmed"), [("star", True), ("comet", False)])
def test_an_audit_without_a_referee(secret: str, confirmed: bool) -> None:
    """The dream's secret is `star`: a real world of the same secret confirms each success, another one none."""
    with dream_registered() as dream:
        config = AuditConfig(
            policies=("random",), env_id=dream, real_env="OpenGuess-v0", real_settings=(f"secret={secret}",),
            episodes=24, num_envs=8,
        )  # fmt: skip
        (found,) = audit.main(config)["policies"]
    successes = found["dreamed_success"]["count"]
    assert successes > 5
    for share in ("confirmed", "replay_success"):
        assert found[share] == {"count": successes if confirmed else 0, "n": successes}
    assert found["contradictions"] == {"count": 0, "n": found["replay_same_state"]["n"]}
    with dream_registered() as dream, pytest.raises(ValueError, match="must not hold 'reader' where OpenGuess-v0"):
        audit.main(AuditConfig(policies=("reader",), env_id=dream, real_env="OpenGuess-v0", episodes=1))
    with pytest.raises(ValueError, match="`num_envs` must be >= 1, got 0"):
        AuditConfig(num_envs=0)
