"""DPO of the agent's policy from offline trajectories: of two episodes of a task, the one that succeeded is preferred.

    python -m dreamgym_env.trainers.dpo --model runs/policy --trajectories demos.jsonl --output runs/dpo

    L = -log sigmoid(beta * ((log pi(c) - log ref(c)) - (log pi(r) - log ref(r))))          (arXiv:2305.18290, Eq. 7)

log pi of an episode is the sum over its response tokens; what the environment says is context (as for trajectories in
arXiv:2403.02502). TRL's `DPOTrainer` makes the steps; chat, tokens and mask are those of `dreamgym sft`.
`docs/sft-dpo.md` defines every logged key.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dreamgym_env.checkpoints import in_bfloat16
from dreamgym_env.progress import ProgressBar
from dreamgym_env.types import Trajectory

from .adapters import lora_config
from .checkpoint import check_start, save_policy_into
from .logs import MetricsLog
from .pairs import PairCollator, Pairs, load_pairs, rows
from .sft import read_all


@dataclass(frozen=True)
class DPOConfig:
    """How to make a policy better from episodes that succeeded and episodes that failed."""

    model: str
    """Starting policy, and the reference: a checkpoint folder or hub name."""
    trajectories: tuple[str, ...]
    """Files of trajectories (`.jsonl`, `.jsonl.gz`)."""
    output: str
    """Folder for the policy."""
    pairs_per_task: int = 4
    """At most so many pairs of a success and a failure of each task, >= 1; tasks without both give none."""
    skip_impossible: bool = True
    """Whether responses with an impossible action are shown but not learned in episodes that succeeded."""
    max_tokens: int = 4608
    """Longer episodes are left out and counted."""
    beta: float = 0.1
    """How closely the policy is held to the reference, > 0: larger is closer."""
    sft_coef: float = 0.0
    """Weight of the SFT loss of the chosen episodes beside DPO's, >= 0 (arXiv:2404.19733, Eq. 1): where chosen and
    rejected are much alike, DPO alone may make both unlikely."""
    epochs: float = 1.0
    """Passes over the pairs, > 0."""
    learning_rate: float = 1e-5
    """Peak of AdamW's rate, > 0; 1e-6 suits models of billions of parameters, 1e-4 their LoRA adapters."""
    batch_size: int = 4
    """Pairs of a forward pass (twice as many episodes), >= 1."""
    accumulation: int = 4
    """Forward passes of an optimizer step, >= 1."""
    warmup_steps: int = 10
    """Steps of linear warm-up; a linear decay to 0 follows."""
    weight_decay: float = 0.0
    """AdamW's weight decay, >= 0."""
    clip: float = 1.0
    """Largest gradient norm."""
    lora_rank: int = 0
    """Rank of LoRA adapters on all linear layers, merged into the saved policy; 0 trains every weight."""
    bf16: bool | None = None
    """Whether forward passes run in bfloat16 autocast (weights stay in float32); None where that is faster."""
    gradient_checkpointing: bool = False
    """Trade a third more computing for much less memory."""
    device: str = "auto"
    """"auto" (a GPU where there is one) or "cpu"."""
    log_every: int = 10
    """Steps between log lines."""
    save_every: int = 100
    """Steps between checkpoints in `output`/checkpoints that a stopped run can go on from."""
    resume: bool = False
    """Goes on from the newest of them, if there is one."""
    seed: int = 0
    """Seed of which pairs are drawn and of the order of batches."""

    def __post_init__(self) -> None:
        if not self.trajectories:
            raise ValueError("`trajectories` must name at least one file, got none")
        for name in ("pairs_per_task", "batch_size", "accumulation", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}")
        for name in ("beta", "epochs", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be > 0, got {getattr(self, name)}")
        for name in ("sft_coef", "lora_rank"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be >= 0, got {getattr(self, name)}")
        if self.device not in ("auto", "cpu"):
            raise ValueError(f"`device` must be 'auto' or 'cpu', got {self.device!r}")


def make_trainer(config: DPOConfig, model: Any, tokenizer: Any, pairs: Pairs) -> Any:
    """A `trl.DPOTrainer` on the pairs.

    The reference's log-probabilities are computed here, once, by the model as it is now: no second model is kept.

    Raises:
        ValueError: adapters could not be merged, since DeepSpeed shares out the weights that they lie beside.
    """
    from trl.trainer.dpo_config import DPOConfig as TRLConfig

    from .dpo_trainer import EpisodePairTrainer, dataset_of

    shared = Path(config.output) / "pairs"
    arguments = TRLConfig(
        output_dir=str(Path(config.output) / "checkpoints"),
        beta=config.beta,
        loss_type=["sigmoid", "sft"] if config.sft_coef else ["sigmoid"],
        loss_weights=[1.0, config.sft_coef] if config.sft_coef else [1.0],
        precompute_ref_log_probs=True,
        max_length=None,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        bf16=in_bfloat16(config.bf16, config.device),
        gradient_checkpointing=config.gradient_checkpointing,
        use_cpu=config.device == "cpu",
        logging_steps=config.log_every,
        save_steps=config.save_every,
        save_total_limit=2,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
    )
    if config.lora_rank and weights_shared(arguments):
        raise ValueError(
            f"`lora_rank` must be 0 with DeepSpeed's stage 3, got {config.lora_rank}; stage 2 takes adapters"
        )
    return EpisodePairTrainer(
        model=model,
        args=arguments,
        data_collator=PairCollator(tokenizer.pad_token_id or 0),
        train_dataset=dataset_of(rows(pairs.train), arguments, shared / "train"),
        eval_dataset=dataset_of(rows(pairs.held_out), arguments, shared / "held_out") if pairs.held_out else None,
        processing_class=tokenizer,
        peft_config=lora_config(config.lora_rank) if config.lora_rank else None,
    )


def train(config: DPOConfig, trajectories: Iterable[Trajectory]) -> dict[str, Any]:
    """Trains, saves the policy to `output` and gives the report that is saved beside it as `dpo.json`."""
    import torch
    from transformers import PrinterCallback

    from dreamgym_env.checkpoints import load_checkpoint

    from .dpo_trainer import Report, newest_checkpoint

    folder = Path(config.output)
    check_start(folder, config.resume, "checkpoint-")
    torch.manual_seed(config.seed)
    model, tokenizer = load_checkpoint(config.model, "float32", "cpu")  # the Trainer takes it to its device
    pairs = load_pairs(
        tokenizer, trajectories, config.pairs_per_task, config.max_tokens, config.skip_impossible, config.seed
    )
    trainer = make_trainer(config, model, tokenizer, pairs)
    found = newest_checkpoint(folder / "checkpoints") if config.resume else None
    steps = int(found.name.rpartition("-")[2]) if found else None
    main_process = trainer.is_world_process_zero()
    bar = ProgressBar(transient=True, disable=not main_process)
    with MetricsLog(folder, steps, enabled=main_process) as log, bar:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Report(log, bar))
        if found is not None:
            trainer.count_from(found)
        elif pairs.held_out and not trainer.is_deepspeed_enabled:  # it would need an engine of its own to evaluate now
            trainer.evaluate()
        trainer.train(resume_from_checkpoint=str(found) if found else None)
        if pairs.held_out:
            trainer.evaluate()
    report, policy = _report(config, pairs, trainer), trained_policy(trainer)
    if main_process:
        shutil.rmtree(folder / "pairs", ignore_errors=True)
        save_policy_into(folder, policy, tokenizer, {"dpo.json": json.dumps(report, indent=1) + "\n"})
    return report


def weights_shared(arguments: Any) -> bool:
    """Whether DeepSpeed shares out the weights themselves (its stage 3)."""
    plugin = arguments.deepspeed_plugin
    return plugin is not None and plugin.zero_stage == 3


def trained_policy(trainer: Any) -> Any:
    """What `save_pretrained` writes whole: adapters merged, and what DeepSpeed has shared out (stage 3) put together.

    Every process has to ask for it.
    """
    from .sharding import WholeModel

    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        return model.merge_and_unload()
    if weights_shared(trainer.args):
        return WholeModel(model, trainer.accelerator.get_state_dict(trainer.model_wrapped) or {})
    return model


def _report(config: DPOConfig, pairs: Pairs, trainer: Any) -> dict[str, Any]:
    counts = {key: value for key, value in vars(pairs).items() if key not in ("train", "held_out")}
    return {
        "config": asdict(config),
        "pairs": len(pairs.train),
        "held_out_pairs": len(pairs.held_out),
        **counts,
        "steps": trainer.state.global_step,
    }


def run(config: DPOConfig) -> dict[str, Any]:
    """Trains on the files that the config names; the report without its config."""
    report = train(config, read_all(config.trajectories))
    return {key: value for key, value in report.items() if key != "config"}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; `--help` lists every setting."""
    import tyro

    print(json.dumps(run(tyro.cli(DPOConfig, args=arguments, description=__doc__)), indent=1))


if __name__ == "__main__":
    main()
