"""PPO end to end in a tiny real world: it learns, resumes bit for bit, and earns, values and masks what it should."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from guessing_world import dream_registered, make_checkpoint, make_episode, make_policy, run_settings  # noqa: E402
from launching import launch  # noqa: E402

from dreamgym_env.trainers import ppo, rounds  # noqa: E402
from dreamgym_env.trainers.agent import Rollout, Turn  # noqa: E402
from dreamgym_env.trainers.batches import make_batch, response_logits  # noqa: E402
from dreamgym_env.trainers.checkpoint import list_checkpoints, load_state  # noqa: E402
from dreamgym_env.trainers.estimates import Estimated, Valued, estimate, prolonged, token_rewards  # noqa: E402
from dreamgym_env.trainers.logs import read_metrics  # noqa: E402
from dreamgym_env.trainers.ppo_config import PRESETS, PPOConfig  # noqa: E402
from dreamgym_env.trainers.run import save  # noqa: E402
from dreamgym_env.types import CUT_OFF, DataError, Sampling, Task  # noqa: E402

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that knows the form of an answer and says random words."""
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def config(policy: Path, tmp_path: Path) -> Callable[..., PPOConfig]:
    def make(**changes: Any) -> PPOConfig:
        values = {"tasks_per_update": 32, "critic_learning_rate": 3e-3, **changes}
        return PPOConfig(**run_settings(policy, tmp_path / "run", **values))

    return make


def test_it_learns_and_logs_every_key_that_the_docs_define(config: Any) -> None:
    lines: list[tuple[int, dict[str, float]]] = []
    settings = config(updates=10, eval_every=10, eval_episodes=40, eval_temperature=1.0, gamma=0.95, gae_lambda=0.9)
    folder = ppo.train(settings, lambda update, metrics: lines.append((update, metrics)))
    success = {u: m["eval/guessing_world:Guess-v0/success_rate"] for u, m in lines if "train/loss" not in m}
    assert list(success) == [0, 10]
    assert success[0] < 0.75 < 0.9 < success[10]
    assert (folder / "model.safetensors").exists()
    assert (folder.parent / "critic.safetensors").exists()
    pages = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("grpo.md", "ppo.md"))
    defined = set(re.findall(r"^\| `([^`]+)` \|", pages, re.MULTILINE))
    logged = {re.sub(r"^eval/.*/", "eval/ENV/", key) for _, metrics in lines for key in metrics}
    logged = {re.sub(r"collect/end_.*", "collect/end_REASON", key) for key in logged}
    assert logged <= defined, f"not in docs: {sorted(logged - defined)}"


def test_two_and_two_updates_are_four_bit_for_bit(config: Any, tmp_path: Path) -> None:
    changing = {"kl_target": 0.05, "kl_horizon": 100, "critic_warmup": 1, "kl_in": "reward", "epochs": 2}
    ppo.train(config(updates=4, output=str(tmp_path / "a"), **changing))
    halves = config(updates=2, output=str(tmp_path / "b"), **changing)
    ppo.train(halves)
    ppo.train(dataclasses.replace(halves, updates=4, resume=True))
    left, right = (list_checkpoints(tmp_path / name / "checkpoints")[-1] for name in "ab")
    for file in ("policy/model.safetensors", "critic.safetensors", "optimizer.safetensors"):
        assert (left / file).read_bytes() == (right / file).read_bytes(), file
    assert load_state(left)["carried"] == load_state(right)["carried"] != {"kl_coef": 0.01}
    told = [[r["train/loss"] for r in read_metrics(tmp_path / name / "metrics.jsonl")] for name in "ab"]
    assert told[0] == told[1]
    assert len(told[0]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"shard": True}, {"shard": True, "critic": "head"}])
def test_two_processes_make_the_steps_of_one(config: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = config(token_budget=256, num_envs=20, kl_coef=0.1, epochs=2, mini_batch=8, **changes)
    lines = [f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})", "import guessing_world, torch"]
    body = f"""
from dreamgym_env.trainers import ppo
from dreamgym_env.trainers.rollout import Collector, collect
from dreamgym_env.trainers.sharding import whole_weights
from dreamgym_env.types import Sampling
run = ppo.prepare(ppo.PPOConfig(**{vars(settings)!r}))
run.model.seed(5)
groups = collect(Collector(run.model, run.pool, Sampling(1.0, max_tokens=12), 256), run.curriculum.sample(4), 5)
told = ppo.learn_from(run, groups)
run.weights_changed()
parts = (run.model.model.state_dict(), whole_weights(run.critic).state)
weights = sum(float((weight.double() ** 2).sum()) for part in parts for weight in part.values())
figures = [told[k] for k in ("train/grad_norm", "train/critic_grad_norm", "train/value_loss", "value/return")]
# One write, or two processes mix their words.
told = " ".join(str(figure) for figure in (*figures, weights))
print(f"TOLD {{run.accelerator.num_processes}} {{told}}\\n", end="", flush=True)
"""
    program = tmp_path / "program.py"
    program.write_text("\n".join([*lines, body]), encoding="utf-8")
    one = subprocess.run([sys.executable, str(program)], check=True, capture_output=True, text=True).stdout
    two = launch(program)
    found = [re.findall(r"TOLD (\d) (.*)", text) for text in (one, two)]
    assert [count for text in found for count, _ in text] == ["1", "2", "2"]
    alone, first, second = ([float(x) for x in told.split()] for text in found for _, told in text)
    assert alone[0] > 0
    assert first == pytest.approx(alone, rel=1e-4)
    assert second == pytest.approx(alone, rel=1e-4)


def turn(*ids: int, **changes: Any) -> Turn:
    return Turn((1,), ids, (-1.0,) * len(ids), **changes)


def test_only_what_was_cut_off_is_worth_what_the_critic_says(config: Any) -> None:
    run = ppo.prepare(config(whiten_advantages=False, kl_coef=0.0))
    torch.nn.init.constant_(run.critic.head.bias, 0.5)  # every state is worth 0.5
    ends = ("success", "failure", "time_limit", "model_error")
    episodes = [make_episode(end, [turn(4, 5), turn(6)], closing_ids=(7, 8)) for end in ends]
    items, figures = estimate(run, episodes)
    assert [item.rollout.trajectory.end_reason for item in items] == ["success", "failure", "time_limit"]
    assert [item.returns for item in items] == [pytest.approx([worth] * 3) for worth in (1.0, 0.0, 0.5)]
    assert [item.advantages for item in items] == [pytest.approx([worth - 0.5] * 3) for worth in (1.0, 0.0, 0.5)]
    assert figures["collect/bootstrapped"] == figures["collect/broken_episodes"] == 1
    run.config = config(whiten_advantages=False, kl_coef=0.0, bootstrap=False)
    assert estimate(run, episodes)[0][2].returns == pytest.approx([0.0] * 3)


def test_the_state_that_an_episode_was_cut_off_in_is_valued_as_if_it_went_on(config: Any) -> None:
    run = ppo.prepare(config(context_tokens=60))
    torch.nn.init.normal_(run.critic.head.weight)
    rollouts = collected(run)
    cut = next(one for one in rollouts if one.trajectory.end_reason in CUT_OFF)
    assert cut.closing_ids
    assert all(not one.closing_ids for one in rollouts if one.trajectory.success)
    with torch.no_grad():
        ids = torch.tensor([[*cut.token_ids, *cut.closing_ids]])
        expected = run.network.values(ids, torch.tensor([ids.shape[1] - 1]))
    from dreamgym_env.trainers.estimates import look

    assert look(run, [prolonged(run, cut)])[0].values[-1] == pytest.approx(float(expected), abs=1e-5)
    run.model.max_context = len(cut.token_ids) + 2
    assert prolonged(run, cut).turns[-1].prompt_ids == cut.closing_ids[-2:]


def test_an_overflow_is_cut_off_too(config: Any) -> None:
    run = ppo.prepare(config(context_tokens=47))
    over = [one for one in collected(run) if one.context_overflow]
    assert over
    assert all(one.closing_ids and len(one.turns) == 1 for one in over)
    assert estimate(run, over)[1]["collect/bootstrapped"] == len(over)


def test_a_round_of_broken_dreams_changes_no_weight(config: Any) -> None:
    run = ppo.prepare(config())
    before = [weight.clone() for weight in run.network.parameters()]
    metrics = ppo.learn_from(run, [[make_episode("model_error", [turn(4), turn(5)])]])
    assert metrics["train/optimizer_steps"] == metrics["train/tokens"] == metrics["collect/reward"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, run.network.parameters(), strict=True))


def test_rewards_and_penalties_stand_at_the_last_token_of_their_turn(config: Any) -> None:
    run = ppo.prepare(config(invalid_penalty=0.1, impossible_penalty=0.3, kl_coef=0.0))
    turns = [turn(4, 5, valid=False, possible=False), turn(6, possible=False), turn(7, 8)]
    seen = Valued((0.0,) * 5, ())
    assert token_rewards(run, make_episode("success", turns), seen) == pytest.approx([0, -0.1, -0.3, 0, 1])
    assert token_rewards(run, make_episode("failure", turns), seen) == pytest.approx([0, -0.1, -0.3, 0, 0])
    graded = make_episode("failure", turns)
    steps = tuple(dataclasses.replace(step, reward=0.25) for step in graded.trajectory.transitions)
    graded = dataclasses.replace(graded, trajectory=dataclasses.replace(graded.trajectory, transitions=steps))
    run.config = config(graded_reward=True, invalid_penalty=0.1, kl_coef=0.0)
    assert token_rewards(run, graded, seen) == pytest.approx([0, 0.15, 0.25, 0, 0.25])


def test_the_kl_can_be_taken_off_the_reward_of_each_token(config: Any) -> None:
    run = ppo.prepare(config(kl_in="reward", kl_coef=0.5))
    seen = Valued((0.0,) * 3, (-1.5, -0.5, -1.0))  # the sampler's are all -1
    found = token_rewards(run, make_episode("success", [turn(4, 5), turn(6)]), seen)
    assert found == pytest.approx([-0.5 * 0.5, 0.5 * 0.5, 1.0])


def test_turns_have_one_advantage_and_one_value_each(config: Any) -> None:
    run = ppo.prepare(config(gae_level="turn", gamma=0.5, gae_lambda=1.0, whiten_advantages=False, kl_coef=0.0))
    torch.nn.init.constant_(run.critic.head.bias, 0.25)
    items, _ = estimate(run, [make_episode("success", [turn(4, 5, 6), turn(7, 8)])])
    # Returns 0.5 and 1, discounted once a turn; each less its value 0.25.
    assert items[0].returns == pytest.approx([0.5] * 3 + [1.0] * 2)
    assert items[0].advantages == pytest.approx([0.25] * 3 + [0.75] * 2)
    assert items[0].valued == (True, False, False, True, False)


def test_advantages_are_whitened_over_the_round(config: Any) -> None:
    run = ppo.prepare(config(kl_coef=0.0))
    items, _ = estimate(run, [make_episode("success", [turn(4, 5)]), make_episode("failure", [turn(6)])])
    found = torch.tensor([advantage for item in items for advantage in item.advantages])
    assert float(found.mean()) == pytest.approx(0, abs=1e-6)
    assert float(found.var()) == pytest.approx(1, abs=1e-5)


def collected(run: Any) -> list[Rollout]:
    groups = rounds.play(run, run.pool, run.curriculum.sample(4), 4, Sampling(1.0, max_tokens=12), seed=1)
    return [rollout for group in groups for rollout in group]


@pytest.mark.parametrize("critic", ["separate", "head"])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gemma3", "lfm2"])
def test_any_causal_model_can_be_valued_and_saved(config: Any, tmp_path: Path, kind: str, critic: str) -> None:
    checkpoint = make_checkpoint(tmp_path / kind, kind)
    settings = config(policy=str(checkpoint), critic=critic, kl_coef=0.0, mini_batch=4, save_every=1)
    run = ppo.prepare(settings)
    torch.nn.init.normal_(run.critic.head.weight)
    rollouts = collected(run)
    batch = make_batch(rollouts)
    with torch.no_grad():
        logits, values = run.network(batch.ids_BT, batch.columns_K)
        whole = run.model.model(input_ids=batch.ids_BT, output_hidden_states=True)
        hidden = whole.hidden_states[-1][:, batch.columns_K]
        torch.testing.assert_close(logits, response_logits(run.model.model, batch))
        torch.testing.assert_close(values, run.critic.head(hidden).squeeze(-1), atol=1e-4, rtol=1e-4)
    parts = {"policy": run.model.model, "critic": run.critic}
    before = {name: [w.clone() for w in part.parameters()] for name, part in parts.items()}
    ppo.learn_from(run, [rollouts])
    for name, part in parts.items():
        assert any(not torch.equal(a, b) for a, b in zip(before[name], part.parameters(), strict=True)), name
    save(run)
    again = ppo.prepare(dataclasses.replace(settings, resume=True))
    for left, right in zip(run.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_warm_up_teaches_the_critic_alone(config: Any) -> None:
    for critic in ("separate", "head"):
        run = ppo.prepare(config(critic=critic, critic_warmup=1))
        policy = [weight.clone() for weight in run.model.model.parameters()]
        rollouts = collected(run)
        metrics = ppo.learn_from(run, [rollouts])
        assert all(torch.equal(a, b) for a, b in zip(policy, run.model.model.parameters(), strict=True))
        assert run.critic.head.bias.abs().item() > 1e-4
        assert metrics["train/critic_grad_norm"] > 0
        run.update = 1
        ppo.learn_from(run, [rollouts])
        assert not all(torch.equal(a, b) for a, b in zip(policy, run.model.model.parameters(), strict=True))


@pytest.mark.parametrize("level", ["token", "turn"])
@pytest.mark.parametrize("how", ["token_mean", "sequence_mean"])
def test_packing_has_no_influence_on_the_gradient(config: Any, how: Any, level: Any) -> None:
    gradients = []
    for budget in (60, 4096):
        run = ppo.prepare(config(token_budget=budget, aggregation=how, gae_level=level, max_grad_norm=1e9))
        for weight in run.reference.parameters():  # so that the KL has a slope
            weight.data.mul_(1.1)
        items, _ = estimate(run, collected(run))
        run.optimizer.step = lambda *a: None
        run.optimizer.zero_grad = lambda **k: None
        ppo.learn_batch(run, items, first=True)
        found = [weight.grad.flatten() for weight in run.network.parameters() if weight.grad is not None]
        gradients.append(torch.cat(found))
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-3)


def test_the_critics_rate_is_its_own(config: Any) -> None:
    run = ppo.prepare(config(learning_rate=1e-6, critic_learning_rate=1e-5, warmup_updates=2))
    metrics = ppo.learn(run, estimate(run, collected(run))[0])
    assert (metrics["train/learning_rate"], metrics["train/critic_learning_rate"]) == pytest.approx((5e-7, 5e-6))
    assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx([5e-7, 5e-6])
    sizes = [sum(weight.numel() for weight in group["params"]) for group in run.optimizer.param_groups]
    assert sum(sizes) == sum(weight.numel() for weight in run.network.parameters())


def test_a_critic_goes_on_in_another_run(config: Any, tmp_path: Path) -> None:
    first = config(updates=1, output=str(tmp_path / "first"))
    ppo.train(first)
    weights = str(tmp_path / "first" / "critic.safetensors")
    run = ppo.prepare(config(critic_weights=weights))
    assert run.critic.head.bias.abs().item() > 0
    with pytest.raises(DataError, match="belongs to another network"):
        ppo.prepare(config(critic_weights=weights, critic="head"))
    with pytest.raises(DataError, match="cannot be read"):
        ppo.prepare(config(critic_weights=str(tmp_path / "none.safetensors")))


def test_it_trains_in_a_dream_without_a_real_step(config: Any) -> None:
    lines: list[dict[str, float]] = []
    with dream_registered() as env_id:
        ppo.train(config(env_id=env_id, updates=1, settings=("top_k=0",)), lambda _, metrics: lines.append(metrics))
    assert lines[-1]["real/train_steps"] == 0 < lines[-1]["train/tokens"]


def test_a_budget_of_real_interactions_bounds_the_run(config: Any) -> None:
    lines: list[dict[str, float]] = []
    ppo.train(config(updates=100, real_budget=90), lambda _, metrics: lines.append(metrics))
    assert 90 - 2 < lines[-1]["real/train_steps"] <= 90  # an episode has at most 2 steps


def test_the_curriculum_learns_from_clusters_of_similar_tasks(config: Any) -> None:
    asked: list[list[Task]] = []

    def vary(tasks: Sequence[Task], seed: int) -> list[Task]:
        asked.append(list(tasks))
        name = f"made-{len(asked)}"
        return [dataclasses.replace(tasks[0], task_id=name, origin="generated", parent_id=tasks[0].task_id)]

    lines: list[dict[str, float]] = []
    # Each task is played once in a round: only together do they have a variance.
    settings = config(tasks_per_update=8, updates=3, lam=0.25, variations=2, learning_rate=1e-6)
    ppo.train(settings, lambda _, metrics: lines.append(metrics), vary)
    entropies = [metrics["curriculum/reward_entropy"] for metrics in lines]
    assert max(entropies) > 0
    assert len(asked) == sum(entropy > 0 for entropy in entropies)
    assert 0 < max(metrics["collect/generated_share"] for metrics in lines) <= 0.25
    assert all(metrics["curriculum/clusters"] == 1 for metrics in lines)  # all tasks of this world read alike
    state = load_state(list_checkpoints(Path(settings.output) / "checkpoints")[-1])["curriculum"]
    assert set(state["values"].values()) & set(entropies) - {0.0}


def test_clusters_hold_the_rounds_episodes_and_can_be_switched_off(config: Any) -> None:
    run = ppo.prepare(config(cluster_size=1, group_size=2, tasks_per_update=3))
    groups = ppo.collector_of_clusters(run.config)(run, 3)
    assert [len(group) for group in groups] == [2, 2, 2]
    assert all(len({one.trajectory.task.task_id for one in group}) == 1 for group in groups)
    halves = [make_episode("success", [turn(4)], 0), make_episode("failure", [turn(4)], 1)]
    broken = make_episode("model_error", [turn(4)], 3)
    figures = ppo.spread_figures(run.config, [halves, [halves[1]] * 2 + [broken], [broken]])
    assert figures == {"curriculum/clusters": 3, "curriculum/reward_entropy": pytest.approx(0.125)}
    rounds.teach_curriculum(run, [[*halves, broken]], None)
    assert run.curriculum.values == {"guess-0": 0.25, "guess-1": 0.25, "guess-3": 0.25}


def test_config_says_what_is_wrong() -> None:
    for setting, message in (
        ({"gamma": 1.5}, r"`gamma` must be in \[0, 1\], got 1.5"),
        ({"value_clip": 0.0}, "`value_clip` must be > 0 or None, got 0.0"),
        ({"critic_learning_rate": 0.0}, "`critic_learning_rate` must be > 0, got 0.0"),
        ({"kl_target": 0.1, "kl_coef": 0.0}, "`kl_target` must be None where `kl_coef` is 0, got 0.1"),
        ({"group_size": 0}, "`group_size` must be >= 1, got 0"),
        ({"critic_warmup": -1}, "`critic_warmup` must be >= 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            PPOConfig(**setting)


def test_the_command_line_takes_a_preset_and_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[PPOConfig] = []

    def note(config: PPOConfig) -> Path:
        seen.append(config)
        return tmp_path

    monkeypatch.setattr(ppo, "train", note)
    ppo.main(["paper/alfworld", "--updates", "3", "--critic", "head", "--value-clip", "None"])
    expected = dataclasses.replace(PRESETS["paper/alfworld"][1], updates=3, critic="head", value_clip=None)
    assert seen == [expected]
    assert json.loads(json.dumps(dataclasses.asdict(expected)))["critic"] == "head"


def test_an_item_has_one_number_for_each_response_token(config: Any) -> None:
    run = ppo.prepare(config())
    for item in estimate(run, collected(run))[0]:
        assert isinstance(item, Estimated)
        count = item.rollout.response_tokens
        lengths = [len(one) for one in (item.advantages, item.returns, item.valued)]
        assert [*lengths, len(item.before.values), len(item.before.reference)] == [count] * 5
