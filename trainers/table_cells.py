"""One cell of a table (a row and a seed): its jobs done once, its policy evaluated once, and what that cost."""

from __future__ import annotations

import gc
import json
import os
import threading
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import dreamgym_env
from dreamgym_env.loading import forget_grown_buffers
from dreamgym_env.trajectories import read_trajectories

from .evaluate import EvaluateConfig, Evaluation
from .evaluate import run as evaluate
from .logs import read_metrics
from .table_config import TableConfig
from .table_rows import DATA_FILE, Stage, preset_of, row_folder, stages_of, whole_context

RESULT_FILE, STAGE_FILE, CPU_FILE = "result.json", "stage.json", "cpu.json"
JOBS = {
    "collect": ("collect", "main"),
    "offline": ("offline", "collect_offline"),
    "sft": ("sft", "run"),
    "dpo": ("dpo", "run"),
    "grpo": ("grpo", "train"),
    "ppo": ("ppo", "train"),
}
"""Module and function of each job. Each goes on where an earlier run of it stopped."""


@dataclass(frozen=True)
class Cost:
    """What it took: environment steps by source, and CPU time (all threads) in seconds."""

    real_steps: int = 0
    dream_steps: int = 0
    cpu_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Cost(*(left + right for left, right in pairs))


@dataclass(frozen=True)
class Cell:
    """A finished cell. `cost` is that of the policy; `evaluation_cpu_seconds` that of the evaluation alone."""

    row: str
    seed: int
    successes: int
    n: int
    cost: Cost
    evaluation_cpu_seconds: float
    evaluation: dict[str, Any]
    version: str = dreamgym_env.__version__


class CpuMeter:
    """Adds up the CPU time of a job over all runs that it takes; a kill loses a few seconds of it at most."""

    def __init__(self, file: Path, every: float = 5.0) -> None:
        self.file, self.every = file, every
        self.seconds = float(json.loads(file.read_text(encoding="utf-8"))["cpu_seconds"]) if file.exists() else 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> CpuMeter:
        self._before, self._last = self.seconds, cpu_seconds()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._note()

    def _keep(self) -> None:
        while not self._stop.wait(self.every):
            self._note()

    def _note(self) -> None:
        self.seconds = self._before + cpu_seconds() - self._last
        write_json(self.file, {"cpu_seconds": self.seconds})


def cpu_seconds() -> float:
    """CPU time of this process so far, system time and children that have ended included."""
    return sum(os.times()[:4])


def write_json(file: Path, content: Any) -> None:
    """Writes the file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, file)


def fill_cell(config: TableConfig, row: str, seed: int) -> Cell:
    """Does what is left to do for a cell; at once where it is finished."""
    folder = row_folder(config, row, seed)
    if (finished := read_cell(folder)) is not None:
        return finished
    stages = stages_of(config, row, seed)
    cost = sum((run_stage(stage) for stage in stages), Cost())
    policy = str(stages[-1].policy) if stages else config.policy
    with CpuMeter(folder / f"evaluation-{CPU_FILE}") as meter:
        found = evaluate_policy(config, policy, seed, whole=bool(stages) and stages[-1].job == "dpo")
    cell = Cell(row, seed, found.successes, found.n, cost, meter.seconds, asdict(found))
    write_json(folder / RESULT_FILE, asdict(cell))
    return cell


def read_cell(folder: Path) -> Cell | None:
    """A finished cell; None where it is not finished."""
    file = folder / RESULT_FILE
    if not file.exists():
        return None
    values = json.loads(file.read_text(encoding="utf-8"))
    return Cell(**{**values, "cost": Cost(**values["cost"])})


def run_stage(stage: Stage) -> Cost:
    """Does the job, or what an interrupted run has left of it; at once where it is done."""
    file = stage.folder / STAGE_FILE
    if not file.exists():
        # Each job begins with the world as it is: no dreams of the job before in its replay buffer.
        forget_grown_buffers()
        with CpuMeter(stage.folder / CPU_FILE) as meter:
            module, function = JOBS[stage.job]
            getattr(import_module(f".{module}", __package__), function)(stage.config)
        gc.collect()
        real, dreamed = steps_of(stage)
        write_json(file, asdict(Cost(real, dreamed, meter.seconds)))
    return Cost(**json.loads(file.read_text(encoding="utf-8")))


def steps_of(stage: Stage) -> tuple[int, int]:
    """Environment steps that a finished job has taken, real and dreamed."""
    if stage.job in ("offline", "collect"):
        return sum(len(one.transitions) for one in read_trajectories(stage.folder / DATA_FILE)), 0
    if stage.job in ("sft", "dpo"):
        return 0, 0
    rows = read_metrics(stage.folder / "metrics.jsonl")
    if stage.source == "real":
        return int(max((row.get("real/train_steps", 0) for row in rows), default=0)), 0
    varied = max((row.get("curriculum/variation_steps", 0) for row in rows), default=0)
    return 0, int(sum(row.get("collect/actions", 0) for row in rows) + varied)


def evaluate_policy(config: TableConfig, policy: str, seed: int, whole: bool = False) -> Evaluation:
    """Success on held-out tasks in the real environment: the same tasks in every cell, the same draws in every row.

    `whole`: the policy was trained on whole conversations and is shown those, whatever the preset shows.
    """
    rl = preset_of(config, "grpo")
    return evaluate(
        EvaluateConfig(
            policy=policy,
            env_id=config.place.real,
            episodes=config.eval_episodes,
            temperature=rl.eval_temperature,
            max_tokens=rl.max_tokens,
            context_tokens=whole_context(rl) if whole else rl.context_tokens,
            history=None if whole else rl.history,
            num_envs=config.eval_num_envs,
            device=rl.device,
            settings=config.all_real_settings,
            seed=seed,
        )
    )
