"""GRPO end to end in a tiny real world and a tiny dream: it learns, resumes bit for bit and counts what it should."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from guessing_world import GuessingEnv, dream_registered, make_episode, make_policy, make_task, run_settings  # noqa: E402

from dreamgym_env.trainers import grpo, pools, rounds  # noqa: E402
from dreamgym_env.trainers.agent import Rollout, Turn  # noqa: E402
from dreamgym_env.trainers.batches import make_batch, pack_by_length, padding_share, response_logits  # noqa: E402
from dreamgym_env.trainers.checkpoint import list_checkpoints  # noqa: E402
from dreamgym_env.trainers.grpo_config import PRESETS, GRPOConfig  # noqa: E402
from dreamgym_env.trainers.logs import read_metrics  # noqa: E402
from dreamgym_env.trainers.losses import token_logprobs  # noqa: E402
from dreamgym_env.trainers.run import prepare  # noqa: E402
from dreamgym_env.types import (  # noqa: E402
    DataError,
    EndReason,
    Sampling,
    Task,
)

DOCS = Path(__file__).parent.parent / "docs" / "grpo.md"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that knows the form of an answer and says random words."""
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def config(policy: Path, tmp_path: Path) -> Callable[..., GRPOConfig]:
    def make(**changes: Any) -> GRPOConfig:
        values = {"tasks_per_update": 4, "group_size": 8, **changes}
        return GRPOConfig(**run_settings(policy, tmp_path / "run", **values))

    return make


@pytest.fixture
def dream_id() -> Iterator[str]:
    with dream_registered() as env_id:
        yield env_id


def episode(reason: EndReason, turns: Sequence[Turn] = (Turn((1,), (2,), (-1.0,)),)) -> Rollout:
    return make_episode(reason, turns)


def test_it_learns_and_logs_every_key_that_the_docs_define(config: Any) -> None:
    lines: list[tuple[int, dict[str, float]]] = []
    settings = config(updates=12, eval_every=6, eval_episodes=40, eval_temperature=1.0, tensorboard=True)
    folder = grpo.train(settings, lambda update, metrics: lines.append((update, metrics)))
    success = {u: m["eval/guessing_world:Guess-v0/success_rate"] for u, m in lines if "train/loss" not in m}
    assert list(success) == [0, 6, 12]
    assert success[0] < 0.75 < 0.9 < success[12]
    assert (folder / "model.safetensors").exists()
    assert [update for update, _ in lines] == [row["update"] for row in read_metrics(folder.parent / "metrics.jsonl")]
    assert list((folder.parent / "tensorboard").glob("events*"))
    last = lines[-1][1]
    assert last["real/train_steps"] == sum(m.get("collect/actions", 0) for _, m in lines)
    assert last["real/eval_steps"] >= 3 * 40
    defined = set(re.findall(r"^\| `([^`]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    logged = {re.sub(r"^eval/.*/", "eval/ENV/", key) for _, metrics in lines for key in metrics}
    logged = {re.sub(r"collect/end_.*", "collect/end_REASON", key) for key in logged}
    assert logged <= defined, f"not in docs/grpo.md: {sorted(logged - defined)}"


def test_two_and_two_updates_are_four_bit_for_bit(config: Any, tmp_path: Path) -> None:
    straight = grpo.train(config(updates=4, output=str(tmp_path / "a"), eval_every=1, eval_episodes=4))
    halves = config(updates=2, output=str(tmp_path / "b"), eval_every=2, eval_episodes=4)
    grpo.train(halves)
    resumed = grpo.train(dataclasses.replace(halves, updates=4, resume=True))
    assert (straight / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    left, right = (list_checkpoints(tmp_path / name / "checkpoints")[-1] for name in "ab")
    assert (left / "optimizer.safetensors").read_bytes() == (right / "optimizer.safetensors").read_bytes()
    rows = {name: read_metrics(tmp_path / name / "metrics.jsonl") for name in "ab"}
    told = [[r["train/loss"] for r in rows[name] if "train/loss" in r] for name in "ab"]
    assert told[0] == told[1]
    assert len(told[0]) == 4


def test_a_run_in_the_bundled_dream_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Its experience model samples, and its buffer grows: draws and dreams are those of the uninterrupted run."""
    settings = GRPOConfig(
        policy="embedded", env_id="DreamGym-WebShop-v0", settings=("horizon=5",), tasks_per_update=2, group_size=3,
        updates=2, max_tokens=48, context_tokens=2048, token_budget=8192, learning_rate=1e-4, grow_buffer=True,
        eval_every=0, save_every=1, device="cpu", tensorboard=False, output=str(tmp_path / "a" / "run"),
    )  # fmt: skip
    straight = grpo.train(settings)
    grpo.train(dataclasses.replace(settings, updates=1, output=str(tmp_path / "b" / "run")))
    resumed = grpo.train(dataclasses.replace(settings, output=str(tmp_path / "b" / "run"), resume=True))
    assert (straight / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    left, right = (list_checkpoints(tmp_path / name / "run" / "checkpoints")[-1] for name in "ab")
    names = sorted(file.name for file in left.iterdir() if file.suffix in (".safetensors", ".jsonl"))
    assert names == sorted(file.name for file in right.iterdir() if file.suffix in (".safetensors", ".jsonl"))
    assert "dreams.jsonl" in names
    assert all((left / name).read_bytes() == (right / name).read_bytes() for name in names)


def script(tmp_path: Path, settings: GRPOConfig, body: str) -> Path:
    """A program that runs `body` with the given settings as `config`."""
    lines = [f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})", "import guessing_world, torch"]
    lines += [
        "from dreamgym_env.trainers import grpo",
        "from dreamgym_env.trainers.run import prepare",
        f"config = grpo.GRPOConfig(**{vars(settings)!r})",
    ]
    file = tmp_path / "program.py"
    file.write_text("\n".join([*lines, body]) + "\n", encoding="utf-8")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_make_the_step_of_one(config: Any, tmp_path: Path, shard: bool) -> None:
    body = """
run = prepare(config)
tasks = run.curriculum.sample(4)
run.model.seed(5)
from dreamgym_env.trainers.rollout import Collector, collect
from dreamgym_env.types import Sampling
groups = collect(Collector(run.model, run.pool, Sampling(1.0, max_tokens=12), 256), tasks, 5)
scored = [grpo.Scored(r, tuple(0.5 - i for i in range(len(r.turns)))) for g in groups for r in g]
norm = grpo.optimizer_step(run, scored, True)["grad_norm"]
run.weights_changed()
size = sum(float(weight.detach().double().abs().sum()) for weight in run.model.model.parameters())
shared = any(type(weight).__name__ == "DTensor" for weight in run.network.parameters())
told = f"NORM {run.accelerator.num_processes} {norm} {size} {shared}\\n"
print(told, end="")  # one write, or two processes mix their words
"""
    program = str(script(tmp_path, config(token_budget=256, num_envs=20, shard=shard), body))
    one = subprocess.run([sys.executable, program], check=True, capture_output=True, text=True).stdout
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", program]
    two = subprocess.run(launcher, check=True, capture_output=True, text=True).stdout
    found = [told.split() for text in (one, two) for told in re.findall(r"NORM (.*)", text)]
    assert [told[0] for told in found] == ["1", "2", "2"]
    assert [told[3] for told in found] == ["False", str(shard), str(shard)]
    alone, *both = ([float(figure) for figure in told[1:3]] for told in found)
    assert both == [pytest.approx(alone, rel=1e-4)] * 2


@pytest.mark.slow
def test_a_run_whose_weights_are_shared_out_goes_on_bit_for_bit(config: Any, tmp_path: Path) -> None:
    settings = config(updates=3, save_every=1, shard=True, num_envs=8)
    body = f"""
from dataclasses import replace
halves = replace(config, output={str(tmp_path / "halves")!r})
grpo.train(config)
grpo.train(replace(halves, updates=2))
grpo.train(replace(halves, resume=True))
"""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*launcher, str(script(tmp_path, settings, body))], check=True, capture_output=True)
    left, right = (list_checkpoints(tmp_path / name / "checkpoints")[-1] for name in ("run", "halves"))
    for file in ("policy/model.safetensors", "optimizer.safetensors"):
        assert (left / file).read_bytes() == (right / file).read_bytes(), file
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "halves")]
    assert [row["train/loss"] for row in rows[0]] == [row["train/loss"] for row in rows[1]]
    assert len(rows[0]) == 3
    assert prepare(dataclasses.replace(settings, shard=False, resume=True)).update == 3  # one process takes it up


def test_a_cut_checkpoint_is_told_and_passed_over_on_demand(config: Any) -> None:
    grpo.train(config(save_every=1))
    newest = list_checkpoints(Path(config().output) / "checkpoints")[-1]
    weights = newest / "policy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"must have .* got 1000 bytes"):
        prepare(config(resume=True))
    assert prepare(config(resume=True, fall_back=True)).update == 1


def test_groups_without_spread_and_broken_episodes_teach_nothing(config: Any) -> None:
    spread = [episode("success"), episode("failure"), episode("model_error"), episode("time_limit")]
    flat = [episode("failure")] * 3 + [episode("model_error")]
    scored, metrics = grpo.score(config(), [spread, flat])
    assert [item.rollout.trajectory.end_reason for item in scored] == ["success", "failure", "time_limit"]
    # {1, 0, 0}: mean 1/3, sample std sqrt(1/3): 2/3 * sqrt(3) and -1/3 * sqrt(3).
    assert [item.advantages[0] for item in scored] == pytest.approx([1.1547, -0.57735, -0.57735], abs=1e-4)
    assert metrics["collect/groups_without_spread"] == 1
    assert metrics["collect/broken_episodes"] == 2
    assert metrics["collect/reward"] == pytest.approx(1 / 6)


def test_penalties_touch_their_response_alone(config: Any) -> None:
    good, invalid = Turn((1,), (2,), (-1.0,)), Turn((1,), (2,), (-1.0,), valid=False, possible=False)
    impossible = Turn((1,), (2,), (-1.0,), possible=False)
    group = [episode("success", (good, invalid, impossible)), episode("failure")]
    scored, _ = grpo.score(config(invalid_penalty=0.1, impossible_penalty=0.05), [group])
    # {1, 0}: +- sqrt(1/2).
    assert scored[0].advantages == pytest.approx([0.70711, 0.60711, 0.65711], abs=1e-4)


def test_penalties_teach_where_a_whole_group_failed(config: Any) -> None:
    turns = (Turn((1,), (2,), (-1.0,)), Turn((1,), (2,), (-1.0,), possible=False))
    group = [episode("failure", turns), episode("failure"), episode("time_limit")]
    scored, metrics = grpo.score(config(impossible_penalty=0.05), [group])
    assert [item.advantages for item in scored] == [pytest.approx((0.0, -0.05))]
    assert metrics["collect/groups_without_spread"] == metrics["collect/episodes_learned"] == 1


def test_penalties_given_back_compare_responses(config: Any) -> None:
    """Weighed by tokens they add up to nothing, so a policy is not pushed from all that it says."""
    turns = (Turn((1,), (2, 3, 4), (-1.0,) * 3), Turn((1,), (2,), (-1.0,), possible=False))
    group = [episode("failure", turns), episode("failure", turns[:1])]
    scored, _ = grpo.score(config(impossible_penalty=0.7, center_penalties=True), [group])
    # one penalised token of seven: 0.1 for each of the others, 0.1 - 0.7 for it.
    assert [item.advantages for item in scored] == [pytest.approx((0.1, -0.6)), pytest.approx((0.1,))]


def test_failures_can_weigh_less(config: Any) -> None:
    group = [episode("success"), episode("failure")]
    for weight, learned in ((0.5, [0.70711, -0.35355]), (0.0, [0.70711])):
        scored, _ = grpo.score(config(negative_weight=weight), [group])
        assert [item.advantages[0] for item in scored] == pytest.approx(learned, abs=1e-4)
    with pytest.raises(ValueError, match=r"`negative_weight` must be in \[0, 1\], got 2"):
        config(negative_weight=2)


def test_what_leads_on_is_told_from_what_leads_round_in_a_circle(config: Any) -> None:
    """GiGPO: the same state twice in a success, and once in a failure."""
    turn = Turn((1,), (2,), (-1.0,))
    group = [episode("success", (turn, turn)), episode("failure"), episode("model_error", (turn, turn))]
    scored, _ = grpo.score(config(step_weight=2.0, step_discount=0.5), [group])
    # Returns at the state: 0.5, 1, and 0; mean and sample std 0.5: 0, 1, -1. By episode: +- sqrt(1/2).
    assert [item.advantages for item in scored] == [
        pytest.approx((0.70711, 2.70711), abs=1e-4),
        pytest.approx((-2.70711,), abs=1e-4),
    ]
    steps = group[0].trajectory.transitions
    elsewhere = dataclasses.replace(
        group[0].trajectory, transitions=(dataclasses.replace(steps[0], state="c"), steps[1])
    )
    group[0] = dataclasses.replace(group[0], trajectory=elsewhere)
    scored, _ = grpo.score(config(step_weight=1.0, step_discount=0.5), [group])
    assert [item.advantages for item in scored] == [
        pytest.approx((0.70711, 1.41421), abs=1e-4),
        pytest.approx((-1.41421,), abs=1e-4),
    ]
    with pytest.raises(ValueError, match=r"`step_discount` must be in \(0, 1\], got 0"):
        config(step_discount=0.0)


def test_an_action_that_changed_nothing_can_be_kept_from_the_credit_of_a_success(config: Any) -> None:
    turns = (Turn((1,), (2,), (-1.0,)), Turn((1,), (2,), (-1.0,), possible=False))
    group = [episode("success", turns), episode("failure", turns)]
    scored, _ = grpo.score(config(impossible_penalty=0.05, credit_impossible=False), [group])
    assert scored[0].advantages == pytest.approx([0.70711, -0.05], abs=1e-4)
    assert scored[1].advantages == pytest.approx([-0.70711, -0.75711], abs=1e-4)


def test_a_round_without_spread_changes_no_weight(config: Any) -> None:
    run = prepare(config())
    before = [weight.clone() for weight in run.network.parameters()]
    metrics = grpo.learn(run, grpo.score(config(), [[episode("failure")] * 4])[0])
    assert metrics["train/optimizer_steps"] == metrics["train/tokens"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, run.network.parameters(), strict=True))


def collected(run: Any) -> list[grpo.Scored]:
    tasks = run.curriculum.sample(2)
    groups = rounds.play(run, run.pool, tasks, 4, Sampling(1.0, max_tokens=12), seed=1)
    return [grpo.Scored(r, tuple(0.5 - i for i in range(len(r.turns)))) for group in groups for r in group]


def test_one_padded_pass_sees_what_the_sampler_saw(config: Any) -> None:
    run = prepare(config())
    items = collected(run)
    batch = make_batch([item.rollout for item in items])
    logprobs = token_logprobs(response_logits(run.network, batch), batch.targets_BK)
    sampled = batch.select([item.rollout.logprobs for item in items])
    torch.testing.assert_close(logprobs[batch.mask_BK], sampled[batch.mask_BK], atol=1e-4, rtol=1e-4)
    assert int(batch.mask_BK.sum()) == sum(item.rollout.response_tokens for item in items)


@pytest.mark.parametrize("how", ["token_mean", "sequence_mean"])
def test_packing_has_no_influence_on_the_gradient(config: Any, how: Any) -> None:
    gradients = []
    for budget in (60, 4096):
        run = prepare(config(token_budget=budget, aggregation=how, kl_coef=0.1, max_grad_norm=1e9))
        items = collected(run)
        for weight in run.reference.parameters():  # so that the KL has a slope
            weight.data.mul_(1.1)
        run.optimizer.step = lambda *a: None
        run.optimizer.zero_grad = lambda **k: None
        grpo.optimizer_step(run, items, first=True)
        gradients.append(torch.cat([weight.grad.flatten() for weight in run.network.parameters()]))
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-3)


def test_packs_are_full_and_similar() -> None:
    lengths = [10, 3, 9, 4, 30]
    packs = pack_by_length(lengths, 20)
    assert packs == [[4], [0, 2], [3, 1]]
    assert padding_share(lengths, packs) == pytest.approx(1 - 56 / 58)
    with pytest.raises(ValueError, match="`token_budget` must be >= 1 token, got 0"):
        pack_by_length(lengths, 0)


def test_the_curriculum_bounds_generated_tasks_and_remembers(config: Any) -> None:
    asked: list[list[Task]] = []

    def vary(tasks: Sequence[Task], seed: int) -> list[Task]:
        asked.append(list(tasks))
        name = f"made-{len(asked)}"
        return [dataclasses.replace(tasks[0], task_id=name, origin="generated", parent_id=tasks[0].task_id)]

    settings = config(updates=3, lam=0.25, save_every=3)
    shares: list[float] = []
    grpo.train(settings, lambda _, metrics: shares.append(metrics["collect/generated_share"]), vary)
    assert shares[0] == 0 < max(shares) <= 0.25
    state = json.loads((list_checkpoints(Path(settings.output) / "checkpoints")[-1] / "state.json").read_text())
    assert [task["task_id"] for task in state["curriculum"]["generated"]] == ["made-1", "made-2", "made-3"]
    with pytest.raises(ValueError, match="`lam` must be 0 where tasks cannot be dreamed"):
        grpo.train(dataclasses.replace(settings, output=settings.output + "-2"))


def test_training_in_a_dream_uses_no_real_step_and_grows_the_buffer(config: Any, dream_id: str) -> None:
    lines: list[dict[str, float]] = []
    settings = config(
        env_id=dream_id, updates=8, eval_every=8, eval_episodes=40, eval_temperature=1.0,
        eval_envs=("guessing_world:Guess-v0",), eval_settings=('secret="star"',), settings=("top_k=1",),
        grow_buffer=True,
    )  # fmt: skip
    grpo.train(settings, lambda _, metrics: lines.append(metrics))
    assert lines[-1]["real/train_steps"] == 0 < lines[-1]["real/eval_steps"]
    before, after = (lines[index]["eval/guessing_world:Guess-v0/success_rate"] for index in (0, -1))
    assert before + 0.15 < after
    assert sum(metrics.get("curriculum/buffer_added", 0) for metrics in lines) > 0
    checkpoint = list_checkpoints(Path(settings.output) / "checkpoints")[-1]
    assert (checkpoint / "dreams.jsonl").read_text(encoding="utf-8").count('"source": "dream"') > 0
    with pytest.raises(ValueError, match="`grow_buffer` must be False where"):
        grpo.train(config(grow_buffer=True, output=settings.output + "-2"))


def test_variations_are_proposed_dreamed_and_resumed(config: Any, dream_id: str, tmp_path: Path) -> None:
    settings = config(env_id=dream_id, updates=3, lam=0.5, variations=2, settings=("top_k=0",), learning_rate=1e-4)
    lines: list[dict[str, float]] = []
    grpo.train(settings, lambda _, metrics: lines.append(metrics))
    assert 0 < lines[-1]["collect/generated_share"] <= 0.5
    assert lines[-1]["curriculum/tasks"] == 4 + sum(metrics["curriculum/new_tasks"] for metrics in lines)
    state = json.loads((list_checkpoints(tmp_path / "run" / "checkpoints")[-1] / "state.json").read_text())
    assert len(state["proposed"]) >= len(state["curriculum"]["generated"]) > 0
    assert all(task["parent_id"] for task in state["proposed"])
    resumed = prepare(dataclasses.replace(settings, resume=True))
    assert [task.task_id for task in resumed.proposed] == [task["task_id"] for task in state["proposed"]]


def test_a_budget_of_real_interactions_bounds_the_run(config: Any, tmp_path: Path) -> None:
    lines: list[dict[str, float]] = []
    settings = config(updates=100, real_budget=150, output=str(tmp_path / "straight"))
    grpo.train(settings, lambda _, metrics: lines.append(metrics))
    used = lines[-1]["real/train_steps"]
    assert 150 - 8 * 2 < used <= 150  # a group is 8 episodes of at most 2 steps
    assert len(lines) > 2
    first = config(updates=1, real_budget=150, output=str(tmp_path / "halves"))
    grpo.train(first)
    grpo.train(dataclasses.replace(first, updates=100, resume=True))
    rows = read_metrics(tmp_path / "halves" / "metrics.jsonl")
    assert [row["real/train_steps"] for row in rows] == [metrics["real/train_steps"] for metrics in lines]
    assert [row["train/loss"] for row in rows] == [metrics["train/loss"] for metrics in lines]


def test_steps_beyond_the_budget_are_refused() -> None:
    pool = pools.BudgetedPool(pools.SingleEnvPool([GuessingEnv(), GuessingEnv()]), 3)
    tasks = [make_task(0), make_task(1)]
    pool.reset([0, 1], tasks)
    pool.step([0, 1], ["say[sun]", "say[sun]"])
    with pytest.raises(pools.BudgetError, match="2 real interactions were asked for, 1 of the budget are left"):
        pool.step([0, 1], ["say[sun]", "say[sun]"])
    assert [env.unwrapped.steps for env in pool.pool.envs] == [1, 1]  # type: ignore[attr-defined]
    assert pool.step([0], ["say[moon]"])[0][1] == 1.0


def test_a_dream_has_no_budget(config: Any, dream_id: str) -> None:
    lines: list[dict[str, float]] = []
    settings = config(env_id=dream_id, updates=2, real_budget=0, settings=("top_k=0",))
    grpo.train(settings, lambda _, metrics: lines.append(metrics))
    assert len(lines) == 2


def test_groups_are_drawn_until_enough_have_spread(config: Any) -> None:
    run = prepare(config(group_size=2, extra_groups=40))
    groups = grpo.collect_with_spread(run, 4)
    spread = [grpo.has_spread(run.config, group) for group in groups]
    assert sum(spread) == 4 < len(groups) < 44
    assert spread[-1]  # the last draw brought what was missing
    assert run.real_steps["train"] == sum(len(one.turns) for group in groups for one in group)
    _, metrics = grpo.score(run.config, groups)
    assert metrics["collect/groups"] == len(groups)
    assert metrics["collect/groups_without_spread"] == len(groups) - 4
    again = grpo.collect_with_spread(prepare(config(group_size=2, extra_groups=40)), 4)
    told, retold = ([one.token_ids for group in drawn for one in group] for drawn in (groups, again))
    assert told == retold


@pytest.mark.parametrize(("changes", "drawn"), [({}, 4), ({"extra_groups": 3}, 7), ({"real_budget": 20}, 5)])
def test_drawing_for_spread_has_bounds(config: Any, changes: dict[str, int], drawn: int) -> None:
    # Nobody can say "never": no group has spread, and each takes 2 x 2 steps.
    settings = config(settings=('secret="never"',), group_size=2, **{"extra_groups": 0, **changes})
    if "real_budget" in changes:
        settings = dataclasses.replace(settings, extra_groups=40)
    run = prepare(settings)
    assert len(grpo.collect_with_spread(run, 4)) == drawn
    assert run.real_steps["train"] == drawn * 4


def test_the_groups_with_the_largest_spread_are_kept_by_share(config: Any) -> None:
    halves = [episode("success"), episode("success"), episode("failure"), episode("failure")]
    quarter = [episode("success"), episode("failure"), episode("failure"), episode("failure")]
    bad = Turn((1,), (2,), (-1.0,), valid=False, possible=False)
    flat = [make_episode("failure", [bad])] * 4
    groups = [flat, quarter, halves, flat]
    for share, learned in ((1.0, 16), (0.5, 8), (0.25, 4), (0.3, 8)):
        scored, metrics = grpo.score(config(keep_share=share), groups)
        assert len(scored) == learned
        assert metrics["collect/groups_left_out"] == 4 - -(-share * 4 // 1)
    assert [item.rollout for item in grpo.score(config(keep_share=0.25), groups)[0]] == halves


def test_config_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="`group_size` must be >= 2"):
        GRPOConfig(group_size=1)
    with pytest.raises(ValueError, match=r"`lam` must be in \[0, 1\], got 2"):
        GRPOConfig(lam=2)
    with pytest.raises(ValueError, match=r"`dual_clip` must be > 1 or None, got 0\.5"):
        GRPOConfig(dual_clip=0.5)
    with pytest.raises(ValueError, match=r"`keep_share` must be in \(0, 1\], got 0"):
        GRPOConfig(keep_share=0)
    warm = GRPOConfig(warmup_updates=4, learning_rate=1.0)
    assert [warm.rates(progress) for progress in (0.5, 1, 4, 9.5)] == [(0.125,), (0.25,), (1,), (1,)]
    assert GRPOConfig(learning_rate=1.0).rates(0.1) == (1,)


def test_the_command_line_takes_a_preset_and_overrides(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[GRPOConfig] = []

    def note(config: GRPOConfig) -> Path:
        seen.append(config)
        return tmp_path

    monkeypatch.setattr(grpo, "train", note)
    grpo.main(["small", "--updates", "3", "--eval-envs", "Real-WebShop-v0", "--kl-coef", "0.05"])
    expected = dataclasses.replace(PRESETS["small"][1], updates=3, eval_envs=("Real-WebShop-v0",), kl_coef=0.05)
    assert seen == [expected]


def test_the_world_itself() -> None:
    env = GuessingEnv()
    env.reset()
    assert env.step("shout[moon]")[4]["possible"] is False
    assert env.step("say[moon]")[1:3] == (1.0, True)
