"""Success rates with their intervals, and the evaluate command in the tiny real world."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("torch")

from guessing_world import make_checkpoint, make_task, run_settings

from dreamgym_env.trainers import cli
from dreamgym_env.trainers import evaluate as module
from dreamgym_env.trainers.agent import Rollout, Turn
from dreamgym_env.trainers.evaluate import EvaluateConfig, choose_episodes, run_all, summarise
from dreamgym_env.trainers.evaluate_table import tables
from dreamgym_env.trainers.intervals import wilson_interval
from dreamgym_env.trainers.pools import EnvPool
from dreamgym_env.trainers.rollout import Progress
from dreamgym_env.trainers.run_config import RunConfig
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import DataError, EndReason, Task, Trajectory, Transition


def test_wilson_interval_by_hand_and_at_the_ends() -> None:
    # k = 5, n = 10, z = 1.96: centre 1/2, half-width 1.96 / 1.38416 * sqrt(0.025 + 0.009604) = 0.26340.
    low, high = wilson_interval(5, 10, z=1.96)
    assert low == pytest.approx(0.5 - 0.26340, abs=1e-4)
    assert high == pytest.approx(0.5 + 0.26340, abs=1e-4)
    assert wilson_interval(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))  # z^2 / (n + z^2) = 3.8415 / 13.8415
    assert wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"`k` must be in \[0, n\], got k=3, n=2"):
        wilson_interval(3, 2)


def rollout(reason: EndReason, turns: int) -> Rollout:
    task = make_task(0)
    step = Transition(task, 0, "a", "b", "c", reward=float(reason == "success"))
    turn = Turn((1,), (2, 3), (-0.1, -0.2))
    return Rollout(Trajectory(task, (step,), reason), (turn,) * turns)


def test_broken_episodes_are_no_failures() -> None:
    result = summarise([rollout("success", 1), rollout("failure", 3), rollout("model_error", 9)], "X-v0", "dream")
    assert (result.n, result.successes, result.success_rate) == (2, 1, 0.5)
    assert result.end_reasons == {"success": 1, "failure": 1, "model_error": 1}
    assert (result.mean_steps, result.mean_response_tokens, result.steps) == (2.0, 4.0, 13)
    uncounted = replace(rollout("failure", 1), turns=(Turn((), ()),))
    assert summarise([rollout("success", 1), uncounted], "X-v0", "dream").mean_response_tokens is None
    empty = summarise([rollout("model_error", 1)], "X-v0", "dream")
    assert (empty.n, empty.low, empty.high) == (0, 0.0, 1.0)


def test_success_by_task_type() -> None:
    found = [rollout("success", 1), rollout("failure", 3), rollout("model_error", 9)]
    assert summarise(found, "X-v0", "dream").by_type == {}
    by_type = summarise(found, "X-v0", "dream", lambda task: task.instruction).by_type
    low, high = wilson_interval(1, 2)
    assert by_type == {"Find the word": {"n": 2, "successes": 1, "low": low, "high": high}}


def test_few_tasks_are_played_again() -> None:
    tasks = [make_task(0), make_task(1)]
    assert choose_episodes(tasks, 5) == [tasks[0]] * 3 + [tasks[1]] * 2
    assert choose_episodes(tasks, 5, spread=True) == choose_episodes(tasks, 5)
    ten = [make_task(index) for index in range(10)]
    assert choose_episodes(ten, 4) == ten[:4]
    assert choose_episodes(ten, 4, spread=True) == [ten[index] for index in (0, 2, 5, 7)]


def test_the_command_plays_held_out_tasks_and_repeats_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = make_checkpoint(tmp_path / "policy")
    arguments = f"--policy {policy} --env-id guessing_world:Guess-v0 --episodes 6 --temperature 1 --max-tokens 8"
    arguments += f" --context-tokens 256 --num-envs 3 --settings tasks=9 --device cpu --output {tmp_path / 'a.json'}"
    module.main([*arguments.split(), "--trajectories", str(tmp_path / "a.jsonl")])
    printed = json.loads(capsys.readouterr().out)
    saved = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert saved["n"] == printed["n"] == 6
    assert saved["source"] == "real"
    assert saved["invalid_actions"] > 0  # random weights speak no grammar
    episodes = list(read_trajectories(tmp_path / "a.jsonl"))
    assert {episode.task.split for episode in episodes} == {"held_out"}
    assert len({episode.task.task_id for episode in episodes}) == 3
    module.main([*arguments.split(), "--trajectories", str(tmp_path / "b.jsonl")])
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_file_that_cannot_be_written_is_told_before_anything_is_played(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    config = EvaluateConfig("nowhere", env_id="no-such:Env-v0")
    under_a_file, folder = str(tmp_path / "file" / "a.json"), str(tmp_path)
    for wrong in (replace(config, output=under_a_file), replace(config, trajectories=under_a_file)):
        with pytest.raises(DataError, match=r"file/a\.json cannot be written"):
            run_all(wrong)
    with pytest.raises(DataError, match=r"cannot be written .*name too long"):
        run_all(replace(config, output=str(tmp_path / ("a" * 300))))
    for wrong in (replace(config, output=folder), replace(config, trajectories=folder)):
        with pytest.raises(DataError, match="it must be a file in a folder"):
            run_all(wrong)


def two_guesses(folder: Path) -> EvaluateConfig:
    policy = str(make_checkpoint(folder / "policy"))
    return EvaluateConfig(
        policy,
        "guessing_world:Guess-v0",
        episodes=2,
        max_tokens=8,
        context_tokens=256,
        settings=("tasks=9",),
        device="cpu",
    )


def test_a_full_disk_leaves_the_figures(tmp_path: Path) -> None:
    config = two_guesses(tmp_path)
    with pytest.raises(DataError, match=r'/dev/full cannot be written .*No space left.*; the figures so far: .*"n": 2'):
        run_all(replace(config, output="/dev/full"))


def test_the_file_that_failed_is_named_and_the_other_is_there(tmp_path: Path) -> None:
    output, too_long = tmp_path / "a.json", "a" * 240 + ".jsonl"  # its partial file's name is longer than names may be
    config = replace(two_guesses(tmp_path), output=str(output), trajectories=str(tmp_path / too_long))
    with pytest.raises(DataError, match=rf'{too_long} cannot be written .*; the figures so far: .*"n": 2'):
        run_all(config)
    assert json.loads(output.read_text(encoding="utf-8"))["n"] == 2


def test_an_interrupted_evaluation_keeps_the_temperatures_that_were_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, episodes = tmp_path / "new" / "a.json", tmp_path / "new" / "a.jsonl"
    config = replace(two_guesses(tmp_path), temperatures=(0, 1), output=str(output), trajectories=str(episodes))
    player = module.player

    def interrupted(config: EvaluateConfig, pool: EnvPool) -> module.Player:
        play = player(config, pool)

        def once(temperature: float, tasks: Sequence[Task], progress: Progress | None) -> list[Rollout]:
            if temperature == 1:
                raise KeyboardInterrupt
            return play(temperature, tasks, progress)

        return once

    monkeypatch.setattr(module, "player", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(config)
    assert json.loads(output.read_text(encoding="utf-8"))["temperature"] == 0
    assert len(list(read_trajectories(episodes))) == 2


def hub_with(folder: Path, name: str, checkpoint: Path, patch: pytest.MonkeyPatch) -> None:
    """The hub's cache in `folder` with this one checkpoint, and no network."""
    constants = pytest.importorskip("huggingface_hub").constants
    patch.setattr(constants, "HF_HUB_CACHE", str(folder))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    kept, commit = folder / f"models--{name.replace('/', '--')}", "0" * 40
    shutil.copytree(checkpoint, kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "policy"), [("org/guesser", "org/guesser"), ("org/guesser", "hf:org/guesser"), ("gpt2", "hf:gpt2")]
)
def test_a_policy_from_the_hub(name: str, policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dreamgym_env.language_model import TransformersModel, load_language_model
    from dreamgym_env.trainers.run import load_policy

    checkpoint = make_checkpoint(tmp_path / "policy")
    hub_with(tmp_path / "hub", name, checkpoint, monkeypatch)
    config = EvaluateConfig(
        policy, "guessing_world:Guess-v0", episodes=3, max_tokens=8, context_tokens=256, settings=("tasks=9",),
        device="cpu", trajectories=str(tmp_path / "a.jsonl"),
    )  # fmt: skip
    assert module.run(config) == module.run(replace(config, policy=str(checkpoint), trajectories=None))
    assert {one.policy for one in read_trajectories(tmp_path / "a.jsonl")} == {name.removeprefix("org/")}
    settings = run_settings(Path("unused"), tmp_path / "run", policy=policy)
    assert load_policy(RunConfig(**settings), policy, "cpu").model.config.hidden_size == 32
    if policy.startswith("hf:"):
        assert isinstance(load_language_model(policy, device="cpu"), TransformersModel)


def test_greedy_and_sampled_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from guessing_world import make_policy

    policy = make_policy(tmp_path)
    shared = f"evaluate --policy {policy} --env-id guessing_world:Guess-v0 --episodes 8 --max-tokens 12 --device cpu"
    shared += f" --context-tokens 256 --settings tasks=9 --trajectories {tmp_path / 'a.jsonl'}"
    found = {}
    for temperatures in ((0.0, 1.0), (0.0,), (1.0,)):
        capsys.readouterr()
        assert cli.main([*shared.split(), "--temperatures", *map(str, temperatures)]) == 0
        out, told = capsys.readouterr()
        found[temperatures] = json.loads(out[out.index("{") :])
        if len(temperatures) == 2:
            assert "greedy" in told
            assert "at 1" in told
            assert len({one.trajectory_id for one in read_trajectories(tmp_path / "a.jsonl")}) == 16
    both = found[0.0, 1.0]["evaluations"]
    assert [one["temperature"] for one in both] == [0.0, 1.0]
    assert both == [found[0.0,], found[1.0,]]  # each as if it were alone
    assert both[0]["success_rate"] in (0.0, 1.0)  # greedy, in a world that is the same whatever the task


def test_the_table_tells_intervals_and_types() -> None:
    found = [rollout("success", 1), rollout("failure", 3), rollout("model_error", 9)]
    results = [
        replace(summarise(chosen, "X-v0", "dream", lambda task: task.instruction), temperature=temperature)
        for chosen, temperature in ((found, 0.0), (found[:1], 0.4))
    ]
    console = Console(width=200, record=True, quiet=False, file=io.StringIO())
    for shown in tables("policy", results):
        console.print(shown)
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()]
    greedy, sampled = (next(line for line in lines if line[0] == word) for word in ("greedy", "at"))
    assert greedy[1:] == ["50.0%", "[9.5,", "90.5]", "of", "2", "0.500", "2.0", "4", "0.0%", "0.0%"]
    assert sampled[1:7] == ["0.4", "100.0%", "[20.7,", "100.0]", "of", "1"]
    assert ["model_error", "1", "0"] in lines
    assert lines[-1][:8] == ["Find", "the", "word", "50.0%", "[9.5,", "90.5]", "of", "2"]
    assert lines[-1][8:] == ["100.0%", "[20.7,", "100.0]", "of", "1"]


def test_config_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="`episodes` must be >= 1, got 0"):
        EvaluateConfig("p", episodes=0)
    with pytest.raises(ValueError, match=r"`temperatures` must be >= 0, got \(0\.0, -1\.0\)"):
        EvaluateConfig("p", temperatures=(0.0, -1.0))
    with pytest.raises(ValueError, match="`temperatures` must be different ones"):
        EvaluateConfig("p", temperatures=(0.4, 0.4))
    with pytest.raises(ValueError, match=r"`temperatures` must be \(\) for a script"):
        EvaluateConfig("script:oracle", temperatures=(0.0, 0.4))
    with pytest.raises(ValueError, match="must be at most one for a single evaluation"):
        module.run(EvaluateConfig("p", temperatures=(0.0, 0.4)))
