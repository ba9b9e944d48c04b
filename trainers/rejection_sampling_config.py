"""Settings of `rejection_sampling.py`, checked, and named presets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .samplers import visible
from .sft import SFTConfig


@dataclass(frozen=True)
class RejectionSamplingConfig(SFTConfig):
    """How the policy plays, and, as in `dreamgym sft`, how it learns from what it won."""

    needs_trajectories: ClassVar[bool] = False

    model: str = "embedded"
    """The policy to begin with: a checkpoint folder, a hub name, or "embedded" (the bundled starting policy of the
    environment's domain)."""
    trajectories: tuple[str, ...] = ()
    """Files of further episodes that every round learns from too, such as the demonstrations before."""
    output: str = "runs/rejection-sampling"
    """Folder for dreams, policies and metrics."""
    per_task: int | None = 3
    """At most so many successes of one task are learned from in a round, >= 1; None for all. What is won one time in
    three has to be met as often as what is always won."""
    epochs: float = 1.0
    """Passes over a round's successes, > 0."""
    env_id: str = "DreamGym-WebShop-v0"
    """Gymnasium id of the environment to play in; `module:Id-v0` imports the module first."""
    settings: tuple[str, ...] = ()
    """Further keywords of `gym.make`, as name=value (`horizon=15`)."""
    rounds: int = 2
    """Times that the policy plays and learns, >= 1."""
    tasks_per_round: int | None = None
    """Training tasks of a round, drawn anew for each, >= 1; None for all that the environment offers."""
    group_size: int = 8
    """Episodes of each task in a round, >= 1."""
    restart: bool = False
    """Whether each round learns from `model` anew, from the successes of all rounds so far (STaR, ReST-EM), instead of
    from the policy of the round before, from that round's. The newest come first where `per_task` chooses."""
    temperature: float = 1.0
    """Temperature of the responses, > 0: a greedy policy plays the same episode again and again."""
    response_tokens: int = 512
    """Longest response, in tokens; `max_tokens` is the longest episode that is learned from."""
    num_envs: int = 128
    """Episodes that a sampler plays at once, >= `group_size`."""
    samplers: tuple[str, ...] = ("auto",)
    """Devices that play, one process for each, all of them at once: `cpu cpu` are two processes on CPUs, `cuda:0
    cuda:1` one on each of two GPUs, `auto` is a GPU where there is one. A single one plays in this process."""
    eval_envs: tuple[str, ...] = ()
    """Ids in which the policy is evaluated before the first round and after each; none by default."""
    eval_settings: tuple[str, ...] = ()
    """Further keywords of `gym.make` for them."""
    eval_episodes: int = 128
    """Episodes of an evaluation, on the held-out tasks or those that `eval_settings` name (`split=valid_seen`)."""
    eval_temperature: float = 0.4
    """Temperature of the evaluations, >= 0; 0 is greedy."""
    tensorboard: bool = True
    """Whether TensorBoard files are written beside `metrics.jsonl`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rounds", "group_size", "response_tokens", "eval_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}")
        if self.tasks_per_round is not None and self.tasks_per_round < 1:
            raise ValueError(f"`tasks_per_round` must be >= 1 or None, got {self.tasks_per_round}")
        if self.num_envs < self.group_size:
            raise ValueError(f"`num_envs` must be >= `group_size` ({self.group_size}), got {self.num_envs}")
        if self.temperature <= 0:
            raise ValueError(f"`temperature` must be > 0: a greedy policy explores nothing, got {self.temperature}")
        if self.eval_temperature < 0:
            raise ValueError(f"`eval_temperature` must be >= 0, got {self.eval_temperature}")
        if not self.samplers:
            raise ValueError("`samplers` must name at least one device, got none")
        for device in self.samplers:
            visible(device, "")

    @property
    def context_tokens(self) -> int:
        """Longest sequence that the policy reads: no longer ones are learned from."""
        return self.max_tokens

    def dreams_of(self, number: int) -> Path:
        """The folder of a round's episodes."""
        return Path(self.output) / f"round_{number}" / "dreams"

    def policy_of(self, number: int) -> Path:
        """The folder of the policy after a round."""
        return Path(self.output) / f"round_{number}" / "policy"


PRESETS = {
    "small": ("The bundled policy in the bundled dream of WebShop, on a CPU.", RejectionSamplingConfig()),
    "laptop/webarena": (
        "The bundled policy in the bundled dream of WebArena's local sites, on a CPU: it is taught to name elements in "
        "words, names are exchanged and micro-sites learned beside, so that it keeps looking up.",
        RejectionSamplingConfig(
            env_id="DreamGym-WebArena-v0",
            settings=("horizon=15",),
            rounds=1,
            restart=True,
            tasks_per_round=400,
            by_name=True,
            permute_share=0.5,
            names="copied",
            number_share=0.3,
            micro_share=0.25,
            epochs=3.0,
            learning_rate=6e-4,
            max_tokens=4096,
            batch_tokens=8192,
            response_tokens=80,
        ),
    ),
    "laptop/miniwob": (
        "The bundled policy in the bundled dream of MiniWoB++, on a CPU.",
        RejectionSamplingConfig(
            env_id="DreamGym-MiniWoB-v0",
            tasks_per_round=800,
            permute_share=0.7,
            learning_rate=4e-4,
            response_tokens=48,
        ),
    ),
}
"""Name to (description, config)."""
