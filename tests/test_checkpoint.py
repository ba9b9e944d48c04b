"""Checkpoints: exact, whole or absent, and honest about damage."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from guessing_world import make_checkpoint  # noqa: E402

from dreamgym_env.trainers import checkpoint  # noqa: E402
from dreamgym_env.trainers.checkpoint import (  # noqa: E402
    find_checkpoint,
    list_checkpoints,
    load_optimizer,
    load_state,
    save_checkpoint,
    save_policy_into,
    verify_checkpoint,
)
from dreamgym_env.types import DataError  # noqa: E402


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Any, Any, Any]:
    """A tiny policy, its tokenizer and an AdamW with two steps behind it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_checkpoint(tmp_path / "base")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, betas=(0.8, 0.99))
    for _ in range(2):
        train_step(model, optimizer)
    return model, tokenizer, optimizer


def train_step(model: Any, optimizer: Any) -> None:
    model(input_ids=torch.arange(12)[None], labels=torch.arange(12)[None]).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def test_policy_and_optimizer_come_back_bit_for_bit(parts: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model, tokenizer, optimizer = parts
    path = save_checkpoint(tmp_path / "run", 7, model, tokenizer, optimizer, {"note": [1, 0.1]}, files={"a.txt": "é"})
    assert load_state(path)["note"] == [1, 0.1]
    assert (path / "a.txt").read_text(encoding="utf-8") == "é"
    assert not [file for file in path.rglob("*") if file.suffix in (".bin", ".pt", ".pkl", ".pth")]
    again = AutoModelForCausalLM.from_pretrained(path / "policy")
    fresh = torch.optim.AdamW(again.parameters(), 1.0)
    load_optimizer(path, fresh)
    assert fresh.param_groups[0]["lr"] == 0.01
    assert fresh.param_groups[0]["betas"] == (0.8, 0.99)
    train_step(model, optimizer)
    train_step(again, fresh)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_only_the_newest_are_kept_and_half_written_ones_go(parts: Any, tmp_path: Path) -> None:
    (tmp_path / ".partial-update_000001").mkdir()
    for update in (1, 2, 3, 10):
        save_checkpoint(tmp_path, update, *parts, {}, keep_last=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["update_000003", "update_000010"]
    assert not list(tmp_path.glob(".partial*"))
    save_checkpoint(tmp_path, 10, *parts, {"again": True}, keep_last=2)
    assert load_state(tmp_path / "update_000010")["again"]
    with pytest.raises(ValueError, match="`keep_last` must be >= 1, got 0"):
        save_checkpoint(tmp_path, 11, *parts, {}, keep_last=0)


def test_a_save_that_is_interrupted_leaves_the_old_checkpoint(parts: Any, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, *parts, {})
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 2, *parts, {"not JSON": object()})
    assert find_checkpoint(tmp_path) == tmp_path / "update_000001"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("policy/model.safetensors", lambda data: data[:-5], "must have .* bytes, got"),
        ("optimizer.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "SHA-256 differs"),
        ("state.json", None, "got no such file"),
        ("manifest.json", lambda data: data[:20], "must list the checkpoint's files"),
    ],
)
def test_damage_is_named_and_passed_over_on_demand(
    parts: Any, tmp_path: Path, name: str, damage: Any, message: str
) -> None:
    for update in (1, 2):
        save_checkpoint(tmp_path, update, *parts, {})
    newest = tmp_path / "update_000002"
    file = newest / name
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=message):
        find_checkpoint(tmp_path)
    assert find_checkpoint(tmp_path, fall_back=True) == tmp_path / "update_000001"
    (tmp_path / "update_000001" / "state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError):
        find_checkpoint(tmp_path, fall_back=True)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) is None


def test_the_optimizer_of_another_model_is_refused(parts: Any, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, *parts, {})
    verify_checkpoint(path)
    other = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))])
    with pytest.raises(DataError, match="belongs to another model"):
        load_optimizer(path, other)
    assert json.loads((path / "manifest.json").read_text(encoding="utf-8")).keys() >= {"policy/config.json"}


def test_a_policy_beside_other_files_is_the_old_one_none_or_the_new_one(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    model, tokenizer, _ = parts
    folder = tmp_path / "policy"
    (folder / "checkpoints").mkdir(parents=True)
    save_policy_into(folder, model, tokenizer, {"report.json": "1"})
    old, names = (folder / "model.safetensors").read_bytes(), sorted(path.name for path in folder.iterdir())
    assert {"checkpoints", "config.json", "tokenizer.json", "report.json", "model.safetensors"} <= set(names)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    held = set()
    for calls in range(100):  # a kill before each of the calls that change the folder
        with monkeypatch.context() as patch:
            left = iter(range(calls))
            for owner, name in ((checkpoint, "save_policy"), (os, "replace"), (Path, "unlink")):
                patch.setattr(owner, name, killed_after(left, getattr(owner, name)))
            try:
                save_policy_into(folder, model, tokenizer, {"report.json": "2"})
            except KeyboardInterrupt:
                file = folder / "model.safetensors"
                held.add("none" if not file.exists() else "old" if file.read_bytes() == old else "new")
                continue
        break
    assert held == {"old", "none"}
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "report.json").read_text(encoding="utf-8") == "2"
    saved = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(one, other) for one, other in zip(saved.parameters(), model.parameters(), strict=True))


def killed_after(left: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, or a kill where nothing is `left` of the shared count."""

    def counted(*arguments: Any, **keywords: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return call(*arguments, **keywords)

    return counted


def test_every_model_is_written_by_what_writes_it_whole() -> None:
    writers = {"checkpoint.py", "served.py", "sharding.py"}  # a server's folder, and what `checkpoint.py` is given
    calls = (".save_pretrained(", "save_file(", "save_policy(", "save_module(")
    folder = Path(checkpoint.__file__).parent
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    assert [name for name, text in texts.items() if name not in writers and any(call in text for call in calls)] == []
