"""Nothing is lost: jobs killed by force at an arbitrary moment go on bit for bit, and a full disk is a clear error."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from guessing_world import demonstrations, dream_registered, make_checkpoint, make_policy  # noqa: E402

from dreamgym_env.language_model import TransformersModel  # noqa: E402
from dreamgym_env.trainers import audit, bench, collect, dpo, experience, grpo, measure, ppo, sft  # noqa: E402
from dreamgym_env.trainers.audit import AuditConfig  # noqa: E402
from dreamgym_env.trainers.bench import BenchConfig  # noqa: E402
from dreamgym_env.trainers.checkpoint import list_checkpoints, save_checkpoint, verify_checkpoint  # noqa: E402
from dreamgym_env.trainers.collect import CollectConfig  # noqa: E402
from dreamgym_env.trainers.disk import writing  # noqa: E402
from dreamgym_env.trainers.dpo import DPOConfig  # noqa: E402
from dreamgym_env.trainers.experience_config import ExperienceTrainingConfig  # noqa: E402
from dreamgym_env.trainers.grpo_config import GRPOConfig  # noqa: E402
from dreamgym_env.trainers.logs import MetricsLog, read_metrics  # noqa: E402
from dreamgym_env.trainers.measure import MeasureConfig  # noqa: E402
from dreamgym_env.trainers.offline import OfflineConfig, collect_offline  # noqa: E402
from dreamgym_env.trainers.ppo_config import PPOConfig  # noqa: E402
from dreamgym_env.trainers.progress import show_progress  # noqa: E402
from dreamgym_env.trainers.scratch import SmallConfig  # noqa: E402
from dreamgym_env.trainers.served import ServedPolicy  # noqa: E402
from dreamgym_env.trainers.sft import SFTConfig  # noqa: E402
from dreamgym_env.trainers.supervised import SupervisedConfig  # noqa: E402
from dreamgym_env.trajectories import read_trajectories, write_trajectories  # noqa: E402
from dreamgym_env.types import DataError, ModelError  # noqa: E402

TIMES = ("time/", "tokens_per_second")
RL: dict[str, Any] = {
    "tasks_per_update": 4, "max_tokens": 12, "context_tokens": 256, "learning_rate": 3e-3, "mini_batch": 16,
    "token_budget": 1024, "eval_every": 3, "eval_episodes": 4, "device": "cpu", "tensorboard": False, "save_every": 1,
    "updates": 20, "resume": True,
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A job that writes into `folder`: what runs it, when it may be killed, what it leaves when it is done."""

    module: str
    run: Callable[[Any], Any]
    config: Any
    begun: Callable[[Path], bool]
    result: str
    metrics: str = "metrics.jsonl"


def checkpointed(folder: Path) -> bool:
    return len(list_checkpoints(folder / "checkpoints")) > 0


def make_grpo(folder: Path, work: Path) -> Job:
    """In the dream, with a growing buffer and generated tasks: all that a checkpoint has to hold."""
    config = GRPOConfig(
        policy=str(make_policy(work)), env_id="GuessDream-v0", settings=("top_k=1",), output=str(folder), lam=0.5,
        variations=2, grow_buffer=True, group_size=4, **RL,
    )  # fmt: skip
    return Job("grpo.train", grpo.train, config, checkpointed, "policy/model.safetensors")


def make_ppo(folder: Path, work: Path) -> Job:
    """For real under a budget, with an adapted KL and a critic."""
    changes = {**RL, "tasks_per_update": 24, "updates": 400}
    config = PPOConfig(
        policy=str(make_policy(work)), env_id="guessing_world:Guess-v0", output=str(folder), real_budget=900,
        kl_target=0.05, kl_horizon=100, critic_learning_rate=3e-3, **changes,
    )  # fmt: skip
    return Job("ppo.train", ppo.train, config, checkpointed, "policy/model.safetensors")


def make_sft(folder: Path, work: Path) -> Job:
    base, data = make_checkpoint(work / "base"), work / "demos.jsonl"
    write_trajectories(data, demonstrations(120))
    config = SFTConfig(
        str(base), (str(data),), str(folder), epochs=25, batch_tokens=512, save_every=7, log_every=5, resume=True
    )
    return Job("sft.run", sft.run, config, checkpointed, "model.safetensors")


def make_experience(folder: Path, work: Path) -> Job:
    data = work / "train.jsonl"
    collect.main(CollectConfig(out=data, episodes=12, seed=3))
    config = ExperienceTrainingConfig(
        data=(data,), out=folder, million_tokens=0.06, top_k=1, permute_share=0.5, resume=True,
        model=SmallConfig(hidden_size=64, heads=2, layers=2, attention=(1,), feed_forward=96, max_positions=4096),
        training=SupervisedConfig(batch_tokens=1024, warmup_steps=2, log_every=3, save_every=4),
    )  # fmt: skip
    return Job("experience.main", experience.main, config, checkpointed, "model.safetensors")


def make_collect(folder: Path, work: Path) -> Job:
    config = CollectConfig(out=folder / "real.jsonl", episodes=2500, seed=5, resume=True)
    return Job("collect.main", collect.main, config, lambda at: (at / ".real.jsonl.partial").exists(), "real.jsonl", "")


def make_dpo(folder: Path, work: Path) -> Job:
    pytest.importorskip("trl")
    from dreamgym_env.trainers.dpo_trainer import newest_checkpoint

    data = work / "demos.jsonl"
    write_trajectories(data, demonstrations(120))
    config = DPOConfig(
        str(make_policy(work)), (str(data),), str(folder), pairs_per_task=16, batch_size=8, accumulation=1, epochs=12,
        learning_rate=1e-3, warmup_steps=2, device="cpu", bf16=False, save_every=4, log_every=2, resume=True,
    )  # fmt: skip
    return Job("dpo.run", dpo.run, config, lambda at: newest_checkpoint(at / "checkpoints") is not None,
               "model.safetensors")  # fmt: skip


MAKERS = {
    "grpo": make_grpo, "ppo": make_ppo, "sft": make_sft, "dpo": make_dpo, "experience": make_experience,
    "collect": make_collect,
}  # fmt: skip


@pytest.mark.parametrize("name", ["grpo", "ppo", "sft", "dpo", "experience"])
def test_a_run_without_resume_leaves_an_earlier_ones_checkpoints_alone(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    job = MAKERS[name](folder, tmp_path)
    checkpoint = folder / "checkpoints" / ("checkpoint-12" if name == "dpo" else "update_000012")
    checkpoint.mkdir(parents=True)
    with dream_registered(), pytest.raises(DataError, match=f"checkpoints of an earlier run \\({checkpoint.name}\\)"):
        job.run(replace(job.config, resume=False))
    assert [path.name for path in folder.iterdir()] == ["checkpoints"]


def program(job: Job, work: Path) -> list[str]:
    """The job as a process of its own."""
    lines = [
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "import guessing_world; from pathlib import *; from test_nothing_is_lost import *",
        f"with dream_registered(): {job.module}({job.config!r})",
    ]
    file = work / "program.py"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [sys.executable, str(file)]


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_a_killed_job_goes_on_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    folders = [tmp_path / "killed" / "run", tmp_path / "whole" / "run"]  # trajectories are named after the last part
    killed, whole = (MAKERS[name](folder, tmp_path) for folder in folders)
    process = subprocess.Popen(program(killed, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not killed.begun(folders[0]):
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.4))  # any moment from here on, another one each time
    process.kill()
    assert process.wait() == -9, "the job was done before it could be killed"
    assert not (folders[0] / killed.result).exists()
    done = subprocess.run(program(killed, tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with dream_registered():
        whole.run(whole.config)
    assert (folders[0] / killed.result).read_bytes() == (folders[1] / whole.result).read_bytes()
    if killed.metrics:
        told, retold = (without_times(read_metrics(folder / killed.metrics)) for folder in folders)
        assert told == retold
        assert len(told) > 3
    if name in ("grpo", "ppo"):
        left, right = (list_checkpoints(folder / "checkpoints")[-1] for folder in folders)
        for file in sorted(path.relative_to(left) for path in left.rglob("*") if path.is_file()):
            if file.name not in ("state.json", "manifest.json"):  # they hold the folder's name
                assert (left / file).read_bytes() == (right / file).read_bytes(), file
        states = [json.loads((path / "state.json").read_text("utf-8")) for path in (left, right)]
        assert {**states[0], "config": 0} == {**states[1], "config": 0}


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if not key.startswith(TIMES)} for row in rows]


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Every write beyond so many bytes of a file fails, as on a full disk, for whoever runs the tests."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_leaves_the_last_checkpoint_and_no_debris(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, folder = make_checkpoint(tmp_path / "base"), tmp_path / "checkpoints"
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    parts = (model, AutoTokenizer.from_pretrained(base), torch.optim.AdamW(model.parameters()))
    model(input_ids=torch.arange(9)[None], labels=torch.arange(9)[None]).loss.backward()
    parts[2].step()
    first = save_checkpoint(folder, 1, *parts, {})
    weights = (first / "policy" / "model.safetensors").stat().st_size
    for size in (100, weights - 1, weights + 1):  # in the config, in the weights, in the optimizer's tensors
        with no_file_above(size), pytest.raises(DataError, match=r"update_000002 cannot be written \(.*too large"):
            save_checkpoint(folder, 2, *parts, {})
        assert [path.name for path in folder.iterdir()] == ["update_000001"]
        verify_checkpoint(first)
    with no_file_above(100), pytest.raises(DataError, match="there is no checkpoint before it: make room, then go on"):
        save_checkpoint(tmp_path / "other", 1, *parts, {})
    assert save_checkpoint(folder, 2, *parts, {}).name == "update_000002"


def test_what_libraries_raise_on_a_full_disk_is_one_error(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(make_checkpoint(tmp_path / "base"))
    tensors = {"weight": torch.zeros(1000)}
    ways: dict[str, Callable[[Path], Any]] = {
        "python": lambda file: file.write_text("x" * 1000, encoding="utf-8"),
        "safetensors": lambda file: save_file(tensors, file),
        "tokenizers": lambda file: tokenizer.backend_tokenizer.save(str(file)),
        "torch": lambda file: torch.save(tensors, file),
    }
    for name, write in ways.items():
        file = tmp_path / name
        with pytest.raises(DataError, match=f"{name} cannot be written .*; all is whole: make room"):  # noqa: SIM117
            with no_file_above(100), writing(file, "all is whole", cleared=file):
                write(file)
        assert not file.exists()
        with pytest.raises(DataError, match=r"make room, then give the command again$"), no_file_above(100):  # noqa: SIM117
            with writing(file, None):
                write(file)
    with pytest.raises(RuntimeError, match="out of memory"), writing(file, None):
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("size", [20_000, 100_000])  # in the weights, in the optimizer's tensors
def test_dpo_on_a_full_disk_goes_on_when_there_is_room(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    from dreamgym_env.trainers.dpo_trainer import Report

    job = make_dpo(tmp_path / "full", tmp_path)
    config = replace(job.config, epochs=2)
    dpo.run(replace(config, output=str(tmp_path / "whole")))
    limit, ended = no_file_above(size), Report.on_step_end

    def fill(self: Any, args: Any, state: Any, *others: Any, **keywords: Any) -> None:
        ended(self, args, state, *others, **keywords)
        if state.global_step == 8:
            limit.__enter__()

    with monkeypatch.context() as patch:
        patch.setattr(Report, "on_step_end", fill)
        try:
            with pytest.raises(DataError, match=r"checkpoint-8 cannot be written \(.*; checkpoint-4 is whole: make ro"):
                dpo.run(config)
        finally:
            limit.__exit__(None, None, None)
    kept = [path.name for path in (tmp_path / "full" / "checkpoints").iterdir() if path.is_dir()]
    assert kept == ["checkpoint-4"]
    dpo.run(config)
    for file in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "full" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


@pytest.mark.parametrize("name", ["sft", "dpo", "experience"])
def test_a_final_policy_is_whole_or_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch
    import transformers.modeling_utils

    folder = tmp_path / "run"
    job = MAKERS[name](folder, tmp_path)
    small = {"sft": {"epochs": 0.1}, "dpo": {"epochs": 0.2}, "experience": {"million_tokens": 0.005}}[name]

    save_file = safetensors.torch.save_file

    def cut_off(tensors: Any, file: Any, *arguments: Any, **keywords: Any) -> None:
        if "checkpoints" in Path(file).parts:
            save_file(tensors, file, *arguments, **keywords)
        else:
            Path(file).write_bytes(b"half")
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transformers.modeling_utils, "safe_save_file", cut_off)
        with pytest.raises(KeyboardInterrupt):
            job.run(replace(job.config, **small))
    assert not (folder / job.result).exists()
    job.run(replace(job.config, **small))
    assert (folder / job.result).stat().st_size > 10_000
    assert not list(folder.glob(".partial*"))


def test_the_final_critic_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    job = make_ppo(tmp_path / "run", tmp_path)
    config, critic = replace(job.config, updates=1, eval_every=0), tmp_path / "run" / "critic.safetensors"
    save_file = safetensors.torch.save_file

    def cut_off(tensors: Any, file: Path, *arguments: Any) -> None:
        if file.parent == critic.parent:
            file.write_bytes(b"half")
            raise KeyboardInterrupt
        save_file(tensors, file, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", cut_off)
        with pytest.raises(KeyboardInterrupt):
            ppo.train(config)
    assert not critic.exists()
    with no_file_above(2000), pytest.raises(DataError, match=r"critic.safetensors cannot be written .*checkpoints are"):
        ppo.train(config)
    assert not critic.exists()
    ppo.train(config)
    assert critic.stat().st_size > 2000
    assert not list(critic.parent.glob(".partial*"))


def test_the_weights_for_a_server_stay_where_the_disk_is_full(tmp_path: Path) -> None:
    local = TransformersModel.load(str(make_policy(tmp_path)), device="cpu")
    served = ServedPolicy("vllm@http://127.0.0.1:9/v1", tmp_path / "served", local)
    with pytest.raises(ModelError, match="nobody answers"):
        served.renew()
    before = (tmp_path / "served" / "model.safetensors").read_bytes()
    with no_file_above(20_000), pytest.raises(DataError, match=r"served cannot be written .*the checkpoints are whole"):
        served.renew()
    assert (tmp_path / "served" / "model.safetensors").read_bytes() == before
    assert not list(tmp_path.glob(".partial*"))


def test_a_policys_own_episodes_on_a_full_disk_go_on_when_there_is_room(tmp_path: Path) -> None:
    config = OfflineConfig(
        output=str(tmp_path / "full"), env_id="guessing_world:Guess-v0", settings=(), policy=str(make_policy(tmp_path)),
        transitions=100, tasks=4, group_size=4, temperature=1.0, max_tokens=12, context_tokens=256, history=None,
        device="cpu",
    )  # fmt: skip
    whole = collect_offline(replace(config, output=str(tmp_path / "whole"))).read_bytes()
    for size, name in ((5000, "round-000000.jsonl"), (len(whole) - 1, "trajectories.jsonl")):
        with no_file_above(size), pytest.raises(DataError, match=f"{name} cannot be written .*whole: make room"):
            collect_offline(config)
    assert collect_offline(config).read_bytes() == whole
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["trajectories.jsonl"]


def test_a_run_on_a_full_disk_goes_on_when_there_is_room(tmp_path: Path) -> None:
    job = make_ppo(tmp_path / "full", tmp_path)
    config = replace(job.config, updates=4, eval_every=0)
    straight = ppo.train(replace(config, output=str(tmp_path / "whole")))
    limit = no_file_above(20_000)

    def fill(update: int, metrics: dict[str, float]) -> None:
        if update == 3:
            limit.__enter__()

    with pytest.raises(DataError, match=r"update_000003 cannot be written .*checkpoint update_000002 is whole"):
        ppo.train(config, fill)
    limit.__exit__(None, None, None)
    resumed = ppo.train(config)
    for file in ("model.safetensors", "../critic.safetensors"):
        assert (straight / file).read_bytes() == (resumed / file).read_bytes(), file
    rows = [without_times(read_metrics(path.parent / "metrics.jsonl")) for path in (straight, resumed)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "job",
    [
        lambda output: audit.main(AuditConfig(env_id="no-such:Env-v0", output=output)),
        lambda output: audit.main(AuditConfig(env_id="no-such:Env-v0", trajectories=output)),
        lambda output: measure.main(MeasureConfig((), model="nowhere", output=output)),
        lambda output: bench.main(BenchConfig(env_id="no-such:Env-v0", output=output)),
    ],
)
def test_a_report_that_cannot_be_written_is_told_before_the_work(tmp_path: Path, job: Callable[[Path], Any]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"file/a\.json cannot be written"):
        job(tmp_path / "file" / "a.json")
    with pytest.raises(DataError, match="it must be a file in a folder"):
        job(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_audit_whose_report_cannot_be_written_has_shown_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    config = AuditConfig(("random",), episodes=2, output=Path("/dev/full"))
    with pytest.raises(DataError, match=r"/dev/full cannot be written \(.*No space left"):
        audit.main(config)
    assert "audit under random" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, tensorboard=False) as log:
        log.write(1, {"a": 1.0})
        log.path.unlink()
        os.symlink("/dev/full", log.path)
        with pytest.raises(DataError, match=r"metrics.jsonl cannot be written \(.*No space left.*make room"):
            log.write(2, {"a": 1.0})


@pytest.mark.parametrize("supervised", [False, True])
def test_a_kill_while_a_log_is_taken_over_loses_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supervised: bool
) -> None:
    log, line = tmp_path / "metrics.jsonl", '{"step": 1, "update": 1}\n'
    log.write_text(2 * line, encoding="utf-8")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        show_progress("SFT", log, 1).__enter__() if supervised else MetricsLog(tmp_path, 1, tensorboard=False)
    assert log.read_text("utf-8") == 2 * line


def test_a_collection_goes_on_from_any_byte(tmp_path: Path) -> None:
    config = CollectConfig(out=tmp_path / "whole.jsonl", episodes=9, seed=2, resume=True)
    told = collect.main(config)
    whole = config.out.read_bytes()
    rng = random.Random(1)
    for cut in (0, 1, *rng.sample(range(len(whole)), 4), len(whole)):
        halves = replace(config, out=tmp_path / "halves.jsonl")
        halves.out.unlink(missing_ok=True)
        halves.partial.write_bytes(whole[:cut])
        assert {**collect.main(halves), "out": 0} == {**told, "out": 0}
        assert halves.out.read_bytes() == whole
        assert not halves.partial.exists()
    assert {**collect.main(halves), "out": 0} == {**told, "out": 0}  # nothing is left to do
    packed = replace(config, out=tmp_path / "packed.jsonl.gz")
    packed.partial.write_bytes(whole[: len(whole) // 2])
    collect.main(packed)
    assert list(read_trajectories(packed.out)) == list(read_trajectories(config.out))
    other = replace(config, out=tmp_path / "other.jsonl", seed=3)
    other.partial.write_bytes(whole)
    with pytest.raises(DataError, match="must hold what this collection began with"):
        collect.main(other)
    with no_file_above(len(whole) // 2), pytest.raises(DataError, match="the episodes before this one are whole"):
        collect.main(replace(config, out=tmp_path / "full.jsonl"))
    collect.main(replace(config, out=tmp_path / "full.jsonl"))
    assert (tmp_path / "full.jsonl").read_bytes() == whole


def test_a_collection_keeps_to_its_transitions(tmp_path: Path) -> None:
    config = CollectConfig(out=tmp_path / "some.jsonl", episodes=1000, transitions=80, policies=("random:1",))
    steps = collect.main(config)["steps"]
    assert 80 - 15 < steps <= 80  # an episode of this shop has at most 15 steps
    with pytest.raises(ValueError, match="`transitions` must be >= 1 or None, got 0"):
        replace(config, transitions=0)
