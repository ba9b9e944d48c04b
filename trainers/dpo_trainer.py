"""TRL's `DPOTrainer` for whole episodes: rows come as token ids with a response mask; figures go to `metrics.jsonl`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from rich.progress import Progress
from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints
from trl.trainer.dpo_trainer import DPOTrainer

from .checkpoint import PARTIAL, flush
from .disk import writing
from .logs import MetricsLog

NAMES = {
    "loss": "loss",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
    "logps/chosen": "logprob_chosen",
    "logps/rejected": "logprob_rejected",
    "mean_token_accuracy": "token_accuracy",
    "entropy": "entropy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "epoch": "epoch",
    "num_tokens": "tokens",
}
"""TRL's names of the figures that are logged, and ours; `docs/sft-dpo.md` defines them."""


class EpisodePairTrainer(DPOTrainer):  # type: ignore[misc]
    """`DPOTrainer` on rows that `pairs.rows` and `pairs.PairCollator` make.

    TRL tokenizes a prompt and one completion behind it, all of which counts. An episode is many responses with states
    between them, so the rows are made by `agent.AgentChat` and pass through here untouched.

    Checkpoints are the Trainer's, but whole or not there: written beside, then renamed.
    """

    _beside: Path | None = None
    """The folder that a checkpoint is written into."""

    def _prepare_dataset(self, dataset: Any, *arguments: Any, **keywords: Any) -> Any:
        return dataset

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._beside or self.args.output_dir)

    def _save_checkpoint(self, *arguments: Any, **keywords: Any) -> None:
        """Raises: DataError, where it cannot be written; the checkpoints before it stay."""
        self.state.num_input_tokens_seen = self._total_train_tokens  # TRL counts anew after a resume
        folder = Path(self._get_output_dir(None))
        final, beside = folder / f"checkpoint-{self.state.global_step}", folder / f"{PARTIAL}checkpoint"
        older = newest_checkpoint(folder)
        kept = f"{older.name} is whole" if older else "there is no checkpoint before it"
        self._beside = beside
        with writing(final, kept, cleared=beside):
            super()._save_checkpoint(*arguments, **keywords)  # type: ignore[no-untyped-call]
            if self.is_world_process_zero():
                flush(beside)
        self._beside = None
        self.accelerator.wait_for_everyone()  # each process writes files of its own
        if self.is_world_process_zero():
            shutil.rmtree(final, ignore_errors=True)
            os.replace(beside / final.name, final)
            shutil.rmtree(beside)
            rotate_checkpoints(str(folder), self.args.save_total_limit)

    def count_from(self, checkpoint: Path) -> None:
        """Counts tokens on from a checkpoint of `newest_checkpoint`, where training is to go on."""
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        self._total_train_tokens = int(state["num_input_tokens_seen"])


def dataset_of(rows: list[dict[str, Any]], arguments: Any, folder: Path) -> Any:
    """The rows as a data set. Several processes read it from one `folder`: beside it TRL's main process leaves the
    reference's log-probabilities for the others, who would look in vain for those of a data set in memory."""
    from datasets import Dataset, load_from_disk

    made = Dataset.from_list(rows)
    if arguments.world_size == 1:
        return made
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            shutil.rmtree(folder, ignore_errors=True)
            with writing(folder, cleared=folder):
                made.save_to_disk(str(folder))
    return load_from_disk(str(folder))


class Report(TrainerCallback):
    """Writes TRL's figures to the log and shows how far the training has come."""

    def __init__(self, log: MetricsLog, bar: Progress) -> None:
        self.log, self.bar = log, bar
        self.line = bar.add_task("DPO")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **keywords: Any) -> None:
        if figures := named(logs):
            self.log.write(state.global_step, figures)

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        self.bar.update(self.line, total=state.max_steps, completed=state.global_step)
        control.should_log = control.should_log or state.global_step == state.max_steps  # else the last ones are lost


def named(logs: dict[str, float]) -> dict[str, float]:
    """TRL's figures under our names, `train/...` or `eval/...`; without what is not in `NAMES`, and without the totals
    at the end."""
    found = {}
    for key, value in logs.items():
        part = "eval" if key.startswith("eval_") else "train"
        name = NAMES.get(key.removeprefix("eval_"))
        if name and (part == "train" or name not in ("epoch", "tokens")) and "train_loss" not in logs:
            found[f"{part}/{name}"] = float(value)
    return found


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest of the Trainer's checkpoints that is whole, None where there is none.

    `trainer_state.json` is the last file that the Trainer writes: what was damaged or left half-written has none, or
    one that cannot be read.
    """
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    found = sorted(numbered, key=lambda path: -int(path.name.rpartition("-")[2]))
    return next((path for path in found if _is_whole(path)), None)


def _is_whole(path: Path) -> bool:
    try:
        state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return bool(state["global_step"] == int(path.name.rpartition("-")[2]))
