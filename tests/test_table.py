"""Tables 1 and 2 filled end to end in the guessing world: what each row is made of, costs, and how a table goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from guessing_world import dream_registered, make_policy

from dreamgym_env.trainers import table, table_cells, table_rows
from dreamgym_env.trainers.grpo_config import PRESETS as GRPO_PRESETS
from dreamgym_env.trainers.grpo_config import GRPOConfig
from dreamgym_env.trainers.intervals import wilson_interval
from dreamgym_env.trainers.logs import read_metrics
from dreamgym_env.trainers.ppo_config import PRESETS as PPO_PRESETS
from dreamgym_env.trainers.ppo_config import PPOConfig
from dreamgym_env.trainers.table_cells import Cell, Cost, CpuMeter
from dreamgym_env.trainers.table_config import Table1Config, Table2Config
from dreamgym_env.trainers.table_report import as_markdown, differences, pooled
from dreamgym_env.trainers.worlds import WORLDS, World
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import DataError

TINY: dict[str, Any] = {
    "max_tokens": 12, "context_tokens": 256, "learning_rate": 3e-3, "mini_batch": 16, "token_budget": 1024,
    "kl_coef": 0.0, "device": "cpu", "tensorboard": False,
}  # fmt: skip
ROWS = tuple(row for row in Table1Config().all_rows if row != "dpo" or find_spec("dreamgym_env.trainers.dpo"))


def use_the_guessing_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds the world and tiny presets, as the bundled ones are."""
    world = World(
        "Guessing", "guessing_world:GuessingDomain", "GuessDream-v0", "guessing_world:Guess-v0", ('secret="star"',)
    )
    monkeypatch.setitem(WORLDS, "guessing", world)
    monkeypatch.setitem(GRPO_PRESETS, "tiny", ("for tests", GRPOConfig(**TINY)))
    monkeypatch.setitem(PPO_PRESETS, "tiny", ("for tests", PPOConfig(**TINY, critic_learning_rate=3e-3)))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def sizes(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Settings of a table that takes seconds."""
    use_the_guessing_world(monkeypatch)
    with dream_registered():
        yield {
            "world": "guessing", "preset": "tiny", "policy": str(policy), "output": tmp_path, "tasks_per_update": 4,
            "group_size": 4, "dream_updates": 3, "variations": 2, "eval_episodes": 20, "seeds": (0,),
        }  # fmt: skip


def cell(row: str, successes: int, n: int, seed: int = 0, cost: Cost = Cost(100, 0, 3600.0)) -> Cell:  # noqa: B008
    return Cell(row, seed, successes, n, cost, 0.0, {})


def test_every_row_of_table_1_is_filled_and_says_what_it_cost(sizes: dict[str, Any], tmp_path: Path) -> None:
    config = Table1Config(**sizes, rows=ROWS, real_transitions=200, real_tasks_per_update=2, real_share=0.25)
    page = table.table1(config)
    told = json.loads((tmp_path / "guessing" / "table1.json").read_text("utf-8"))
    rows = {row["row"]: row for row in told["rows"]}
    assert tuple(rows) == ROWS
    costs = {name: row["mean_cost_of_a_seed"] for name, row in rows.items()}
    group = 4 * 2  # episodes of a group x steps of an episode: what has to be left for a round
    for name in {"sft", "dpo", "grpo-real"} & set(ROWS):
        assert 200 - group < costs[name]["real_steps"] <= 200, name
    assert 200 - 2 < costs["ppo-real"]["real_steps"] <= 200
    for name in ("grpo-dream", "ppo-dream"):
        assert costs[name]["real_steps"] == 0 < costs[name]["dream_steps"], name
    for name in ("grpo-sim-to-real", "ppo-sim-to-real"):
        dreamed = costs[name.replace("sim-to-real", "dream")]
        assert 0 < costs[name]["real_steps"] <= 50, name
        assert costs[name]["dream_steps"] == dreamed["dream_steps"], name
        assert costs[name]["cpu_seconds"] > dreamed["cpu_seconds"], name
    assert costs["start"] == {"real_steps": 0, "dream_steps": 0, "cpu_seconds": 0.0}
    assert all(row["n"] == 20 and row["low"] <= row["success_rate"] <= row["high"] for row in rows.values())
    text = page.read_text("utf-8")
    assert all(f"| {row['title']} |" in text for row in told["rows"])
    assert "PPO, sim-to-real | PPO, N real transitions |" in text
    assert (page.parent / "table1.png").stat().st_size > 10_000
    metrics = read_metrics(page.parent / "grpo-dream" / "seed-0" / "metrics.jsonl")
    tried = max(line["curriculum/variation_steps"] for line in metrics)
    assert costs["grpo-dream"]["dream_steps"] == sum(line["collect/actions"] for line in metrics) + tried
    assert tried > 0 < sum(line["curriculum/buffer_added"] for line in metrics)


def test_a_finished_cell_is_never_run_again_and_a_table_grows_bit_by_bit(
    sizes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Table1Config(**sizes, rows=("start",))
    table.table1(config)
    first = (tmp_path / "guessing" / "start" / "seed-0" / "result.json").read_bytes()
    asked: list[str] = []
    evaluated = table_cells.evaluate_policy
    monkeypatch.setattr(table_cells, "evaluate_policy", lambda *a, **k: (asked.append(a[1]), evaluated(*a, **k))[1])
    table.table1(replace(config, seeds=(1,)))
    table.table1(replace(config, seeds=(0, 1)))
    assert len(asked) == 1
    assert (tmp_path / "guessing" / "start" / "seed-0" / "result.json").read_bytes() == first
    (row,) = json.loads((tmp_path / "guessing" / "table1.json").read_text("utf-8"))["rows"]
    assert [one["seed"] for one in row["cells"]] == [0, 1]
    assert (row["n"], row["successes"]) == (40, sum(one["successes"] for one in row["cells"]))
    assert [row["low"], row["high"]] == list(wilson_interval(row["successes"], 40))
    with pytest.raises(DataError, match=r"was begun with `eval_episodes` 20, got 30: cells of other settings"):
        table.table1(replace(config, eval_episodes=30))


def test_table_2_leaves_out_one_part_at_a_time(sizes: dict[str, Any], tmp_path: Path) -> None:
    config = Table2Config(**sizes, no_reasoning_model="plain")
    full, no_replay, no_reasoning, no_tasks = (
        table_rows.stages_of(config, row, 0)[0].config for row in config.all_rows[1:]
    )
    changed = {"settings", "grow_buffer", "output"}
    assert no_replay == replace(full, **{key: getattr(no_replay, key) for key in changed})
    assert (no_replay.settings, no_replay.grow_buffer, full.grow_buffer) == (("top_k=0",), False, True)
    assert no_reasoning == replace(full, settings=("experience_model=plain",), output=no_reasoning.output)
    assert no_tasks == replace(full, lam=0.0, output=no_tasks.output)
    table.table2(config)
    told = json.loads((tmp_path / "guessing" / "table2.json").read_text("utf-8"))
    assert [row["row"] for row in told["rows"]] == list(config.all_rows)
    assert [one["against"] for one in told["differences"]] == ["GRPO in the dream"] * 3
    ran = table_cells.read_cell(tmp_path / "guessing" / "grpo-dream" / "seed-0")
    table.table1(Table1Config(**sizes, rows=("grpo-dream",)))  # the same cell stands in both
    assert table_cells.read_cell(tmp_path / "guessing" / "grpo-dream" / "seed-0") == ran


def test_rows_keep_the_settings_of_their_preset_and_learn_from_episodes_as_long_as_its_dreams(
    sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for presets, horizon in ((GRPO_PRESETS, 7), (PPO_PRESETS, 9)):
        changed = replace(presets["tiny"][1], settings=(f"horizon={horizon}", "top_k=1"))
        monkeypatch.setitem(presets, "tiny", ("for tests", changed))
    config = Table1Config(**sizes, dream_settings=("top_k=2",))
    last = {row: table_rows.stages_of(config, row, 0)[-1].config for row in config.all_rows[3:]}
    for name, horizon in (("grpo", 7), ("ppo", 9)):
        assert last[f"{name}-dream"].settings == (f"horizon={horizon}", "top_k=1", "top_k=2")  # the last one counts
        for way in ("real", "sim-to-real"):
            assert last[f"{name}-{way}"].settings == (f"horizon={horizon}", 'secret="star"')
    assert table_rows.stages_of(config, "sft", 0)[0].config.settings == ("horizon=7", 'secret="star"')
    ablated = table_rows.stages_of(Table2Config(**sizes, dream_settings=("top_k=2",)), "no-replay", 0)[0].config
    assert ablated.settings == ("horizon=7", "top_k=1", "top_k=2", "top_k=0")


def test_sft_and_dpo_learn_what_the_agent_is_shown_at_the_end(
    sizes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = replace(GRPO_PRESETS["tiny"][1], history=1)
    monkeypatch.setitem(GRPO_PRESETS, "tiny", ("for tests", windows))
    config = Table1Config(**sizes, rows=("sft", "dpo"), real_transitions=200)
    sft, dpo = (table_rows.stages_of(config, row, 0)[-1].config for row in config.rows)
    assert (sft.history, sft.max_tokens, dpo.max_tokens) == (1, windows.context_tokens, table_rows.WHOLE_TOKENS)
    shown: dict[str, Any] = {}
    evaluated = table_cells.evaluate

    def evaluate(one: Any) -> Any:
        shown[Path(one.policy).parents[1].name] = (one.history, one.context_tokens)
        return evaluated(one)

    monkeypatch.setattr(table_cells, "evaluate", evaluate)
    table.table1(config)
    assert shown == {"sft": (1, windows.context_tokens), "dpo": (None, table_rows.WHOLE_TOKENS)}


def test_the_row_without_traces_needs_a_model_without_traces(sizes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`no_reasoning_model` must be .* got none; .*: --rows start grpo-dream"):
        table.table2(Table2Config(**sizes))
    assert not (tmp_path / "guessing").exists()  # told before any work
    (tmp_path / "dreamgym.json").write_text('{"config": {"trace_share": 1.0}}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"got .* with a trace share of 1\.0"):
        table.table2(Table2Config(**sizes, no_reasoning_model=str(tmp_path)))


def test_sft_and_dpo_share_their_episodes_and_play_what_rl_would(sizes: dict[str, Any], tmp_path: Path) -> None:
    config = Table1Config(**sizes, real_transitions=100)
    (data, sft) = table_rows.stages_of(config, "sft", 0)
    assert (data.job, sft.config.trajectories) == ("offline", (str(data.folder / "trajectories.jsonl"),))
    table_cells.run_stage(data)
    found = list(read_trajectories(data.folder / "trajectories.jsonl"))
    assert {one.task.split for one in found} == {"train"}
    assert sum(len(one.transitions) for one in found) <= 100
    by_task = [one.task.task_id for one in found]
    assert all(len(set(by_task[start : start + 4])) == 1 for start in range(0, len(by_task), 4))  # groups, for pairs
    assert not list(data.folder.glob("round-*"))


def test_a_stopped_collection_of_the_policy_goes_on(sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from dreamgym_env.trainers import offline

    config = Table1Config(**sizes, real_transitions=100)
    whole = offline.collect_offline(table_rows.offline_stage(config, 0).config)
    halves = table_rows.offline_stage(replace(config, output=config.output / "halves"), 0).config
    calls: list[int] = []
    write = offline.write_trajectories

    def cut(path: Path, *rest: Any) -> int:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(path, *rest)

    monkeypatch.setattr(offline, "write_trajectories", cut)
    with pytest.raises(KeyboardInterrupt):
        offline.collect_offline(halves)
    assert offline.collect_offline(halves).read_bytes() == whole.read_bytes()


def test_a_cell_that_cannot_be_filled_keeps_no_other_from_it(sizes: dict[str, Any], tmp_path: Path) -> None:
    settings = {**sizes, "rows": ("sft", "start"), "real_settings": ('secret="never"',), "real_transitions": 50}
    with pytest.raises(DataError, match=r"1 of 2 cells could not be filled: sft, seed 0: `trajectories` must hold"):
        table.table1(Table1Config(**settings))
    (row,) = json.loads((tmp_path / "guessing" / "table1.json").read_text("utf-8"))["rows"]
    assert (row["row"], row["successes"], row["n"]) == ("start", 0, 20)


def test_pooling_and_differences_by_hand() -> None:
    real = pooled([cell("grpo-real", 30, 100, 1), cell("grpo-real", 50, 100, 0, Cost(300, 0, 0.0))])
    dream = pooled([cell("grpo-dream", 50, 100, cost=Cost(0, 70, 0.0))])
    assert (real.success_rate, real.n, real.cost) == (0.4, 200, Cost(200, 0, 1800.0))
    assert [one.seed for one in real.cells] == [0, 1]
    # Wilson of 80 in 200: (0.4 + 1.9207/200) / 1.019207 -+ 1.96 / 1.019207 * sqrt(0.24/200 + 3.8415/160000)
    assert (real.low, real.high) == (pytest.approx(0.33456, abs=1e-4), pytest.approx(0.46920, abs=1e-4))
    ((name, other, text),) = differences([real, dream], {"grpo-dream": "grpo-real", "ppo-dream": "ppo-real"})
    assert (name, other) == ("GRPO in the dream", "GRPO, N real transitions")
    assert text.startswith("+10.0 points [")
    assert "| GRPO, N real transitions | 200 | 0 | 0.50 | 40.0% [33.5, 46.9], n = 200 |" in as_markdown(
        "t", [], [real], {}
    )


def test_cpu_time_adds_up_over_runs(tmp_path: Path) -> None:
    file = tmp_path / "cpu.json"
    for _ in range(2):
        before = CpuMeter(file).seconds
        with CpuMeter(file, every=0.01) as meter:
            while meter.seconds < before + 0.05:  # the meter itself notes how far it has come
                sum(range(1000))
    assert 0.1 <= json.loads(file.read_text("utf-8"))["cpu_seconds"] == meter.seconds


def test_bad_settings_are_named(sizes: dict[str, Any]) -> None:
    for changes, message in (
        ({"rows": ("grpo",)}, "`rows` must be among start, sft, .*, got grpo"),
        ({"seeds": ()}, "`seeds` must be different numbers"),
        ({"real_share": 0.0}, r"`real_share` must be in \(0, 1\], got 0.0"),
        ({"preset": "huge"}, r"`preset` must be one of \[.*\], got 'huge'"),
        ({"world": "mars"}, r"`world` must be one of \['webshop', 'alfworld'.*\], got 'mars'"),
        ({"group_size": 1}, "`group_size` must be >= 2, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Table1Config(**{**sizes, **changes})


@pytest.mark.slow
def test_a_killed_table_goes_on_and_is_the_table_of_an_uninterrupted_run(sizes: dict[str, Any], tmp_path: Path) -> None:
    settings = {**sizes, "rows": ("sft", "grpo-sim-to-real", "ppo-dream"), "real_transitions": 120, "real_share": 0.5}
    program = tmp_path / "program.py"

    def run(folder: str) -> list[str]:
        lines = [
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})",
            "import pytest; from pathlib import *; from test_table import *",
            "use_the_guessing_world(pytest.MonkeyPatch())",
            f"config = Table1Config(**{ {**settings, 'output': tmp_path / folder}!r})",
            "with dream_registered(): table.table1(config)",
        ]
        program.with_name(f"{folder}.py").write_text("\n".join(lines), encoding="utf-8")
        return [sys.executable, str(program.with_name(f"{folder}.py"))]

    wholly = subprocess.run(run("whole"), check=True, capture_output=True)
    assert b"real success" in wholly.stdout
    broken = tmp_path / "broken" / "guessing"
    moments = (broken / "sft" / "seed-0" / "cpu.json", broken / "grpo-dream" / "seed-0" / "checkpoints")
    for moment in (*moments, broken / "grpo-sim-to-real" / "seed-0" / "metrics.jsonl"):
        process = subprocess.Popen(run("broken"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not moment.exists():
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -9, "the table was done before it could be killed"
    subprocess.run(run("broken"), check=True, capture_output=True)

    def told(folder: str) -> Any:
        rows = json.loads((tmp_path / folder / "guessing" / "table1.json").read_text("utf-8"))["rows"]
        return [
            (row["row"], one["successes"], one["n"], one["cost"]["real_steps"], one["cost"]["dream_steps"])
            for row in rows
            for one in row["cells"]
        ]

    assert told("broken") == told("whole")
    for cell_folder in ("sft", "grpo-dream", "grpo-sim-to-real", "ppo-dream"):
        left, right = (
            (tmp_path / folder / "guessing" / cell_folder / "seed-0" / "policy" / "model.safetensors").read_bytes()
            for folder in ("whole", "broken")
        )
        assert left == right, cell_folder
