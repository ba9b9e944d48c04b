"""Settings of `dreamgym train-experience`, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .scratch import SmallConfig
from .supervised import SupervisedConfig

Names = Literal["rare", "copied"]


@dataclass(frozen=True)
class ExperienceTrainingConfig:
    """Settings of `dreamgym train-experience`."""

    data: tuple[Path, ...] = (Path("runs/train.jsonl"),)
    """Trajectory files with reasoning traces; held-out tasks in them are left out."""
    out: Path = Path("runs/experience")
    """Folder of the checkpoint."""
    domain: tuple[str, ...] = ("webshop",)
    """The world of `data`, or several: one model then learns them all, as many sequences of each."""
    base: str | None = None
    """Checkpoint to start from; None trains from scratch."""
    vocabulary: Literal["fit", "keep"] = "fit"
    """"fit" gives a small model a tokenizer of this corpus; "keep" leaves a pretrained one its own."""
    phrases: int = 0
    """Most joins of words that occur together into one token, with "fit"; for worlds whose texts are templates."""
    plain_forms: bool = False
    """Whether each capitalised word has a token for its form without the capital too, with "fit"."""
    widen: int | None = None
    """Tokens that the convolutions of an LFM2 `base` shall see, where that is more than they do; nothing is lost."""
    deepen: int | None = None
    """How many times as many blocks an LFM2 `base` shall have; new ones begin without effect."""
    lora_rank: int = 0
    """Rank of LoRA adapters on all linear layers; 0 trains every weight."""
    million_tokens: float = 10.0
    """Training tokens, padding included, in millions."""
    max_minutes: float | None = None
    """Stops earlier, with the learning rate decayed by then."""
    top_k: int = 1
    """Demonstrations in each prompt, >= 0."""
    longest: int = 2048
    """Longer conversations are left out, in tokens. A `base` with rotary positions that reads fewer learns
    to read so many."""
    buffer_trajectories: int = 1000
    """Trajectories, from the first on, that demonstrations are retrieved from: as many as the dream will have."""
    demonstration_share: float = 0.8
    """Share of the sequences that show demonstrations."""
    recall_share: float = 0.85
    """Share of the sequences that recall earlier lines."""
    trace_share: float = 1.0
    """Share of the sequences with reasoning traces; 0 is the ablation without."""
    brief_share: float = 0.0
    """Share of the sequences in which steps that the domain knows the answer to (`Domain.known`) stand without recalled
    lines and trace and are not learned. Above 0, the dream shows them so too: long episodes take half the tokens."""
    impossible_share: float = 0.3
    """Share of the sequences that keep the steps whose action was impossible. The rules answer those, and a dream's
    conversation leaves them out."""
    permute_share: float = 0.4
    """Share of the sequences whose names are exchanged at random, so that they must be looked up (small models)."""
    names: Names = "rare"
    """Which single words are names: all "rare" ones, or those "copied": what agents repeat in most of the successful
    episodes whose instruction says it. Then the words that tasks are told in keep their meaning."""
    open_weight: float = 0.3
    """Loss weight of what no history determines (`Domain.is_open`), in [0, 1]; all else weighs 1."""
    knowing_policies: tuple[str, ...] = ()
    """Policies that know more than their episode has told them, by the beginnings of their names (`oracle`): what no
    history determines is not learned from their episodes, since their actions give away where things lie."""
    outcome_weight: float = 1.0
    """Loss weight of the answers that end an episode, > 0: few tokens, on which every reward rests."""
    tasks_share: float = 0.03
    """Share of further sequences that teach to vary tasks (M_task, Eq. 6)."""
    resume: bool = False
    """Goes on from the newest checkpoint in `out`/checkpoints, if there is one."""
    seed: int = 0
    """Seed of the sequences that are drawn and of weights that no checkpoint gives."""
    workers: int = 0
    """Processes that draw sequences ahead, >= 0, for a GPU that would wait for them; the sequences are the same ones. 0
    draws between the steps."""
    threads: int | None = None
    """CPU threads; None leaves torch's choice."""
    model: SmallConfig = field(default_factory=SmallConfig)
    training: SupervisedConfig = field(default_factory=SupervisedConfig)

    def __post_init__(self) -> None:
        for name in (
            "demonstration_share",
            "recall_share",
            "trace_share",
            "brief_share",
            "impossible_share",
            "permute_share",
            "tasks_share",
            "open_weight",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}")
        if self.workers < 0:
            raise ValueError(f"`workers` must be >= 0, got {self.workers}")
        if self.outcome_weight <= 0:
            raise ValueError(f"`outcome_weight` must be > 0, got {self.outcome_weight}")
        if self.lora_rank and self.vocabulary == "fit":
            raise ValueError("`lora_rank` needs `vocabulary='keep'`: adapters cannot learn a new vocabulary")
        if self.lora_rank and self.training.shard:
            raise ValueError("`lora_rank` must be 0 with `training.shard`, which shares out what is trained")
