"""Agents that read and write texts: an endpoint's chat as it is sent, its faults, scripts, what is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chat_endpoint import Endpoint, serving
from guessing_world import INSTRUCTION, GuessingEnv, dream_registered, make_task

from dreamgym_env.chat_model import ChatModel
from dreamgym_env.trainers import evaluate as module
from dreamgym_env.trainers.agent import Rollout
from dreamgym_env.trainers.evaluate import EvaluateConfig
from dreamgym_env.trainers.pools import SingleEnvPool
from dreamgym_env.trainers.text_play import ChatAgent, RandomScript, play_texts
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import ModelError, Sampling


def guess(messages: list[dict[str, str]]) -> str:
    """Says sun first, then moon, which is right."""
    word = "moon" if "Not sun" in messages[-1]["content"] else "sun"
    return f"<think>{word}?</think><action>say[{word}]</action>"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving(guess) as server:
        yield server


def played(endpoint: Endpoint, count: int, size: int = 2, **options: int) -> list[Rollout]:
    model = ChatModel("guesser", endpoint.url, backoff=0.01, **{"max_retries": 0, "concurrency": 1, **options})
    pool = SingleEnvPool([GuessingEnv() for _ in range(size)])
    agent = ChatAgent(model, INSTRUCTION, Sampling(temperature=0.5, max_tokens=20))
    return play_texts(pool, [make_task(number) for number in range(count)], agent, "guesser")


def test_the_chat_grows_as_a_trained_policys_would(endpoint: Endpoint) -> None:
    (rollout,) = played(endpoint, 1)
    first, second = (request["messages"] for request in endpoint.requests)
    assert first == [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": "Task: Find the word\nState:\nSay a word"},
    ]
    assert second == [
        *first,
        {"role": "assistant", "content": "<think>sun?</think><action>say[sun]</action>"},
        {"role": "user", "content": "State:\nNot sun"},
    ]
    assert {request["temperature"] for request in endpoint.requests} == {0.5}
    trajectory = rollout.trajectory
    assert (trajectory.end_reason, trajectory.policy, rollout.reward) == ("success", "guesser", 1.0)
    assert [(step.action, step.thought) for step in trajectory.transitions] == [
        ("say[sun]", "sun?"),
        ("say[moon]", "moon?"),
    ]


def test_an_unanswered_episode_is_broken_and_not_failed(endpoint: Endpoint) -> None:
    endpoint.faults = ["400"]
    rollouts = played(endpoint, 3)
    assert [one.trajectory.end_reason for one in rollouts] == ["model_error", "success", "success"]
    assert [one.trajectory.task.task_id for one in rollouts] == ["guess-0", "guess-1", "guess-2"]
    assert rollouts[0].turns == ()
    endpoint.faults = ["400"] * 2
    with pytest.raises(ModelError, match=r"gave no answer in any of 2 episodes: .*bad request with key Bearer \*\*\*"):
        played(endpoint, 2)
    endpoint.faults = ["400"]
    with pytest.raises(ModelError, match="gave no answer in any of 1 episodes"):
        played(endpoint, 1)


def test_a_refused_long_prompt_is_a_failure_and_not_broken(endpoint: Endpoint) -> None:
    endpoint.faults = ["", "", "long", "code"]  # both episodes, in their second turn
    rollouts = played(endpoint, 2)
    assert [one.trajectory.end_reason for one in rollouts] == ["context_overflow"] * 2
    assert [len(one.turns) for one in rollouts] == [len(one.trajectory.transitions) for one in rollouts] == [1, 1]
    result = module.summarise(rollouts, "Guess-v0", "real")
    assert (result.n, result.successes, result.broken, result.context_overflows) == (2, 0, 0, 2)
    endpoint.faults = ["long", "400"]
    assert [one.trajectory.end_reason for one in played(endpoint, 3)] == ["context_overflow", "model_error", "success"]
    endpoint.faults = ["long"]
    assert [one.trajectory.end_reason for one in played(endpoint, 1)] == ["context_overflow"]


def test_what_cannot_be_read_or_done_is_counted() -> None:
    with serving(lambda messages: "I shall think about it") as server:
        (rollout,) = played(server, 1)
    assert (rollout.invalid_actions, rollout.impossible_actions, len(rollout.turns)) == (2, 0, 2)
    with serving(lambda messages: "<action>shout[sun]</action>") as server:
        (rollout,) = played(server, 1)
    assert (rollout.invalid_actions, rollout.impossible_actions) == (0, 2)


def test_evaluate_takes_an_endpoint(endpoint: Endpoint, tmp_path: Path) -> None:
    config = EvaluateConfig(
        f"openai:guesser@{endpoint.url}", "guessing_world:Guess-v0", episodes=5, num_envs=3, settings=("tasks=12",),
        output=str(tmp_path / "a.json"), trajectories=str(tmp_path / "a.jsonl"),
    )  # fmt: skip
    result = module.run(config)
    assert (result.n, result.successes, result.mean_steps, result.invalid_actions) == (5, 5, 2.0, 0)
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["success_rate"] == 1.0
    assert {one.policy for one in read_trajectories(tmp_path / "a.jsonl")} == {"guesser"}
    endpoint.faults = ["long"] * 3
    result = module.run(replace(config, episodes=4))
    assert (result.n, result.successes, result.context_overflows, result.mean_response_tokens) == (4, 1, 3, 1.5)
    ends = [one.end_reason for one in read_trajectories(tmp_path / "a.jsonl")]
    assert ends == ["context_overflow"] * 3 + ["success"]


def test_evaluate_tells_the_tokens_that_an_endpoint_counts(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EvaluateConfig(f"openai:guesser@{endpoint.url}", "guessing_world:Guess-v0", episodes=2)
    assert module.report(config)["mean_response_tokens"] == 6.0  # 3 in each of 2 turns
    assert "unknown" not in capsys.readouterr().err
    endpoint.tells_usage = False
    assert json.loads(json.dumps(module.report(config)))["mean_response_tokens"] is None
    assert "unknown" in capsys.readouterr().err


def test_the_random_agent_plays_in_any_world() -> None:
    with dream_registered() as dream:
        settings = ("top_k=0",)
        shared = EvaluateConfig("script:random", dream, episodes=40, num_envs=8, settings=settings)
        found, again, other = (module.run(replace(shared, seed=seed)) for seed in (0, 0, 1))
    assert found == again != other
    assert (found.source, found.n, found.invalid_actions, found.temperature) == ("dream", 40, 0, None)
    assert 8 < found.successes < 36  # 5 of 9 on average
    script = RandomScript(0)
    assert script.act(make_task(0), "s", ["search[<keywords>]"], ()).removeprefix("search[") in (
        "Find]",
        "the]",
        "word]",
    )
    assert script.act(make_task(0), "s", [], ()) == ""


def test_evaluate_takes_a_demonstrator_and_warns_of_training_tasks() -> None:
    best = module.run(EvaluateConfig("script:oracle", episodes=20))
    assert (best.n, best.successes, best.impossible_actions) == (20, 20, 0)
    worst = module.run(EvaluateConfig("script:random", episodes=20))
    assert worst.successes < 5
    assert worst.impossible_actions > 0
    with pytest.warns(UserWarning, match="these are training tasks"):
        module.run(EvaluateConfig("script:oracle", split="train", episodes=1))
    with pytest.raises(ValueError, match="sleepy"):
        module.run(EvaluateConfig("script:sleepy", episodes=1))
    with pytest.raises(ValueError, match="no script where there are no demonstrators, got 'script:oracle'"):
        module.run(EvaluateConfig("script:oracle", "guessing_world:Guess-v0", episodes=1))
