"""SFT of the agent's policy on demonstrations: one episode is one sequence (with `history` each of its turns), and the
loss counts response tokens only.

    python -m dreamgym_env.trainers.sft --model BASE --trajectories demos.jsonl --output policy

The chat, its tokens and the answer format are those of `agent.py`, so that GRPO goes on from exactly what was learned.
Starts from any checkpoint folder with a chat template, pretrained or from scratch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from dreamgym_env.checkpoints import in_bfloat16
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import Trajectory

from .adapters import with_adapters
from .checkpoint import check_start, save_policy_into
from .experience_config import Names
from .logs import read_metrics
from .processes import join
from .progress import show_progress
from .sft_data import load_demonstrations, supply_of
from .supervised import Example, SupervisedConfig, Trainer, collate


@dataclass(frozen=True)
class SFTConfig:
    """How to make a policy from demonstrations."""

    needs_trajectories: ClassVar[bool] = True

    model: str
    """Checkpoint folder or hub name to start from."""
    trajectories: tuple[str, ...]
    """Files of trajectories (`.jsonl`, `.jsonl.gz`)."""
    output: str
    """Folder for the policy."""
    domain: str | None = None
    """Whose agent instruction is taught: a bundled domain, a world file, `package.module:ATTRIBUTE`; None for the one
    that the episodes name."""
    success_only: bool = True
    """Whether failed episodes are left out. Broken ones (`model_error`) always are."""
    skip_impossible: bool = True
    """Whether responses with an impossible action are shown but not learned."""
    thoughts_only: bool = False
    """Whether episodes with a step without a thought are left out, so that the policy learns to give one at each."""
    by_name: bool = False
    """Whether actions name their elements in words, where the domain has such a form (`click('link Orders')`, the web
    worlds)."""
    max_episodes: int | None = None
    """At most so many training episodes, taken in the files' order; None for all."""
    per_task: int | None = None
    """At most so many training episodes of one task, the first of the files; None for all. For a policy's own successes
    (rejection sampling): it has most of what it does well already, and needs what it seldom does."""
    history: int | None = None
    """None: a sequence is a whole conversation. k >= 0: a sequence is one turn, which shows the last k steps. RL and
    evaluation must show the agent the same (their `history`)."""
    max_tokens: int = 4608
    """Episodes with a longer sequence are left out and counted."""
    permute_share: float = 0.0
    """Share of the sequences, drawn anew in each pass, whose names are exchanged at random, in [0, 1], so that a small
    model copies what it reads, not names that it knows. For vocabularies of words (`dreamgym fit-vocabulary`)."""
    names: Names = "rare"
    """Which single words are names: "rare" ones, all that few sequences have, or those "copied", which agents repeat in
    most of the episodes whose instruction says them: then the words that tasks are told in keep their meaning."""
    label_share: float = 0.0
    """Share of the sequences with names exchanged in which words that have a form with and one without a capital are
    too (`Phone` of a label and `phone` of a task, together), in [0, 1], so that labels are found, whatever they say."""
    number_share: float = 0.0
    """Share of the sequences with names exchanged in which numbers are too, in [0, 1]; for worlds where agents copy
    numbers and do not compare them."""
    state_weight: float = 0.0
    """Weight of the tokens of the states that actions led to, beside 1 of a response token, >= 0: the policy learns to
    predict them too (implicit world modelling, arXiv:2510.08558). For whole conversations."""
    micro_share: float = 0.0
    """Share of the sequences that are tasks of micro-sites, drawn anew in each pass from the vocabulary's words
    (`microsites.py`), in [0, 1): looking up and copying, for small policies of the web worlds."""
    epochs: float = 3.0
    """Passes over the episodes, > 0."""
    learning_rate: float = 1e-3
    """Peak; 1e-5 suits models of billions of parameters."""
    batch_tokens: int = 4096
    """Tokens of a batch, padding included."""
    pass_tokens: int | None = None
    """Tokens of a forward pass, padding included, >= 1: the gradients of a batch's passes add up, so that it has no
    influence on results but memory and speed. None: the whole batch."""
    warmup_steps: int = 20
    """Steps of linear warm-up; a cosine down to 3% follows."""
    weight_decay: float = 0.01
    """AdamW's weight decay, >= 0."""
    clip: float = 1.0
    """Largest gradient norm."""
    bf16: bool | None = None
    """Whether the forward pass runs in bfloat16 autocast (weights stay in float32); None where the machine has
    instructions for it: without them it is three times slower than float32."""
    gradient_checkpointing: bool = False
    """Trade a third more computing for much less memory."""
    lora_rank: int = 0
    """Rank of LoRA adapters on all linear layers, merged into the saved policy, >= 0; 0 trains every weight."""
    shard: bool = False
    """Whether several processes (`accelerate launch`) share out weights, gradients and optimizer (FSDP); False: each
    holds everything."""
    device: str = "auto"
    """"auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", ...; of several processes each takes its own."""
    log_every: int = 50
    """Steps between log lines."""
    save_every: int = 250
    """Steps between checkpoints in `output`/checkpoints that a stopped run can go on from."""
    resume: bool = False
    """Goes on from the newest of them, if there is one."""
    seed: int = 0
    """Seed of the order of batches, of new adapters and of what names are exchanged."""

    def __post_init__(self) -> None:
        if self.needs_trajectories and not self.trajectories:
            raise ValueError("`trajectories` must name at least one file, got none")
        if self.epochs <= 0:
            raise ValueError(f"`epochs` must be > 0, got {self.epochs}")
        for name in ("max_episodes", "per_task"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1 or None, got {getattr(self, name)}")
        if self.history is not None and self.history < 0:
            raise ValueError(f"`history` must be >= 0 or None, got {self.history}")
        for name in ("permute_share", "label_share", "number_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.micro_share < 1:
            raise ValueError(f"`micro_share` must be in [0, 1), got {self.micro_share}")
        if self.state_weight < 0 or (self.state_weight and self.history is not None):
            raise ValueError(f"`state_weight` must be >= 0, and 0 with `history`, got {self.state_weight}")
        if self.pass_tokens is not None and self.pass_tokens < 1:
            raise ValueError(f"`pass_tokens` must be >= 1 or None, got {self.pass_tokens}")
        if self.lora_rank < 0:
            raise ValueError(f"`lora_rank` must be >= 0, got {self.lora_rank}")
        if self.lora_rank and self.shard:
            raise ValueError(
                f"`lora_rank` must be 0 with `shard`, which shares out what is trained, got {self.lora_rank}"
            )


def held_out_loss(trainer: Trainer, examples: Sequence[Example], batch: int = 16) -> float | None:
    """Mean nats per response token on held-out episodes; None where there are none."""
    import torch

    total, count, device = 0.0, 0.0, trainer.processes.device
    with torch.no_grad():
        for start in range(0, len(examples), batch):
            ids_BT, weights_BT = collate(examples[start : start + batch], trainer.tokenizer.pad_token_id or 0)
            loss, weight = trainer.network(ids_BT.to(device), weights_BT.to(device))
            total, count = total + float(loss), count + float(weight)
    return total / count if count else None


def load_base(config: SFTConfig) -> tuple[Any, Any]:
    """The network to train and its tokenizer.

    Raises:
        ModelError: `model` cannot be loaded.
    """
    from dreamgym_env.checkpoints import load_checkpoint

    model, tokenizer = load_checkpoint(config.model, "float32", join(config.device).device)
    return (with_adapters(model, config.lora_rank, config.seed) if config.lora_rank else model), tokenizer


def train(config: SFTConfig, trajectories: Iterable[Trajectory]) -> dict[str, Any]:
    """Trains, saves the policy to `output` and gives the report that is saved beside it as `sft.json`."""
    import torch

    folder = Path(config.output)
    check_start(folder, config.resume)
    torch.manual_seed(config.seed)
    model, tokenizer = load_base(config)
    data = load_demonstrations(config, tokenizer, trajectories)
    trainer = Trainer(model, tokenizer, _supervised(config))
    before = held_out_loss(trainer, data.held_out)
    if config.resume:
        trainer.resume(folder / "checkpoints")
    supply = supply_of(config, data, tokenizer)
    budget = _token_budget(supply.draw(0) if config.micro_share else data.train, config)
    is_main = trainer.processes.is_main
    with show_progress("SFT", folder / "metrics.jsonl", trainer.steps, is_main) as on_log:
        trainer.run(supply, budget, on_log=on_log, checkpoints=folder / "checkpoints")
    report = {
        "config": asdict(config),
        "episodes": len(data.instructions),
        "held_out_episodes": data.held_out_episodes,
        "failed": data.failed,
        "broken": data.broken,
        "too_long": data.too_long,
        "spare": data.spare,
        "thoughtless": data.thoughtless,
        "steps": trainer.steps,
        "tokens": trainer.tokens,
        "held_out_loss_before": before,
        "held_out_loss": held_out_loss(trainer, data.held_out),
        "log": read_metrics(folder / "metrics.jsonl") if is_main else [],
    }
    policy = model.merge_and_unload() if config.lora_rank else trainer.whole_model()
    if is_main:
        save_policy_into(folder, policy, tokenizer, {"sft.json": json.dumps(report, indent=1) + "\n"})
    return report


def read_all(paths: Sequence[str]) -> Iterator[Trajectory]:
    """The trajectories of several files, one file after another."""
    for path in paths:
        yield from read_trajectories(path)


def _token_budget(examples: Sequence[Example], config: SFTConfig) -> int:
    """Tokens of `epochs` passes. Padding counts in the trainer, so the last pass may end a little early."""
    return max(1, round(config.epochs * sum(len(example) for example in examples)))


def _supervised(config: SFTConfig) -> SupervisedConfig:
    return SupervisedConfig(
        learning_rate=config.learning_rate,
        batch_tokens=config.batch_tokens,
        pass_tokens=config.pass_tokens,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        clip=config.clip,
        bf16=in_bfloat16(config.bf16, config.device),
        gradient_checkpointing=config.gradient_checkpointing,
        shard=config.shard,
        device=config.device,
        log_every=config.log_every,
        save_every=config.save_every,
        seed=config.seed,
    )


def run(config: SFTConfig) -> dict[str, Any]:
    """Trains on the files that the config names; the report without its config and log."""
    report = train(config, read_all(config.trajectories))
    return {key: value for key, value in report.items() if key not in ("config", "log")}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; `--help` lists every setting."""
    import tyro

    config = tyro.cli(SFTConfig, args=arguments, description=__doc__)
    report = run(config)
    if join(config.device).is_main:
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
