"""Supervised training on chats: token ids with a loss mask, batches of a token budget, one loop for every SFT here.

Used by `train-base`, `train-experience` (Eq. 5, arXiv:2511.03773) and `sft`: only the assistant's tokens are learned.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamgym_env.types import Conversation, DataError

from .processes import join
from .supply import Supply, random_state, set_random_state

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Example:
    """One conversation as `ids` int32 [T] and `weights` float32 [T]; weight 0 where the token is not learned."""

    ids: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def encode_chat(tokenizer: Any, conversation: Conversation) -> Example:
    """Ids of a conversation and weight 1 for every token that an assistant turn says, its end token included.

    Raises:
        ValueError: the chat template rewrites earlier turns, so that answers cannot be located.
    """
    messages = [dict(message) for message in conversation]
    if "{% generation %}" in str(tokenizer.chat_template):
        encoded = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return Example(np.asarray(encoded["input_ids"], np.int32), np.asarray(encoded["assistant_masks"], np.float32))
    text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    starts = np.asarray([start for start, _ in encoding["offset_mapping"]])
    weights = np.zeros(len(starts), np.float32)
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            before = tokenizer.apply_chat_template(messages[:index], tokenize=False, add_generation_prompt=True)
            after = tokenizer.apply_chat_template(messages[: index + 1], tokenize=False)
            if not (text.startswith(str(before)) and text.startswith(str(after))):
                raise ValueError("the chat template rewrites earlier turns; give the tokenizer an append-only template")
            weights[(starts >= len(before)) & (starts < len(after))] = 1.0
    return Example(np.asarray(encoding["input_ids"], np.int32), weights)


@dataclass(frozen=True)
class SupervisedConfig:
    """How to train."""

    learning_rate: float = 1e-3
    """Peak of AdamW's rate; warmed up, then a cosine down to 3%."""
    batch_tokens: int = 4096
    """Tokens of a batch, padding included."""
    pass_tokens: int | None = None
    """Tokens of a forward pass, padding included: the gradients of a batch's passes add up, so that it has no influence
    on results but memory and speed. None: the whole batch."""
    warmup_steps: int = 60
    """Steps of linear warm-up of the rate, >= 0."""
    weight_decay: float = 0.05
    """AdamW's weight decay, >= 0."""
    clip: float = 1.0
    """Largest gradient norm."""
    bf16: bool = False
    """Whether the forward pass runs in bfloat16 autocast; only worth it where the processor has bfloat16 units."""
    gradient_checkpointing: bool = False
    """Trade a third more computing for much less memory."""
    shard: bool = False
    """Whether several processes (`accelerate launch`) share out weights, gradients and optimizer (FSDP); False: each
    holds everything."""
    device: str = "auto"
    """"auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", ...; of several processes each takes its own."""
    log_every: int = 20
    """Steps between log lines."""
    save_every: int = 250
    """Steps between checkpoints that a stopped run can go on from."""
    seed: int = 0
    """Seed of the order of batches and of dropout."""


def batches(sequences: Sequence[Example], batch_tokens: int, rng: random.Random) -> Iterator[list[int]]:
    """Indices of one epoch in batches of similar length, so that little is padding; shuffled by `rng`."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]) * rng.uniform(0.9, 1.1))
    chunks: list[list[int]] = []
    current: list[int] = []
    longest = 0
    for index in order:
        longest = max(longest, len(sequences[index]))
        if current and longest * (len(current) + 1) > batch_tokens:
            chunks.append(current)
            current, longest = [], len(sequences[index])
        current.append(index)
    if current:
        chunks.append(current)
    rng.shuffle(chunks)
    yield from chunks


def collate(rows: Sequence[Example], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids int64 [B, T] and weights float32 [B, T]; padding has weight 0."""
    import torch

    longest = max(len(row) for row in rows)
    ids_BT = np.full((len(rows), longest), pad_id, np.int64)
    weights_BT = np.zeros((len(rows), longest), np.float32)
    for number, row in enumerate(rows):
        ids_BT[number, : len(row)] = row.ids
        weights_BT[number, : len(row)] = row.weights
    return torch.from_numpy(ids_BT), torch.from_numpy(weights_BT)


def nll_sum(model: Any, ids_BT: torch.Tensor, weights_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sum of -log p(token | before) in nats, and the sum of weights; logits only where a weight is.

    Right padding needs no attention mask: causal rows never look at what follows them.
    """
    import torch.nn.functional as F

    whole = model.get_base_model() if hasattr(model, "get_base_model") else model  # without peft's wrapping
    hidden = whole.base_model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
    wanted = weights_BT[:, 1:] > 0
    logits = model.get_output_embeddings()(hidden[wanted]).float()
    weights = weights_BT[:, 1:][wanted]
    losses = F.cross_entropy(logits, ids_BT[:, 1:][wanted], reduction="none")
    return (losses * weights).sum(), weights.sum()


def rate(step: int, progress: float, config: SupervisedConfig) -> float:
    """Learning rate after `step` steps at `progress` in [0, 1] of the run."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return config.learning_rate * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


class Trainer:
    """A model, its optimiser and how far they have come; checkpoints keep all of it without pickle.

    A run that was stopped and goes on makes the same steps as one that was not, bit for bit on a CPU, where tokens
    bound it; time would bound it elsewhere. Several processes read a batch together and make the steps of one.
    """

    def __init__(self, model: Any, tokenizer: Any, config: SupervisedConfig) -> None:
        import torch

        from .sharding import WithLoss, share_out

        self.processes = join(config.device)
        self.model, self.tokenizer, self.config = model.to(self.processes.device), tokenizer, config
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.network = WithLoss(self.model, nll_sum)
        self.shared = config.shard and self.processes.count > 1
        if self.shared:
            share_out(self.network, torch.device(self.processes.device), self.processes.count)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
        )
        self.steps = 0
        self.tokens = 0
        self.seconds = 0.0
        self.rng = random.Random(config.seed)
        self.recent: list[float] = []
        """Losses since the last report."""
        self._left: dict[str, Any] | None = None
        """Where a checkpoint was in its pool of sequences: what the pool was drawn with, and batches used of it."""

    def resume(self, folder: Path) -> bool:
        """Goes on from the newest checkpoint in `folder`, if there is one.

        Raises:
            DataError: the newest checkpoint is damaged.
        """
        from safetensors.torch import load_file

        from .checkpoint import find_checkpoint, load_optimizer, load_state, load_weights
        from .sharding import SharedOptimizer, take_weights

        checkpoint = find_checkpoint(folder)
        if checkpoint is None:
            return False
        if self.shared:
            take_weights(self.model, load_file(checkpoint / "policy" / "model.safetensors"))
        else:
            load_weights(checkpoint / "policy", self.model)
        load_optimizer(checkpoint, SharedOptimizer(self.optimizer) if self.shared else self.optimizer)
        state = load_state(checkpoint)
        self.steps, self.tokens, self.seconds = state["steps"], state["tokens"], state["seconds"]
        self.recent, self._left = state.get("recent", []), state.get("pool")
        return True

    def run(
        self,
        supply: Supply,
        max_tokens: int,
        max_seconds: float | None = None,
        on_log: Callable[[dict[str, Any]], None] | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        """Trains until `max_tokens` (padding included) or `max_seconds`, those of a resumed run counted in.

        Checkpoints go to `checkpoints`.
        """
        started = time.monotonic() - self.seconds
        self.model.train()
        while True:
            pool, drawn_with, used = self._next_pool(supply)
            for number, indices in enumerate(batches(pool, self.config.batch_tokens, self.rng), 1):
                if number <= used:
                    continue
                elapsed = self.processes.from_main(lambda: time.monotonic() - started)
                progress = max(self.tokens / max_tokens, elapsed / max_seconds if max_seconds else 0.0)
                if progress >= 1:
                    self.model.eval()
                    return
                self.recent.append(self._step([pool[index] for index in indices], progress))
                if on_log and self.steps % self.config.log_every == 0:
                    on_log(self._report(elapsed, progress))
                    self.recent.clear()
                if checkpoints and self.steps % self.config.save_every == 0:
                    self.seconds = time.monotonic() - started
                    self._checkpoint(checkpoints, {**drawn_with, "used": number})

    def _next_pool(self, supply: Supply) -> tuple[Sequence[Example], dict[str, Any], int]:
        """The next pool, what it was drawn with, and how many of its batches are used: the one that a checkpoint was
        in the midst of, where a resumed run begins."""
        left, self._left = self._left, None
        if left is not None:
            try:
                supply.restore(left["supply"])
                set_random_state(self.rng, left["rng"])
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"the checkpoint must say what was drawn before it as this version does, got {error!r}: another "
                    "version wrote it; train on from its folder `policy` as a new base"
                ) from error
        drawn_with = {
            "supply": supply.state(),
            "rng": random_state(self.rng),
            "tokens": self.tokens if left is None else left["tokens"],
        }
        pool = self.processes.from_main(lambda: supply.draw(drawn_with["tokens"]))
        return pool, drawn_with, 0 if left is None else left["used"]

    def _step(self, rows: Sequence[Example], progress: float) -> float:
        import torch

        device, loss = torch.device(self.processes.device), 0.0
        torch.manual_seed(self.config.seed + self.steps)  # dropout draws the same after a resume
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.steps, progress, self.config)
        weight = max(1.0, float(sum(row.weights[1:].sum() for row in rows)))
        nothing = [Example(rows[0].ids[:2], np.zeros(2, np.float32))]
        for part in self._passes(rows):
            ids_BT, weights_BT = collate([rows[index] for index in part] or nothing, self.tokenizer.pad_token_id)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.config.bf16):
                total, _ = self.network(ids_BT.to(device), weights_BT.to(device))
            # FSDP takes the mean over the processes
            (total * (self.processes.count if self.shared else 1) / weight).backward()
            loss += float(total.detach()) / weight
        if self.processes.count > 1 and not self.shared:
            self.processes.sum_gradients(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        self.tokens += len(rows) * max(len(row) for row in rows)
        return self.processes.sum(loss)

    def _passes(self, rows: Sequence[Example]) -> list[list[int]]:
        """The rows of a batch that this process reads, as they are read together; as many passes in every process, the
        last ones of nothing where it has fewer."""
        from .batches import pack_by_length

        limit, count = self.config.pass_tokens, self.processes.count
        shares = [list(range(first, len(rows), count)) for first in range(count)]
        passes = [
            [[share[at] for at in part] for part in pack_by_length([len(rows[one]) for one in share], limit)]
            if limit and share
            else [share]
            for share in shares
        ]
        mine = passes[self.processes.index]
        return mine + [[]] * (max(map(len, passes)) - len(mine))

    def _checkpoint(self, folder: Path, pool: dict[str, Any]) -> None:
        from .checkpoint import save_checkpoint
        from .sharding import whole_optimizer

        counts = {"steps": self.steps, "tokens": self.tokens, "seconds": self.seconds}
        state: dict[str, Any] = {**counts, "recent": self.recent, "pool": pool}
        model = self.whole_model()
        optimizer = whole_optimizer(self.optimizer) if self.shared else self.optimizer
        if self.processes.is_main:
            save_checkpoint(folder, self.steps, model, self.tokenizer, optimizer, state, keep_last=1)
        self.processes.wait()

    def whole_model(self) -> Any:
        """What `save_pretrained` writes whole; every process has to ask for it."""
        from .sharding import WholeModel, whole_weights

        return WholeModel(self.model, whole_weights(self.model).state) if self.shared else self.model

    def _report(self, elapsed: float, progress: float) -> dict[str, Any]:
        return {
            "step": self.steps,
            "tokens": self.tokens,
            "loss": sum(self.recent) / len(self.recent),
            "tokens_per_second": round(self.tokens / max(elapsed, 1e-9)),
            "progress": round(progress, 4),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }

    def save(self, folder: Path, card: dict[str, Any] | None = None) -> None:
        """Weights, tokenizer, and `dreamgym.json` with `card`; the main process writes."""
        from .checkpoint import save_policy_into

        model = self.whole_model()
        files = {} if card is None else {"dreamgym.json": json.dumps(card, indent=2) + "\n"}
        if self.processes.is_main:
            save_policy_into(folder, model, self.tokenizer, files)


def answer_spans(weights: np.ndarray) -> list[tuple[int, int]]:
    """`[start, end)` of every run of learned tokens, that is, of every assistant turn."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (weights > 0).astype(np.int8), [0]))))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
