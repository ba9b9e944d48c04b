"""Every noun of DreamGym, as frozen data, and the errors that the package raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Origin = Literal["seed", "generated"]
Source = Literal["real", "dream"]
Split = Literal["train", "held_out"]
EndReason = Literal[
    "success", "failure", "time_limit", "context_overflow", "left_sites", "model_error", "site_error", "login_expired"
]
BROKEN: frozenset[EndReason] = frozenset(("model_error", "site_error", "login_expired"))
"""Ends that say nothing of the agent: a language model, a web site or its login failed. Masked, never scored."""
CUT_OFF: frozenset[EndReason] = frozenset(("time_limit", "context_overflow"))
"""Ends of the episode and not of its task: the horizon, or the agent's context, which only its trainer knows."""
Message = Mapping[str, str]
"""One chat message: `{"role": "system" | "user" | "assistant", "content": text}`."""
Conversation = Sequence[Message]


class DreamGymError(Exception):
    """Base of the errors that are ours and not the caller's (those are ValueError and TypeError)."""


class DataError(DreamGymError):
    """A file or store cannot be read as what it should be; the message names file, line and remedy."""


class ModelError(DreamGymError):
    """A language model could not be loaded or reached, or gave nothing usable."""


@dataclass(frozen=True)
class Task:
    """What the agent is asked to do. `task_id` is unique within its domain; `parent_id` is set for variations."""

    task_id: str
    domain: str
    instruction: str
    initial_state: str
    origin: Origin = "seed"
    parent_id: str | None = None
    split: Split = "train"


@dataclass(frozen=True)
class Transition:
    """One step of one episode.

    `reward` is the outcome reward: 1.0 at a successful end, else 0.0 (Section 4.1.1, arXiv:2511.03773).
    `reasoning_trace` is empty where nobody has annotated it. `prompt` is the experience model's user turn that led
    here (empty for real transitions); it keeps a dream's conversation append-only. `possible` is False where the
    environment answered an impossible action, that is, where nothing happened. `thought` is what the agent thought
    before it acted; only the agent sees it, and it is empty where it thought nothing.
    """

    task: Task
    step_index: int
    state: str
    action: str
    next_state: str
    reward: float = 0.0
    terminated: bool = False
    reasoning_trace: str = ""
    source: Source = "real"
    possible: bool = True
    prompt: str = ""
    thought: str = ""


@dataclass(frozen=True)
class StepContext:
    """All that the experience model conditions on beside the demonstrations (Eq. 4): task, history, state, action."""

    task: Task
    history: tuple[Transition, ...]
    state: str
    action: str


@dataclass(frozen=True)
class Demonstration:
    """A retrieved transition: its id in the buffer, the transition and its cosine similarity in [-1, 1]."""

    transition_id: str
    transition: Transition
    similarity: float


@dataclass(frozen=True)
class Prediction:
    """What the experience model says comes next. `attempts` counts completions drawn, the last one included."""

    reasoning_trace: str
    next_state: str
    reward: float
    terminated: bool
    prompt: str = ""
    demonstration_ids: tuple[str, ...] = ()
    attempts: int = 1


@dataclass(frozen=True)
class ParseError:
    """A completion that could not be used, as a value: one bad completion must not kill a batch."""

    reason: str
    text: str
    attempts: int = 1


@dataclass(frozen=True)
class Trajectory:
    """One episode and why it ended. `policy` names who acted (`oracle`, `random`, a checkpoint, ...)."""

    task: Task
    transitions: tuple[Transition, ...]
    end_reason: EndReason
    policy: str = ""
    trajectory_id: str = ""

    @property
    def success(self) -> bool:
        return self.end_reason == "success"

    @property
    def broken(self) -> bool:
        return self.end_reason in BROKEN


@dataclass(frozen=True)
class Sampling:
    """How to draw completions. `temperature` >= 0 (0 is greedy), `top_p` in (0, 1], `max_tokens` >= 1."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"`temperature` must be >= 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"`top_p` must be in (0, 1], got {self.top_p}")
        if self.max_tokens < 1:
            raise ValueError(f"`max_tokens` must be >= 1, got {self.max_tokens}")


@dataclass(frozen=True)
class Completion:
    """One answer of a language model.

    `finish_reason` is "stop" (ended by itself), "length" (cut at `max_tokens`, or by a local model's decoder where it
    repeats itself without end) or "error" (nothing came; `error` says why and `text` is empty). `token_ids` and
    `logprobs` (natural log, at the sampling temperature, same length) are given by local models only, else empty.
    """

    text: str
    finish_reason: Literal["stop", "length", "error"] = "stop"
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    error: str = ""
    overflow: bool = False
    """Whether the model's context had no room for the conversation, or for the end of the answer."""
    tokens: int | None = None
    """How many tokens the answer has, as an endpoint told; None where it did not, and where `token_ids` are given."""


@runtime_checkable
class LanguageModel(Protocol):
    """Anything that completes chats, in batches."""

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        """One completion for each conversation, in order. Never raises for a single bad row: see `Completion`."""
        ...
