"""`dreamgym plot`: runs are read, grouped by everything but their seed, averaged and drawn."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dreamgym_env.trainers import cli
from dreamgym_env.trainers.grpo_config import PRESETS
from dreamgym_env.trainers.logs import MetricsLog
from dreamgym_env.trainers.plot import Mark, PlotConfig, grouped, main, means, read_run, read_runs, table
from dreamgym_env.types import DataError

DREAM, REAL = "DreamGym-WebShop-v0", "Real-WebShop-v0"


def write_run(folder: Path, rates: dict[int, float], env_ids: tuple[str, ...] = (DREAM, REAL), **settings: Any) -> Path:
    """A run's files as GRPO writes them."""
    with MetricsLog(folder, tensorboard=False) as log:
        for update, rate in rates.items():
            found = {
                f"eval/{env_id}/{name}": value
                for env_id in env_ids
                for name, value in (("success_rate", rate), ("low", rate - 0.1), ("high", rate + 0.1), ("n", 50.0))
            }
            log.write(update, found | {"real/train_steps": 100.0 * update})
            log.write(update, {"collect/success": 0.5})
    config = replace(PRESETS["small"][1], output=str(folder), **settings)
    (folder / "config.json").write_text(json.dumps(asdict(config)), encoding="utf-8")
    return folder


def test_a_run_is_read_as_it_was_logged(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "one", {0: 0.3, 4: 0.5}, seed=7))
    assert run.seed == 7
    assert run.real_steps == 400
    assert set(run.curves) == {DREAM, REAL}
    assert run.curves[REAL][1] == Mark(4, 0.5, 0.4, 0.6, 50, 400)


def test_seeds_are_one_panel_and_other_settings_another(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"dream-{seed}", {0: 0.3, 4: 0.4 + seed / 10}, seed=seed) for seed in (1, 0)]
    folders.append(write_run(tmp_path / "longer", {0: 0.3, 4: 0.6, 8: 0.9}, seed=2, updates=8))
    folders.append(write_run(tmp_path / "control", {0: 0.2}, (REAL,), env_id=REAL))
    older = json.loads((folders[0] / "config.json").read_text("utf-8"))
    del older["real_budget"]  # a run of before there was this setting
    (folders[0] / "config.json").write_text(json.dumps(older), encoding="utf-8")
    dreamed, control = grouped([read_run(folder) for folder in folders])
    assert [run.seed for run in dreamed] == [0, 1, 2]
    assert [run.config["env_id"] for run in control] == [REAL]
    first, second = means(dreamed, REAL)
    assert (first.update, first.rate, first.n, first.real_steps) == (0, pytest.approx(0.3), 150, 0)
    assert (second.update, second.rate, second.real_steps) == (4, pytest.approx(0.5), 400)
    assert means(control, DREAM) == []


def test_a_name_joins_runs_and_envs_leave_some_out(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), {0: 0.3}, seed=seed, policy=f"runs/{seed}/policy") for seed in (0, 1)]
    assert len(grouped(read_runs(PlotConfig(tuple(map(str, folders)))))) == 2
    (both,) = grouped(read_runs(PlotConfig(tuple(f"a=b={folder}" for folder in folders), envs=(REAL,))))
    assert [run.name for run in both] == ["a=b", "a=b"]
    assert [set(run.curves) for run in both] == [{REAL}, {REAL}]
    with pytest.raises(DataError, match=r"in none of `envs` \['Other-v0'\]"):
        read_runs(PlotConfig((str(folders[0]),), envs=("Other-v0",)))


def test_picture_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_run(tmp_path / f"run-{seed}", {0: 0.3, 4: 0.55}, seed=seed) for seed in (0, 1)]
    folders.append(write_run(tmp_path / "control", {0: 0.3, 4: 0.6}, (REAL,), env_id=REAL))
    out = main(PlotConfig(tuple(map(str, folders)), out=tmp_path / "new" / "curves.svg"))
    assert capsys.readouterr().out.count("trained in") == 2
    drawn = out.read_text(encoding="utf-8")
    assert drawn.count('id="axes_') == 2
    console = Console(width=200, record=True)
    console.print(table([read_run(folder) for folder in folders]))
    shown = console.export_text()
    assert shown.count("55.0% [45.0, 65.0]") == 4  # two seeds, dream and real
    assert shown.count("60.0% [50.0, 70.0]") == 1
    assert cli.main(["plot", "--runs", str(folders[0]), "--x", "real-steps", "--out", str(tmp_path / "one.png")]) == 0
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing must be the folder of a GRPO run"):
        read_run(tmp_path / "missing")
    with pytest.raises(DataError, match=r"holds no evaluation: the run needs `eval_every` above 0"):
        read_run(write_run(tmp_path / "blind", {}))
