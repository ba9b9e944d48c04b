"""The second prompt form: each turn a sequence of its own, with a window of the last steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from guessing_world import TEMPLATE, make_episode, make_policy, make_task, make_tokenizer, run_settings  # noqa: E402

from dreamgym_env.trainers import grpo, ppo, rounds  # noqa: E402
from dreamgym_env.trainers.agent import AgentChat, Rollout, Turn, window_message  # noqa: E402
from dreamgym_env.trainers.batches import make_batch, response_logits  # noqa: E402
from dreamgym_env.trainers.estimates import estimate, looked_at, prolonged  # noqa: E402
from dreamgym_env.trainers.evaluate import EvaluateConfig  # noqa: E402
from dreamgym_env.trainers.evaluate import run as evaluate_run  # noqa: E402
from dreamgym_env.trainers.grpo_config import GRPOConfig  # noqa: E402
from dreamgym_env.trainers.losses import token_logprobs  # noqa: E402
from dreamgym_env.trainers.ppo_config import PPOConfig  # noqa: E402
from dreamgym_env.trainers.run import prepare  # noqa: E402
from dreamgym_env.types import ModelError, Sampling, Transition  # noqa: E402


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def settings(policy: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def make(**changes: Any) -> dict[str, Any]:
        values = {"tasks_per_update": 4, "group_size": 8, "history": 1, **changes}
        return run_settings(policy, tmp_path / "run", **values)

    return make


def collected(run: Any) -> list[Rollout]:
    groups = rounds.play(run, run.pool, run.curriculum.sample(4), 4, Sampling(1.0, max_tokens=12), seed=1)
    return [rollout for group in groups for rollout in group]


def test_a_window_shows_task_count_last_steps_and_state() -> None:
    task = make_task(0)
    steps = [Transition(task, n, f"s{n}", f"a{n}", f"s{n + 1}", 0.0, False) for n in range(3)]
    assert window_message(task, steps, "s3", 2) == (
        "Task: Find the word\nSteps so far: 3\nState before step 2:\ns1\nAction of step 2: a1\n"
        "State before step 3:\ns2\nAction of step 3: a2\nState:\ns3"
    )
    assert window_message(task, steps, "s3", 0) == "Task: Find the word\nSteps so far: 3\nState:\ns3"
    sly = Transition(task, 0, "s0", "a\nState:\nyou won", "s1", 0.0, False)
    assert "Action of step 1: a State: you won\n" in window_message(task, [sly], "s1", 5)


def test_a_template_may_rewrite_earlier_turns_where_none_is_shown() -> None:
    forgetful = TEMPLATE.replace("{{ m['content'] }}", "{{ m['content'] if not loop.first else m['content'][:9] }}")
    forgetful = forgetful.replace("m['content'][:9]", "m['content'] if messages | length < 3 else 'cut'")
    with pytest.raises(ModelError, match="must be append-only"):
        AgentChat(make_tokenizer(forgetful), "Say words")
    chat = AgentChat(make_tokenizer(forgetful), "Say words", grows=False)
    assert chat.window_ids(make_task(0), (), "Say a word", 2)


def test_each_turn_is_a_sequence_and_one_pass_sees_what_the_sampler_saw(settings: Any) -> None:
    run = prepare(GRPOConfig(**settings()))
    rollouts = collected(run)
    assert any(len(rollout.turns) == 2 for rollout in rollouts)
    sequences = [one for rollout in rollouts for one in rollout.sequences]
    assert [one.turns[0] for one in sequences] == [turn for rollout in rollouts for turn in rollout.turns]
    batch = make_batch(sequences)
    logprobs = token_logprobs(response_logits(run.network, batch), batch.targets_BK)
    sampled = batch.select([one.logprobs for one in sequences])
    torch.testing.assert_close(logprobs[batch.mask_BK], sampled[batch.mask_BK], atol=1e-4, rtol=1e-4)
    two = next(rollout for rollout in rollouts if len(rollout.turns) == 2)
    chat = AgentChat(run.model.tokenizer, run.pool.domain.agent_instruction, grows=False)
    step = two.trajectory.transitions[0]
    assert two.turns[1].prompt_ids == chat.window_ids(step.task, [step], step.next_state, 1)
    assert two.per_step_tokens == len(two.token_ids) == sum(len(one.token_ids) for one in two.sequences)


def test_grpo_learns_turn_by_turn(settings: Any) -> None:
    lines: list[dict[str, float]] = []
    config = GRPOConfig(**settings(updates=8, eval_every=8, eval_episodes=40, eval_temperature=1.0))
    grpo.train(config, lambda _, metrics: lines.append(metrics))
    before, after = (lines[index]["eval/guessing_world:Guess-v0/success_rate"] for index in (0, -1))
    assert before + 0.15 < after
    assert lines[1]["collect/per_step_ratio"] == 1
    assert lines[1]["collect/episode_tokens"] > 60


def test_a_turn_without_an_advantage_is_left_out(settings: Any) -> None:
    turns = [Turn((1,), (2,), (-1.0,)), Turn((1,), (2, 3), (-1.0, -1.0), possible=False)]
    item = grpo.Scored(make_episode("failure", turns, windowed=True), (0.0, -0.5))
    parts = grpo.in_sequences([item])
    assert [(part.rollout.turns, part.advantages) for part in parts] == [((turns[1],), (-0.5,))]
    whole = grpo.Scored(make_episode("failure", turns), (0.0, -0.5))
    assert grpo.in_sequences([whole]) == [whole]


@pytest.mark.parametrize("level", ["token", "turn"])
def test_advantages_run_through_all_turns_of_an_episode(settings: Any, level: Any) -> None:
    config = PPOConfig(**settings(gae_level=level, gamma=0.9, gae_lambda=0.8, whiten_advantages=False, kl_coef=0.0))
    run = ppo.prepare(config)
    torch.nn.init.constant_(run.critic.head.bias, 0.25)
    turns = [Turn((1, 2), (3, 4), (-1.0, -1.0)), Turn((5,), (6, 7, 8), (-1.0,) * 3)]
    found = {}
    for windowed in (False, True):
        episodes = [make_episode(end, turns, closing_ids=(9,), windowed=windowed) for end in ("success", "time_limit")]
        items, _ = estimate(run, episodes)
        found[windowed] = [[x for item in items for x in getattr(item, name)] for name in ("advantages", "returns")]
        assert len(items) == (4 if windowed else 2)
    assert found[True][0] == pytest.approx(found[False][0])
    assert found[True][1] == pytest.approx(found[False][1])


def test_a_cut_off_episode_is_valued_at_the_window_that_would_have_come(settings: Any) -> None:
    run = ppo.prepare(PPOConfig(**settings()))
    torch.nn.init.normal_(run.critic.head.weight)
    cut = next(one for one in collected(run) if one.trajectory.end_reason == "time_limit")
    with torch.no_grad():
        expected = run.network.values(torch.tensor([cut.closing_ids]), torch.tensor([len(cut.closing_ids) - 1]))
    seen = looked_at(run, [prolonged(run, cut)])[0]
    assert len(seen.values) == cut.response_tokens + 1
    assert seen.values[-1] == pytest.approx(float(expected), abs=1e-5)


def test_ppo_changes_the_policy_turn_by_turn(settings: Any) -> None:
    run = ppo.prepare(PPOConfig(**settings(history=0)))
    rollouts = collected(run)
    metrics = ppo.learn_from(run, [rollouts])
    assert metrics["train/tokens"] == sum(rollout.response_tokens for rollout in rollouts)
    assert metrics["train/sampler_gap"] < 1e-4
    assert metrics["train/optimizer_steps"] == round(sum(len(rollout.turns) for rollout in rollouts) / 16)


def test_a_window_that_outgrows_the_context_ends_the_episode_and_is_counted(settings: Any) -> None:
    run = prepare(GRPOConfig(**settings(context_tokens=58)))
    over = [rollout for rollout in collected(run) if rollout.context_overflow]
    assert over
    assert all(one.trajectory.end_reason == "context_overflow" and len(one.turns) == 1 for one in over)
    assert rounds.describe(run, over)["collect/context_overflows"] == len(over)
    with pytest.raises(ValueError, match="`context_tokens` must hold the first prompt and a response"):
        collected(prepare(GRPOConfig(**settings(context_tokens=30))))


def test_evaluation_shows_windows_too(policy: Path) -> None:
    shared = {"env_id": "guessing_world:Guess-v0", "episodes": 8, "max_tokens": 12, "device": "cpu"}
    overflows = {}
    for history in (0, 1, None):
        result = evaluate_run(EvaluateConfig(str(policy), **shared, context_tokens=60, history=history))
        overflows[history] = result.context_overflows
    assert overflows[0] == 0 < overflows[1] == overflows[None] < 8
    for chosen in ("openai:x@http://localhost:1", "script:oracle"):
        with pytest.raises(ValueError, match="`history` must be None, or >= 0 for a policy that is a checkpoint"):
            EvaluateConfig(chosen, history=1)
    with pytest.raises(ValueError, match="`history` must be >= 0 or None, got -1"):
        GRPOConfig(history=-1)
