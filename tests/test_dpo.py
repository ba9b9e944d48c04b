"""DPO of a policy: which episodes are paired, what counts, the loss by hand and against TRL's, resuming, the result."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from guessing_world import demonstrations, make_policy, make_task, make_tokenizer  # noqa: E402
from launching import launch  # noqa: E402

from dreamgym_env.trainers import cli, dpo  # noqa: E402
from dreamgym_env.trainers.dpo import DPOConfig, make_trainer, train, trained_policy  # noqa: E402
from dreamgym_env.trainers.logs import read_metrics  # noqa: E402
from dreamgym_env.trainers.pairs import Pair, PairCollator, Pairs, load_pairs, rows  # noqa: E402
from dreamgym_env.trainers.supervised import Example  # noqa: E402
from dreamgym_env.trajectories import write_trajectories  # noqa: E402
from dreamgym_env.types import DataError, EndReason, Trajectory, Transition  # noqa: E402

DOCS = Path(__file__).parent.parent / "docs" / "sft-dpo.md"


def episode(number: int, words: tuple[str, ...], reason: EndReason, **changes: Any) -> Trajectory:
    """An episode of the guessing world in which so many words were said; `changes` to its first step."""
    task = make_task(number)
    steps = [Transition(task, index, "Say a word", f"say[{word}]", f"Not {word}") for index, word in enumerate(words)]
    steps[0] = dataclasses.replace(steps[0], **changes)
    return Trajectory(task, tuple(steps), reason)


def pairs_of(trajectories: list[Trajectory], **changes: Any) -> Pairs:
    values = {"pairs_per_task": 4, "max_tokens": 256, "skip_impossible": True, "seed": 0, **changes}
    return load_pairs(make_tokenizer(), trajectories, **values)


def said(example: Example) -> str:
    """The tokens that count, as text."""
    return str(make_tokenizer().decode(example.ids[example.weights > 0]))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that knows the form of an answer and says random words."""
    return make_policy(tmp_path_factory.mktemp("policy"))


def config(policy: Path | str, output: Path | str = "o", **changes: Any) -> DPOConfig:
    values: dict[str, Any] = {
        "trajectories": ("t",), "pairs_per_task": 16, "batch_size": 8, "accumulation": 1, "warmup_steps": 2,
        "learning_rate": 3e-3, "epochs": 4, "device": "cpu", "bf16": False, "log_every": 5,
    }  # fmt: skip
    return DPOConfig(str(policy), output=str(output), **{**values, **changes})


def held_out(trajectory: Trajectory) -> Trajectory:
    task = dataclasses.replace(trajectory.task, split="held_out")
    steps = tuple(dataclasses.replace(step, task=task) for step in trajectory.transitions)
    return dataclasses.replace(trajectory, task=task, transitions=steps)


def test_pairs_are_of_one_task_and_what_gives_none_is_counted() -> None:
    won = [episode(0, ("moon",), "success"), episode(0, ("sun", "moon"), "success"), episode(1, ("moon",), "success")]
    lost = [episode(0, ("sun", "star"), "failure"), episode(3, ("star", "star"), "time_limit")]
    other = [
        episode(2, ("moon",), "success"), episode(2, ("sun", "sun"), "failure"), episode(4, ("sun",), "model_error"),
    ]  # fmt: skip
    found = pairs_of([*won, *lost, *other])
    assert {(said(pair.chosen), said(pair.rejected)) for pair in found.train} == {
        (
            "<action>say[moon]</action><|im_end|>",
            "<action>say[sun]</action><|im_end|><action>say[star]</action><|im_end|>",
        ),
        (
            "<action>say[sun]</action><|im_end|><action>say[moon]</action><|im_end|>",
            "<action>say[sun]</action><|im_end|><action>say[star]</action><|im_end|>",
        ),
    }
    assert (len(found.held_out), found.tasks, found.never_succeeded, found.never_failed) == (1, 2, 1, 1)
    assert (found.broken, found.too_long) == (1, 0)
    with pytest.raises(DataError, match=r"a success and a failure of one and the same training task.*'too_long': 7"):
        pairs_of([*won, *lost, *other], max_tokens=10)


def test_so_many_pairs_of_each_task_are_drawn_by_the_seed() -> None:
    given = demonstrations(60)
    wins, losses = (
        [t for t in given if t.success is success and t.task.task_id == "guess-0"] for success in (True, False)
    )
    every = pairs_of([*wins, *losses], pairs_per_task=10_000).train
    assert len(every) == len(wins) * len(losses) > 20
    drawn = [pairs_of(given, pairs_per_task=3, seed=seed).train for seed in (0, 0, 1)]
    assert [len(one) for one in drawn] == [12, 12, 12]  # four training tasks
    first, again, other = ([(said(pair.chosen), said(pair.rejected)) for pair in one] for one in drawn)
    assert first == again != other


def test_only_responses_count_and_impossible_ones_only_against() -> None:
    blunder = {"possible": False, "action": "shout[moon]"}
    won = episode(0, ("moon", "moon"), "success", **blunder)
    lost = episode(0, ("star", "sun"), "failure", thought="moon", **blunder)
    (pair,) = pairs_of([won, lost]).train
    assert said(pair.chosen) == "<action>say[moon]</action><|im_end|>"
    assert said(pair.rejected) == (
        "<think>moon</think>\n<action>shout[moon]</action><|im_end|><action>say[sun]</action><|im_end|>"
    )
    assert "Not moon" in make_tokenizer().decode(pair.chosen.ids), "the state between is there as context"
    (whole,) = pairs_of([won, lost], skip_impossible=False).train
    assert whole.chosen.weights.sum() == 2 * pair.chosen.weights.sum()


def test_a_batch_has_a_run_of_ones_for_each_response() -> None:
    one = Pair(
        Example(np.array([1, 2, 3, 4, 5]), np.array([0.0, 1, 0, 0, 1])), Example(np.array([1, 6]), np.array([0.0, 1]))
    )
    two = Pair(Example(np.array([1, 7]), np.array([0.0, 1])), Example(np.array([1, 8, 9]), np.array([0.0, 1, 0])))
    batch = PairCollator(0)([{**row, "ref_chosen_logps": -1.0, "ref_rejected_logps": -2.0} for row in rows([one, two])])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5], [1, 7, 0, 0, 0], [1, 6, 0, 0, 0], [1, 8, 9, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
    assert batch["completion_mask"].tolist() == [[0, 1, 0, 0, 1], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert batch["ref_rejected_logps"].tolist() == [-2.0, -2.0]


def test_with_one_response_each_the_batch_is_trls_own() -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    pairs = pairs_of([episode(0, ("moon",), "success"), episode(0, ("sun",), "failure")]).train
    found = rows(pairs)
    starts = [row["chosen_mask"].index(1) for row in found]
    theirs = DataCollatorForPreference(pad_token_id=0)(
        [
            {
                "prompt_ids": row["chosen_ids"][:start],
                "chosen_ids": row["chosen_ids"][start:],
                "rejected_ids": row["rejected_ids"][start:],
            }
            for row, start in zip(found, starts, strict=True)
        ]
    )
    ours = PairCollator(0)(found)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def logprob(model: Any, example: Example) -> float:
    """Log-probability of an episode's response tokens, from one unpadded pass and no other code of ours."""
    ids = torch.tensor(example.ids.tolist())
    with torch.no_grad():
        logprobs = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
    return sum(float(logprobs[t - 1, ids[t]]) for t in range(1, len(ids)) if example.weights[t])


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_the_loss_is_that_of_the_paper(policy: Path, tmp_path: Path, lora_rank: int) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reference = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    pairs = load_pairs(AutoTokenizer.from_pretrained(policy), demonstrations(40), 2, 256, True, 0)
    settings = config(policy, tmp_path, beta=0.3, lora_rank=lora_rank)
    trainer = make_trainer(settings, model, AutoTokenizer.from_pretrained(policy), pairs)
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(6)])
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(np.log(2), abs=1e-5)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.add_((0.3 if lora_rank else 0.05) * torch.randn_like(parameter))
    expected, margins = [], []
    for pair in pairs.train[:6]:
        gains = [logprob(trainer.model, one) - logprob(reference, one) for one in (pair.chosen, pair.rejected)]
        margins.append(0.3 * (gains[0] - gains[1]))
        expected.append(np.log1p(np.exp(-margins[-1])))
    assert max(map(abs, margins)) > 0.05, "the policy has moved"
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(np.mean(expected), rel=1e-4)
    told = trainer._metrics["train" if trainer.model.training else "eval"]["rewards/margins"]
    assert told[-1] == pytest.approx(np.mean(margins), rel=1e-3)


def test_it_learns_and_logs_what_the_docs_define(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dreamgym_env.trainers.evaluate import EvaluateConfig
    from dreamgym_env.trainers.evaluate import run as evaluate

    file, output = tmp_path / "demos.jsonl", tmp_path / "policy"
    data = demonstrations(96, seed=3)
    unseen = [held_out(one) for one in data if one.task.task_id == "guess-0"]
    write_trajectories(file, [*unseen, *(one for one in data if one.task.task_id != "guess-0")])
    words = f"dpo --model {policy} --trajectories {file} --output {output} --sft-coef 1 --device cpu --bf16 False"
    words += " --epochs 5 --learning-rate 3e-3 --batch-size 4 --accumulation 2 --warmup-steps 2 --pairs-per-task 16"
    assert cli.main(words.split()) == 0
    told = capsys.readouterr().out
    report = json.loads(told[told.index("{") :])
    assert (report["pairs"], report["held_out_pairs"], report["tasks"], report["steps"]) == (48, 16, 4, 30)
    lines = read_metrics(output / "metrics.jsonl")
    first, last = (line for line in lines if "eval/loss" in line)
    assert first["update"] == 0
    assert first["eval/reward_margin"] == pytest.approx(0, abs=1e-5)
    assert last["eval/reward_margin"] > 0.3
    assert [line["update"] for line in lines if "train/loss" in line] == [10, 20, 30]
    logged = {key for line in lines for key in line} - {"update"}
    defined = set(re.findall(r"^\| `((?:train|eval)/\w+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert logged <= defined, f"not in docs/sft-dpo.md: {sorted(logged - defined)}"
    rates = [
        evaluate(EvaluateConfig(str(path), "guessing_world:Guess-v0", episodes=60, max_tokens=12, temperature=1.0))
        for path in (policy, output)
    ]
    assert rates[0].success_rate < 0.7 < 0.85 < rates[1].success_rate


def test_adapters_end_up_in_the_saved_policy(policy: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    train(config(policy, tmp_path, lora_rank=4, epochs=1, gradient_checkpointing=True), demonstrations(40))
    before, after = (load_file(folder / "model.safetensors") for folder in (policy, tmp_path))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys()
    assert changed
    assert all(before[name].ndim == 2 and "embed" not in name for name in changed), "adapters lie on linear layers"
    AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dreamgym_env.trainers.dpo_trainer import Report

    whole, cut = (config(policy, tmp_path / name, save_every=4, log_every=2) for name in ("whole", "cut"))
    data = demonstrations(60)
    train(whole, data)
    original = Report.on_step_end

    def killed(self: Any, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.global_step == 7:
            raise KeyboardInterrupt
        original(self, args, state, control, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Report, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            train(cut, data)
    half_written = tmp_path / "cut" / "checkpoints" / "checkpoint-6"
    half_written.mkdir()
    (half_written / "trainer_state.json").write_text('{"global_step"', encoding="utf-8")
    (tmp_path / "cut" / "checkpoints" / "checkpoint-best").mkdir()
    assert train(dataclasses.replace(cut, resume=True), data)["steps"] > 7
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    logs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one(policy: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    write_trajectories(data, demonstrations(60))
    settings = config(policy, tmp_path / "one", trajectories=(str(data),), batch_size=4, epochs=1, log_every=1)
    program = tmp_path / "program.py"
    lines = [
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "from dreamgym_env.trainers.dpo import DPOConfig, run",
        "from dataclasses import replace",
        f"config = DPOConfig(**{vars(settings)!r})",
        f"two = {str(tmp_path / 'two')!r}",
        "run(config if sys.argv[1] == 'one' else replace(config, output=two, batch_size=2))",
    ]
    program.write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, str(program), "one"], check=True, capture_output=True)
    from safetensors.torch import load_file

    launch(program, "two")
    logs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    for key in ("train/loss", "train/reward_margin", "train/grad_norm"):
        one, two = ([line[key] for line in lines if key in line] for lines in logs)
        assert two == pytest.approx(one, rel=1e-3, abs=1e-5), key
        assert len(one) > 3
    reports = [json.loads((tmp_path / name / "dpo.json").read_text("utf-8")) for name in ("one", "two")]
    assert reports[0]["steps"] == reports[1]["steps"]
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    start = load_file(policy / "model.safetensors")
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=1e-3, atol=1e-5)
    assert any(not torch.equal(tensor, start[name]) for name, tensor in left.items())


def test_what_deepspeed_shares_out_is_saved_whole_and_takes_no_adapters(policy: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(policy)
    trained = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for weight in model.parameters():
            weight.data = torch.empty(0)  # as stage 3 leaves them
    accelerator = SimpleNamespace(unwrap_model=lambda model: model, get_state_dict=lambda model: trained)
    plugin = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=3))
    trainer = SimpleNamespace(accelerator=accelerator, args=plugin, model=model, model_wrapped=model)
    trained_policy(trainer).save_pretrained(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() >= load_file(policy / "model.safetensors").keys()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in found.items())
    pairs = load_pairs(AutoTokenizer.from_pretrained(policy), demonstrations(40), 2, 256, True, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpo, "weights_shared", lambda arguments: True)
        with pytest.raises(ValueError, match="`lora_rank` must be 0 with DeepSpeed's stage 3, got 4"):
            make_trainer(config(policy, tmp_path, lora_rank=4), None, None, pairs)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_makes_the_steps_of_one_process(policy: Path, tmp_path: Path, stage: int) -> None:
    from safetensors.torch import load_file

    data = tmp_path / "data.jsonl"
    write_trajectories(data, [held_out(one) if one.task.task_id == "guess-0" else one for one in demonstrations(60)])
    settings = config(policy, tmp_path / "one", trajectories=(str(data),), batch_size=4, epochs=1, log_every=1)
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0, "stage3_gather_16bit_weights_on_model_save": True}
    sizes = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size", "gradient_clipping")
    deepspeed = tmp_path / "deepspeed.json"
    deepspeed.write_text(json.dumps({"zero_optimization": zero, **dict.fromkeys(sizes, "auto")}), encoding="utf-8")
    launch_file = tmp_path / "launch.yaml"
    launch_file.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nnum_machines: 1\nnum_processes: 2\n"
        f"use_cpu: true\ndeepspeed_config: {{deepspeed_config_file: {deepspeed}, zero3_init_flag: false}}\n",
        encoding="utf-8",
    )
    program = tmp_path / "program.py"
    two = dataclasses.replace(settings, output=str(tmp_path / "two"), batch_size=2)
    lines = [
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "from dreamgym_env.trainers.dpo import DPOConfig, run",
        f"run({two!r})",
    ]
    program.write_text("\n".join(lines) + "\n", encoding="utf-8")
    dpo.run(settings)
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launch_file), str(program)],
        check=True, capture_output=True, env={**os.environ, "DS_ACCELERATOR": "cpu"},
    )  # fmt: skip
    logs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    for key in ("train/loss", "train/reward_margin", "train/grad_norm"):
        left, right = ([line[key] for line in lines if key in line] for lines in logs)
        assert right == pytest.approx(left, rel=1e-3, abs=1e-5), key
        assert len(left) > 3
    assert logs[1][-1]["eval/loss"] == pytest.approx(logs[0][-1]["eval/loss"], rel=1e-3)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trajectories": ()}, "`trajectories` must name at least one file"),
        ({"pairs_per_task": 0}, "`pairs_per_task` must be >= 1, got 0"),
        ({"beta": 0}, "`beta` must be > 0, got 0"),
        ({"sft_coef": -1}, "`sft_coef` must be >= 0, got -1"),
        ({"device": "tpu"}, "`device` must be 'auto' or 'cpu', got 'tpu'"),
    ],
)
def test_config_says_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        config("m", **changes)
    assert dpo.DPOConfig("m", ("t",), "o").sft_coef == 0
