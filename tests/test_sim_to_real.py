"""The two phases of sim-to-real in the guessing world: what each starts from, the budget, resuming, the report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from guessing_world import dream_registered, make_policy

from dreamgym_env.trainers import sim_to_real
from dreamgym_env.trainers.grpo_config import PRESETS, GRPOConfig
from dreamgym_env.trainers.logs import read_metrics
from dreamgym_env.trainers.sim_to_real import SimToRealConfig, compared, main, phases
from dreamgym_env.types import DataError

REAL = "guessing_world:Guess-v0"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimToRealConfig]:
    policy = make_policy(tmp_path)
    tiny = GRPOConfig(
        tasks_per_update=4, max_tokens=12, context_tokens=256, learning_rate=3e-3, mini_batch=16, token_budget=1024,
        kl_coef=0.0, device="cpu", tensorboard=False, save_every=1,
    )  # fmt: skip
    monkeypatch.setitem(PRESETS, "tiny", ("for tests", tiny))
    with dream_registered() as dream_id:
        yield SimToRealConfig(
            preset="tiny", policy=str(policy), dream_env=dream_id, dream_settings=("top_k=0",), real_env=REAL,
            real_settings=('secret="star"',), dream_updates=3, real_budget=60, real_tasks_per_update=2, eval_every=2,
            eval_episodes=20, output=tmp_path / "out",
        )  # fmt: skip


def test_the_real_phase_starts_where_the_dream_ended_and_keeps_its_budget(config: SimToRealConfig) -> None:
    report = main(config)
    dreamed, real = (read_metrics(config.output / phase / "metrics.jsonl") for phase in ("dream", "real"))
    assert dreamed[-1]["real/train_steps"] == 0
    assert 60 - 8 * 2 < real[-1]["real/train_steps"] <= 60
    assert report["real interactions used"] == real[-1]["real/train_steps"]
    key = f"eval/{REAL}/success_rate"
    told = report["real success"]
    assert told["start"]["success"] == dreamed[0][key]
    assert told["after the dream"]["success"] == real[0][key] == dreamed[-1][key]
    assert told["after the real phase"]["success"] == real[-1][key]
    assert told["after the dream"]["n"] == 20
    assert json.loads((config.output / "sim_to_real.json").read_text("utf-8")) == report
    before = (config.output / "real" / "policy" / "model.safetensors").read_bytes()
    assert main(replace(config, resume=True))["real success"] == told  # nothing is left to do
    assert (config.output / "real" / "policy" / "model.safetensors").read_bytes() == before


def test_a_run_goes_on_in_the_phase_where_it_stopped(config: SimToRealConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = main(replace(config, output=config.output / "whole"))

    def cut(settings: GRPOConfig) -> Path:
        from dreamgym_env.trainers import grpo

        return grpo.train(replace(settings, updates=min(settings.updates, 1 if "real" in settings.output else 3)))

    halves = replace(config, output=config.output / "halves")
    dream, real = phases(halves)
    assert dream is not None
    cut(dream)
    cut(real)
    resumed = main(replace(halves, resume=True))
    assert resumed["real success"] == whole["real success"]
    assert resumed["real interactions used"] == whole["real interactions used"]


def test_two_processes_go_through_both_phases_together(config: SimToRealConfig, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    lines = [
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "from pathlib import PosixPath",
        "from guessing_world import dream_registered",
        "from dreamgym_env.trainers import grpo, loop",
        "from dreamgym_env.trainers.grpo_config import PRESETS, GRPOConfig",
        "from dreamgym_env.trainers.sim_to_real import SimToRealConfig, main",
        f"PRESETS['tiny'] = ('for tests', GRPOConfig(**{vars(PRESETS['tiny'][1])!r}))",
        "save = loop.save_final_policy",
        "loop.save_final_policy = lambda *told: (time.sleep(2), save(*told))  # the other process has to wait",
        f"config = SimToRealConfig(**{vars(config)!r})",
        "with dream_registered() as config.__dict__['dream_env']:",
        "    report = main(config)",
        "Path = PosixPath(sys.argv[1])",
        "import os; (Path / os.environ['RANK']).write_text(str(report['real success']))",
    ]
    program.write_text("\n".join(lines) + "\n", encoding="utf-8")
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(program),
        str(tmp_path),
    ]
    subprocess.run(launcher, check=True, capture_output=True)
    report = json.loads((config.output / "sim_to_real.json").read_text("utf-8"))
    assert [(tmp_path / rank).read_text("utf-8") for rank in "01"] == [str(report["real success"])] * 2
    dreamed, real = (read_metrics(config.output / phase / "metrics.jsonl") for phase in ("dream", "real"))
    assert dreamed[-1][f"eval/{REAL}/success_rate"] == real[0][f"eval/{REAL}/success_rate"]
    assert 60 - 8 * 2 < report["real interactions used"] <= 60


def test_both_phases_keep_the_settings_of_the_preset(config: SimToRealConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", ("", replace(PRESETS["tiny"][1], settings=("horizon=3", "top_k=1"))))
    dream, real = phases(config)
    assert dream is not None
    assert (dream.settings, dream.eval_settings) == (("horizon=3", "top_k=1", "top_k=0"), real.settings)
    assert (real.settings, real.eval_settings) == (("horizon=3", 'secret="star"'), dream.settings)


def test_without_a_dream_it_is_real_rl_to_compare_with(config: SimToRealConfig) -> None:
    alone = replace(config, dream_updates=0, output=config.output / "alone")
    report = main(alone)
    assert set(report["real success"]) == {"start", "after the real phase"}
    assert not (alone.output / "dream").exists()
    assert phases(alone)[1].policy == config.policy
    both = replace(config, dream_updates=1, real_budget=20, output=config.output / "both")
    main(replace(both, compare=(f"real only={alone.output}",)))
    assert (both.output / "success.png").read_bytes().startswith(b"\x89PNG")
    (other,) = compared(replace(both, compare=(f"real only={alone.output}",)))
    assert (other.name, set(other.curves), other.real_steps) == ("real only", {REAL}, report["real interactions used"])
    with pytest.raises(DataError, match="must be the folder of a GRPO run"):
        main(replace(both, compare=("nowhere",)))


def test_dreamed_groups_can_be_mixed_into_the_real_phase(config: SimToRealConfig) -> None:
    report = main(replace(config, real_share=0.5))
    rounds = [row for row in read_metrics(config.output / "real" / "metrics.jsonl") if "collect/real_episodes" in row]
    assert all(row["collect/dream_episodes"] >= 8 for row in rounds)
    used = sum(row["collect/real_episodes"] * row["collect/real_steps"] for row in rounds)
    assert 60 - 8 * 2 < used == report["real interactions used"] <= 60
    assert set(report["real success"]) == {"start", "after the dream", "after the real phase"}


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"`preset` must be one of \[.*\], got 'huge'"):
        SimToRealConfig(preset="huge")
    with pytest.raises(ValueError, match="`real_budget` must be >= 0, got -1"):
        SimToRealConfig(real_budget=-1)
    with pytest.raises(ValueError, match=r"`real_share` must be in \(0, 1\], got 0"):
        SimToRealConfig(real_share=0)
    assert sim_to_real.phases(SimToRealConfig())[0] is not None
