"""Rejection sampling in a tiny dream: it learns from its own successes, resumes bit for bit, counts what it should."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from guessing_world import demonstrations, dream_registered, make_policy, make_task  # noqa: E402

from dreamgym_env.trainers import rejection_sampling  # noqa: E402
from dreamgym_env.trainers.logs import read_metrics  # noqa: E402
from dreamgym_env.trainers.rejection_sampling import describe, parts_of, train  # noqa: E402
from dreamgym_env.trainers.rejection_sampling_config import PRESETS, RejectionSamplingConfig  # noqa: E402
from dreamgym_env.trainers.samplers import processes_on, visible  # noqa: E402
from dreamgym_env.trainers.sft import SFTConfig  # noqa: E402
from dreamgym_env.trajectories import read_trajectories, write_trajectories  # noqa: E402
from dreamgym_env.types import DataError, DreamGymError, EndReason, Trajectory  # noqa: E402

DOCS = Path(__file__).parent.parent / "docs" / "rejection-sampling.md"
Make = Callable[..., RejectionSamplingConfig]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that knows the form of an answer and says random words."""
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def config(policy: Path, tmp_path: Path) -> Make:
    def make(name: str = "run", **changes: Any) -> RejectionSamplingConfig:
        settings: dict[str, Any] = {
            "model": str(policy), "output": str(tmp_path / name), "env_id": "GuessDream-v0", "settings": ("top_k=0",),
            "per_task": 6, "epochs": 6.0, "response_tokens": 12, "max_tokens": 256, "num_envs": 24, "device": "cpu",
            "learning_rate": 3e-3, "batch_tokens": 512, "warmup_steps": 2, "bf16": False, "tensorboard": False,
        }  # fmt: skip
        return RejectionSamplingConfig(**settings | changes)

    return make


@pytest.fixture
def dream() -> Iterator[str]:
    with dream_registered() as env_id:
        yield env_id


def test_it_learns_from_what_it_won_and_logs_every_key_that_the_docs_define(config: Make, dream: str) -> None:
    settings = config(rounds=3, eval_envs=(dream,), eval_settings=("top_k=0",), eval_episodes=40, eval_temperature=1.0)
    folder = train(settings)
    rows = read_metrics(Path(settings.output) / "metrics.jsonl")
    assert [row["update"] for row in rows] == [0, 1, 2, 3]
    assert rows[1]["sampled/success"] < 0.75 < 0.9 < rows[3]["sampled/success"]
    before, *_, after = (row[f"eval/{dream}/success_rate"] for row in rows)
    assert before < 0.75 < 0.9 < after
    assert folder == Path(settings.output) / "policy"
    last = settings.policy_of(3)
    assert (folder / "model.safetensors").read_bytes() == (last / "model.safetensors").read_bytes()
    assert not (last / "checkpoints").exists()
    assert {row["real/train_steps"] for row in rows} == {row["real/eval_steps"] for row in rows} == {0.0}
    lines = re.findall(r"^\| (`.*?) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    defined = {name for line in lines for name in re.findall(r"`([^`]+)`", line)} | {"update"}
    logged = {key for row in rows for key in row if not key.startswith("eval/")}  # those are GRPO's
    assert logged <= defined, f"not in docs/rejection-sampling.md: {sorted(logged - defined)}"


def test_real_interactions_are_counted(config: Make) -> None:
    world = "guessing_world:Guess-v0"
    settings = config(env_id=world, settings=(), rounds=2, eval_envs=(world,), eval_episodes=6)
    train(settings)
    rows = read_metrics(Path(settings.output) / "metrics.jsonl")
    files = [sorted(settings.dreams_of(number).iterdir()) for number in (1, 2)]
    steps = [sum(len(one.transitions) for file in some for one in read_trajectories(file)) for some in files]
    assert [row["real/train_steps"] for row in rows] == [0, steps[0], steps[0] + steps[1]]
    assert [row["real/eval_steps"] for row in rows] == sorted({row["real/eval_steps"] for row in rows}), "it grows"
    assert rows[0]["real/eval_steps"] == 6 * rows[0][f"eval/{world}/mean_steps"]


def test_each_round_draws_its_tasks_and_learns_from_so_many_successes_of_each(config: Make, dream: str) -> None:
    settings = config(rounds=1, tasks_per_round=3, num_envs=16, per_task=2)
    tasks = [make_task(number) for number in range(6) if number % 3 != 2]
    rounds = [[task.task_id for part in parts_of(settings, number, tasks) for task in part.tasks] for number in (1, 2)]
    assert [len(set(one)) for one in rounds] == [3, 3]
    assert rounds[0] != rounds[1]
    assert [len(part.tasks) for part in parts_of(settings, 1, tasks)] == [2, 1], "num_envs holds two groups"
    train(settings)
    row = read_metrics(Path(settings.output) / "metrics.jsonl")[-1]
    wins = row["sampled/episodes"] - row["learned/failed"]
    assert row["sampled/episodes"] == 24
    assert row["learned/episodes"] == wins - row["learned/spare"] <= 6


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    config: Make, dream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = config("whole/run", rounds=2, num_envs=8), config("stopped/run", rounds=2, num_envs=8)
    train(whole)
    calls: list[int] = []

    def stop(*arguments: Any) -> int:
        calls.append(arguments[1])
        if len(calls) == 6:  # the second file of the second round
            raise KeyboardInterrupt
        return play(*arguments)

    play = rejection_sampling.play
    with monkeypatch.context() as patch:
        patch.setattr(rejection_sampling, "play", stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    assert calls == [1, 1, 1, 1, 2, 2]
    assert len(list(stopped.dreams_of(2).iterdir())) == 1
    assert not (Path(stopped.output) / "policy").exists()
    with pytest.raises(DataError, match="has an earlier run: go on with it with `resume`"):
        train(stopped)
    with pytest.raises(DataError, match=r"must be gone on with as it began: `temperature` was 1\.0, got 0\.5"):
        train(dataclasses.replace(stopped, resume=True, temperature=0.5))
    begun = Path(stopped.output) / "config.json"
    earlier = json.loads(begun.read_text("utf-8"))
    del earlier["restart"]  # as an earlier version wrote it
    begun.write_text(json.dumps(earlier), encoding="utf-8")
    with pytest.raises(DataError, match=r"must be gone on with as it began: `restart` was False, got True"):
        train(dataclasses.replace(stopped, resume=True, restart=True))
    begun.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"config\.json must hold the settings of the run .*; delete .* to begin anew"):
        train(dataclasses.replace(stopped, resume=True))
    begun.write_text(json.dumps(earlier), encoding="utf-8")
    (stopped.dreams_of(2) / ".partial-000003.jsonl.gz").write_bytes(b"half")
    train(dataclasses.replace(stopped, resume=True))
    for file in ("metrics.jsonl", "policy/model.safetensors"):
        assert (Path(stopped.output) / file).read_bytes() == (Path(whole.output) / file).read_bytes(), file
    train(dataclasses.replace(stopped, resume=True, rounds=3))
    assert [row["update"] for row in read_metrics(Path(stopped.output) / "metrics.jsonl")] == [0, 1, 2, 3]


def test_with_restart_each_round_learns_from_the_first_policy_and_all_rounds(
    config: Make, dream: str, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[SFTConfig] = []

    def run(settings: SFTConfig) -> dict[str, Any]:
        learned.append(settings)
        return sft(settings)

    sft = rejection_sampling.sft.run
    monkeypatch.setattr(rejection_sampling.sft, "run", run)
    settings = config(rounds=3, num_envs=8, per_task=None, restart=True)
    train(settings)
    assert [one.model for one in learned] == [str(policy)] * 3
    dreams = [[str(file) for file in sorted(settings.dreams_of(number).iterdir())] for number in (1, 2, 3)]
    assert [list(one.trajectories) for one in learned] == [
        dreams[0], [*dreams[1], *dreams[0]], [*dreams[2], *dreams[1], *dreams[0]],
    ]  # fmt: skip
    assert {one.policy for one in read_trajectories(Path(dreams[1][0]))} == {"run-2"}
    rows = read_metrics(Path(settings.output) / "metrics.jsonl")
    wins = [round(row["sampled/success"] * row["sampled/episodes"]) for row in rows[1:]]
    assert [row["learned/episodes"] for row in rows[1:]] == [wins[0], wins[0] + wins[1], sum(wins)]


def test_several_processes_play_what_one_would(config: Make) -> None:
    world = {"env_id": "guessing_world:Guess-v0", "settings": (), "rounds": 1, "num_envs": 8}
    one, two = config("one/run", **world), config("two/run", samplers=("cpu", "cpu"), **world)
    train(one)
    train(two)
    names = sorted(path.name for path in one.dreams_of(1).iterdir())
    assert names == sorted(path.name for path in two.dreams_of(1).iterdir())
    assert len(names) == 4
    for name in names:
        assert (one.dreams_of(1) / name).read_bytes() == (two.dreams_of(1) / name).read_bytes()


def test_a_process_that_dies_is_a_clear_error_and_one_that_fails_says_why() -> None:
    with (
        pytest.raises(DreamGymError, match=r"one of 2 processes that play ended before its time.*go on with `resume`"),
        processes_on(("cpu", "cpu")) as run_jobs,
    ):
        list(run_jobs(os._exit, [(3,)]))
    with pytest.raises(ValueError, match="invalid literal"), processes_on(("cpu", "cpu")) as run_jobs:
        list(run_jobs(int, [("7",), ("seven",)]))


@pytest.mark.parametrize(
    ("device", "seen", "shown"),
    [("cpu", "", ""), ("cuda:1", "", "1"), ("cuda:1", "4,6", "6"), ("cuda", "4", None), ("auto", "", None)],
)
def test_a_process_sees_its_own_device_alone(device: str, seen: str, shown: str | None) -> None:
    assert visible(device, seen) == ({} if shown is None else {"CUDA_VISIBLE_DEVICES": shown})


def test_a_round_in_figures() -> None:
    def ended(number: int, reason: EndReason) -> Trajectory:
        episode = next(one for one in demonstrations(40) if len(one.transitions) == 2)
        return dataclasses.replace(episode, task=make_task(number), end_reason=reason)

    ends: list[tuple[int, EndReason]] = [(0, "success"), (0, "success"), (1, "success"), (1, "time_limit")]
    ends += [(3, "failure"), (3, "model_error"), (4, "model_error")]
    found = describe([ended(number, reason) for number, reason in ends])
    assert (found["sampled/episodes"], found["sampled/broken"]) == (7, 2)
    assert found["sampled/success"] == 3 / 5
    assert (round(found["sampled/low"], 3), round(found["sampled/high"], 3)) == (0.231, 0.882)
    assert (found["sampled/tasks"], found["sampled/tasks_always"], found["sampled/tasks_never"]) == (3, 1, 1)
    assert found["sampled/steps"] == 2


def test_a_round_that_won_nothing_says_so(config: Make, tmp_path: Path) -> None:
    settings = config(
        env_id="guessing_world:Guess-v0", settings=("secret=comet",), trajectories=(str(tmp_path / "demos.jsonl"),)
    )
    write_trajectories(tmp_path / "demos.jsonl", demonstrations(20))
    with pytest.raises(DataError, match=r"round 1 must win something.*no success in 32 episodes; begin with a policy"):
        train(settings)


def test_demonstrations_are_learned_from_beside(config: Make, dream: str, tmp_path: Path) -> None:
    beside = [one for one in demonstrations(60) if one.success]
    write_trajectories(tmp_path / "demos.jsonl", beside)
    alone, both = (config(name, rounds=1, per_task=None, epochs=1.0) for name in ("alone", "both"))
    train(alone)
    train(dataclasses.replace(both, trajectories=(str(tmp_path / "demos.jsonl"),)))
    counts = [read_metrics(Path(one.output) / "metrics.jsonl")[-1]["learned/episodes"] for one in (alone, both)]
    assert counts[1] - counts[0] == len(beside)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "`rounds` must be >= 1, got 0"),
        ({"tasks_per_round": 0}, "`tasks_per_round` must be >= 1 or None, got 0"),
        ({"num_envs": 7}, r"`num_envs` must be >= `group_size` \(8\), got 7"),
        ({"temperature": 0.0}, "`temperature` must be > 0: a greedy policy explores nothing, got 0.0"),
        ({"samplers": ()}, "`samplers` must name at least one device, got none"),
        ({"samplers": ("tpu",)}, "`samplers` must be .*got 'tpu'"),
        ({"epochs": 0.0}, "`epochs` must be > 0, got 0.0"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PRESETS["laptop/webarena"][1], **changes)
