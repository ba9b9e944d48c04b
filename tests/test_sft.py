"""SFT of a policy: what is learned, what is left out, and that it works on both architectures."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from guessing_world import DOMAIN, demonstrations, make_checkpoint, make_tokenizer
from launching import launch

from dreamgym_env.checkpoints import fast_bfloat16
from dreamgym_env.trainers import sft
from dreamgym_env.trainers.agent import AgentChat
from dreamgym_env.trainers.sft import SFTConfig
from dreamgym_env.trainers.sft_data import demonstration_rollout, example_of, load_demonstrations, supply_of
from dreamgym_env.trajectories import write_trajectories
from dreamgym_env.types import DataError, Trajectory


def config(**changes: Any) -> SFTConfig:
    return SFTConfig(**{"model": "m", "trajectories": ("t",), "output": "o", **changes})


def with_step(trajectory: Trajectory, index: int, **changes: Any) -> Trajectory:
    steps = list(trajectory.transitions)
    steps[index] = dataclasses.replace(steps[index], **changes)
    return dataclasses.replace(trajectory, transitions=tuple(steps))


def held_out(trajectory: Trajectory) -> Trajectory:
    task = dataclasses.replace(trajectory.task, split="held_out")
    steps = tuple(dataclasses.replace(step, task=task) for step in trajectory.transitions)
    return dataclasses.replace(trajectory, task=task, transitions=steps)


def test_the_loss_counts_response_tokens_alone() -> None:
    tokenizer = make_tokenizer()
    trajectory = next(t for t in demonstrations(20) if len(t.transitions) == 2)
    example = example_of(demonstration_rollout(AgentChat(tokenizer, DOMAIN.agent_instruction), trajectory))
    learned = tokenizer.decode([i for i, w in zip(example.ids, example.weights, strict=True) if w])
    actions = [step.action for step in trajectory.transitions]
    assert learned == "".join(f"<action>{action}</action><|im_end|>" for action in actions)
    assert tokenizer.decode(example.ids).startswith("<|im_start|>system\nSay words<|im_end|>\n<|im_start|>user\nTask:")


def test_thoughts_are_taught_before_their_action() -> None:
    tokenizer = make_tokenizer()
    trajectory = with_step(next(t for t in demonstrations(20) if len(t.transitions) == 2), 1, thought="moon")
    example = example_of(demonstration_rollout(AgentChat(tokenizer, DOMAIN.agent_instruction), trajectory))
    learned = tokenizer.decode([i for i, w in zip(example.ids, example.weights, strict=True) if w])
    first, second = (step.action for step in trajectory.transitions)
    assert learned == (f"<action>{first}</action><|im_end|><think>moon</think>\n<action>{second}</action><|im_end|>")


def test_in_windows_each_turn_is_what_rl_shows_the_agent() -> None:
    tokenizer = make_tokenizer()
    chat = AgentChat(tokenizer, DOMAIN.agent_instruction, grows=False)
    trajectory = next(t for t in demonstrations(20) if len(t.transitions) == 2)
    rollout = demonstration_rollout(chat, trajectory, history=1)
    steps = trajectory.transitions
    shown = [chat.window_ids(trajectory.task, steps[:index], step.state, 1) for index, step in enumerate(steps)]
    assert [turn.prompt_ids for turn in rollout.turns] == shown
    data = load_demonstrations(config(history=1), tokenizer, [trajectory, held_out(trajectory)])
    assert [one.ids.tolist() for one in data.train] == [part.token_ids for part in rollout.sequences]
    assert (len(data.train), len(data.instructions), data.held_out_episodes) == (2, 1, 1)
    blunder = with_step(trajectory, 0, possible=False)
    assert len(load_demonstrations(config(history=1), tokenizer, [blunder]).train) == 1, "nothing to learn from it"
    longest = max(len(one) for one in data.train)
    with pytest.raises(DataError, match=r"got none.*'too_long': 1"):
        load_demonstrations(config(history=1, max_tokens=longest - 1), tokenizer, [trajectory])
    with pytest.raises(ValueError, match="`history` must be >= 0 or None, got -1"):
        config(history=-1)


def test_impossible_actions_are_shown_but_not_learned() -> None:
    chat = AgentChat(make_tokenizer(), DOMAIN.agent_instruction)
    trajectory = next(t for t in demonstrations(20) if len(t.transitions) == 2)
    blunder = with_step(trajectory, 0, possible=False)
    whole, skipped = (example_of(demonstration_rollout(chat, blunder, skip)) for skip in (False, True))
    assert whole.ids.tolist() == skipped.ids.tolist()
    assert skipped.weights.sum() == whole.weights.sum() / 2
    assert not skipped.weights[: len(skipped.ids) // 2].any()


def test_filters_count_what_they_leave_out() -> None:
    tokenizer = make_tokenizer()
    given = demonstrations(40)
    wins = [t for t in given if t.success]
    broken = dataclasses.replace(wins[0], end_reason="model_error")
    data = load_demonstrations(config(), tokenizer, [*given, broken, held_out(wins[0])])
    assert (len(data.train), len(data.held_out), data.broken) == (len(wins), 1, 1)
    assert data.failed == 40 - len(wins) > 0
    assert len(load_demonstrations(config(success_only=False, max_episodes=7), tokenizer, given).train) == 7
    tasks = Counter(t.task.task_id for t in wins)
    few = load_demonstrations(config(per_task=2), tokenizer, given)
    assert len(few.train) == sum(min(2, count) for count in tasks.values()) == len(wins) - few.spare < len(wins)
    thinking = [with_step(t, 0, thought="first") for t in wins if len(t.transitions) == 1]
    assert thinking, "an episode of one step"
    chosen = load_demonstrations(config(thoughts_only=True), tokenizer, [*wins, *thinking])
    assert (len(chosen.train), chosen.thoughtless) == (len(thinking), len(wins))
    short = load_demonstrations(config(max_tokens=40), tokenizer, given)
    assert len(short.train) + short.too_long == len(wins)
    assert short.too_long > 0
    with pytest.raises(DataError, match=r"must hold episodes to train on, got none.*'failed': 1"):
        load_demonstrations(config(), tokenizer, [t for t in given if not t.success][:1])


@pytest.mark.parametrize("kind", ["lfm2", "qwen3"])
def test_training_learns_and_saves(tmp_path: Path, kind: str) -> None:
    from dreamgym_env.language_model import TransformersModel
    from dreamgym_env.trainers.evaluate import evaluate
    from dreamgym_env.trainers.pools import open_pool
    from dreamgym_env.trainers.rollout import Collector
    from dreamgym_env.types import Sampling

    base = make_checkpoint(tmp_path / "base", kind)
    moons = [t for t in demonstrations(60, words=("moon",)) if t.success]
    file = tmp_path / "demos.jsonl"
    write_trajectories(file, [*moons[:40], *map(held_out, moons[40:])])
    output = tmp_path / "policy"
    arguments = f"--model {base} --trajectories {file} --output {output} --epochs 24 --learning-rate 1e-2"
    sft.main([*arguments.split(), *["--batch-tokens", "512", "--warmup-steps", "5", "--log-every", "20"]])
    report = json.loads((output / "sft.json").read_text(encoding="utf-8"))
    assert report["held_out_loss"] < 0.2 < 1.0 < report["held_out_loss_before"]
    model = TransformersModel.load(str(output), dtype="float32", device="cpu")
    pool = open_pool("guessing_world:Guess-v0", 4, split="held_out")
    result, _ = evaluate(Collector(model, pool, Sampling(0.0, max_tokens=16), 256), "Guess-v0", pool.tasks, 0)
    assert (result.successes, result.n) == (2, 2)


def test_a_stopped_run_goes_on_and_ends_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", "lfm2")
    settings = config(
        model=str(base), output=str(tmp_path / "policy"), epochs=4, batch_tokens=512, save_every=3, log_every=2,
        resume=True,
    )  # fmt: skip
    whole = sft.train(settings, demonstrations(40))
    weights = tmp_path / "policy" / "model.safetensors"
    trained = weights.read_bytes()
    (checkpoint,) = (tmp_path / "policy" / "checkpoints").iterdir()
    assert checkpoint.name == f"update_{whole['steps'] // 3 * 3:06}" != "update_000000"
    weights.unlink()
    again = sft.train(settings, demonstrations(40))  # from that checkpoint on
    assert weights.read_bytes() == trained
    told, retold = ([{**line, "tokens_per_second": 0} for line in one["log"]] for one in (whole, again))
    assert told == retold
    assert [line["step"] for line in told] == list(range(2, whole["steps"] + 1, 2))
    assert {**again, "log": []} == {**whole, "log": []}


@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_make_the_steps_of_one(tmp_path: Path, shard: bool) -> None:
    """Losses and weights agree, also where the two were stopped and went on from a checkpoint."""
    data = tmp_path / "demos.jsonl"
    write_trajectories(data, [*demonstrations(40), *map(held_out, demonstrations(6, words=("moon",)))])
    settings = config(
        model=str(make_checkpoint(tmp_path / "base", "qwen3")), trajectories=(str(data),), output=str(tmp_path / "one"),
        epochs=3, batch_tokens=700, pass_tokens=300, warmup_steps=2, save_every=4, log_every=1, bf16=False,
        device="cpu", success_only=False, resume=True,
    )  # fmt: skip
    sft.run(settings)
    program = tmp_path / "program.py"
    lines = [
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "from dataclasses import replace",
        "from dreamgym_env.trainers import sft",
        f"config = sft.SFTConfig(**{vars(settings)!r})",
        "step = sft.Trainer._step",
        "def until(trainer, rows, progress):",
        "    if trainer.steps == 6 and sys.argv[1] == 'stopped':",
        "        trainer.processes.wait()  # else the first to leave may cut the other off",
        "        sys.exit()",
        "    return step(trainer, rows, progress)",
        "sft.Trainer._step = until",
        f"sft.run(replace(config, output={str(tmp_path / 'two')!r}, shard={shard}))",
    ]
    program.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for word in ("stopped", "resumed"):
        launch(program, word)
    one, two = (json.loads((tmp_path / name / "sft.json").read_text("utf-8")) for name in ("one", "two"))
    assert len(one["log"]) == one["steps"] > 8
    for key in ("loss", "tokens", "learning_rate"):
        assert [line[key] for line in two["log"]] == pytest.approx([line[key] for line in one["log"]], rel=1e-3), key
    for key in ("held_out_loss", "steps", "episodes"):
        assert two[key] == pytest.approx(one[key], rel=1e-3), key
    from safetensors.torch import load_file
    from torch.testing import assert_close

    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert left.keys() == right.keys()
    for name, weights in left.items():
        assert_close(weights, right[name], rtol=1e-3, atol=1e-4)


def test_bfloat16_is_used_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for name, value in (("_is_avx512_bf16_supported", False), ("_is_amx_tile_supported", True)):
        monkeypatch.setattr(torch.cpu, name, lambda value=value: value, raising=False)
    assert fast_bfloat16("cuda:0")
    assert fast_bfloat16("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert not fast_bfloat16("cpu")


def test_states_that_actions_led_to_are_learned_with_their_weight() -> None:
    trajectory, tokenizer = next(one for one in demonstrations(20) if len(one.transitions) > 1), make_tokenizer()
    rollout = demonstration_rollout(AgentChat(tokenizer, DOMAIN.agent_instruction), trajectory)
    plain, weighed = example_of(rollout), example_of(rollout, 0.25)
    first = len(rollout.turns[0].prompt_ids)
    assert not weighed.weights[:first].any(), "nothing led to the first state"
    assert weighed.ids.tolist() == plain.ids.tolist()
    assert weighed.weights[first:].tolist() == [float(one) or 0.25 for one in plain.weights[first:]]
    data = load_demonstrations(config(state_weight=0.25), tokenizer, [trajectory, held_out(trajectory)])
    assert (data.train[0].weights == 0.25).any()
    assert data.held_out[0].weights.tolist() == plain.weights.tolist(), "a loss of responses alone"


def test_names_are_exchanged_throughout_an_episode_and_anew_in_each_pass() -> None:
    from transformers import AutoTokenizer

    from dreamgym_env.loading import embedded_policy_path, embedded_trajectories_path
    from dreamgym_env.trajectories import read_trajectories

    tokenizer = AutoTokenizer.from_pretrained(embedded_policy_path("webshop"))
    episodes = [t for t in read_trajectories(embedded_trajectories_path("webshop")) if t.success][:20]
    settings = config(permute_share=1.0)
    data = load_demonstrations(settings, tokenizer, episodes)
    supply = supply_of(settings, data, tokenizer)
    first, again, later = supply.draw(0), supply.draw(0), supply.draw(5_000)
    assert [one.ids.tolist() for one in first] == [one.ids.tolist() for one in again]  # a resumed run draws the same
    assert [one.ids.tolist() for one in first] != [one.ids.tolist() for one in later]
    for given, made in zip(data.train, first, strict=True):
        pairs = set(zip(given.ids.tolist(), made.ids.tolist(), strict=True))
        assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
        assert any(old != new for old, new in pairs)
        assert "<action>search[" in tokenizer.decode(made.ids)
        assert made.weights.tolist() == given.weights.tolist()
    copied = supply_of(config(permute_share=1.0, names="copied"), data, tokenizer).draw(0)
    labels = supply_of(config(permute_share=1.0, names="copied", label_share=1.0), data, tokenizer).draw(0)
    changed = [
        sum(int((one.ids != other.ids).sum()) for one, other in zip(data.train, made, strict=True))
        for made in (copied, first, labels)
    ]
    assert 0 < changed[0] < changed[1]
    assert changed[0] < changed[2]
    half = supply_of(config(permute_share=0.5), data, tokenizer).draw(0)
    kept = sum(given.ids.tolist() == made.ids.tolist() for given, made in zip(data.train, half, strict=True))
    assert 0 < kept < len(data.train)
    assert supply_of(config(), data, tokenizer).draw(0) is data.train
    letters = make_tokenizer()
    without = load_demonstrations(settings, letters, demonstrations(20))
    with pytest.raises(ValueError, match=r"`permute_share` must be 0 where the vocabulary has no words"):
        supply_of(settings, without, letters)


def test_config_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"`micro_share` must be in \[0, 1\), got 1"):
        config(micro_share=1.0)
    with pytest.raises(ValueError, match=r"`state_weight` must be >= 0, and 0 with `history`, got 0.1"):
        config(state_weight=0.1, history=2)
    with pytest.raises(ValueError, match=r"`permute_share` must be in \[0, 1\], got 1.5"):
        config(permute_share=1.5)
    with pytest.raises(ValueError, match=r"`label_share` must be in \[0, 1\], got -0.1"):
        config(label_share=-0.1)
    with pytest.raises(ValueError, match="`epochs` must be > 0, got 0"):
        config(epochs=0)
    with pytest.raises(ValueError, match="`max_episodes` must be >= 1 or None, got 0"):
        config(max_episodes=0)
    with pytest.raises(ValueError, match="`per_task` must be >= 1 or None, got 0"):
        config(per_task=0)
    with pytest.raises(ValueError, match="`trajectories` must name at least one file"):
        config(trajectories=())
