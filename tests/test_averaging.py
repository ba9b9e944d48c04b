"""The average of a run's weights: by hand, in and out of a model, what a run evaluates, saves and goes on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from guessing_world import make_policy, run_settings  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from dreamgym_env.trainers import grpo, rounds  # noqa: E402
from dreamgym_env.trainers.averaging import WeightAverage  # noqa: E402
from dreamgym_env.trainers.checkpoint import list_checkpoints  # noqa: E402
from dreamgym_env.trainers.grpo_config import GRPOConfig  # noqa: E402
from dreamgym_env.types import DataError  # noqa: E402


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


def settings(policy: Path, output: Path, **changes: Any) -> GRPOConfig:
    values = {"tasks_per_update": 4, "group_size": 8, "eval_every": 0, "save_every": 1, "keep_last": 9, **changes}
    return GRPOConfig(**run_settings(policy, output, **values))


def weights_of(folder: Path) -> dict[str, Any]:
    return dict(load_file(folder / "model.safetensors"))


def test_it_is_the_mean_until_the_window_is_full() -> None:
    model, average, found = torch.nn.Linear(1, 1, bias=False), WeightAverage(0.75), []
    for weight in (1.0, 3.0, 8.0, 0.0, 7.0):
        model.weight.data.fill_(weight)
        average.take_in(model)
        found.append(average.weights["weight"].item())
    assert found == pytest.approx([1, 2, 4, 3, 3 + (7 - 3) / 4])


def test_a_model_has_it_inside_the_block_alone() -> None:
    model, average = torch.nn.Linear(3, 2), WeightAverage(0.5)
    average.take_in(model)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.data += 1 / 3
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with average.put_into(model):
        assert all(torch.equal(tensor, first[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_run_leaves_the_mean_of_its_updates_and_resumes_bit_for_bit(
    policy: Path, tmp_path: Path, lora_rank: int
) -> None:
    straight = settings(policy, tmp_path / "a", updates=4, ema_decay=0.9, lora_rank=lora_rank)
    halves = replace(straight, output=str(tmp_path / "b"), updates=2)
    left = weights_of(grpo.train(straight))
    grpo.train(halves)
    right = weights_of(grpo.train(replace(halves, updates=4, resume=True)))
    assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())
    plain = weights_of(grpo.train(replace(straight, output=str(tmp_path / "c"), ema_decay=0.0)))
    assert any(not torch.equal(tensor, plain[name]) for name, tensor in left.items()), "the last weights are others"
    if not lora_rank:  # a checkpoint with adapters has these alone
        every = [weights_of(path / "policy") for path in list_checkpoints(tmp_path / "a" / "checkpoints")]
        assert len(every) == 4
        for name, tensor in left.items():
            torch.testing.assert_close(tensor, torch.stack([one[name] for one in every]).mean(0))
            assert torch.equal(every[-1][name], plain[name]), "what collects is not averaged"


def test_evaluations_are_of_the_average(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, summarise = list[float](), rounds.summarise

    def spy(*arguments: Any) -> Any:
        seen.append(next(iter(run.model.model.parameters())).flatten()[0].item())
        return summarise(*arguments)

    run = grpo.prepare(settings(policy, tmp_path / "a", ema_decay=0.5, eval_every=1, eval_episodes=2))
    monkeypatch.setattr(rounds, "summarise", spy)
    place = next(iter(run.model.model.parameters()))
    for weight in (1.0, 3.0):
        place.data[0, 0] = weight
        run.average.take_in(run.model.model)  # type: ignore[union-attr]
        rounds.evaluate_all(run)
        assert place[0, 0].item() == weight
    assert seen == [1.0, 2.0]
    run.close()


def test_it_can_begin_in_the_midst_of_a_run(policy: Path, tmp_path: Path) -> None:
    begun = settings(policy, tmp_path / "a", updates=1)
    grpo.train(begun)
    for updates in (2, 3):  # cut off in between
        left = weights_of(grpo.train(replace(begun, updates=updates, resume=True, ema_decay=0.9)))
    every = [weights_of(path / "policy") for path in list_checkpoints(tmp_path / "a" / "checkpoints")]
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, torch.stack([one[name] for one in every[1:]]).mean(0))
    average = tmp_path / "a" / "checkpoints" / "update_000003" / "average.safetensors"
    average.write_bytes(average.read_bytes()[:100])
    with pytest.raises(DataError, match=r"average\.safetensors cannot be read"):
        WeightAverage(0.9).load(average)
    with pytest.raises(ValueError, match=r"`ema_decay` must be in \[0, 1\), got 1"):
        replace(begun, ema_decay=1.0)
