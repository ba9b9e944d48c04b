"""Settings of `ppo.py`, checked, and named presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .run_config import RunConfig


@dataclass(frozen=True)
class PPOConfig(RunConfig):
    """Every setting of a PPO run. `docs/ppo.md` tells where each comes from."""

    output: str = "runs/ppo"
    """Folder for metrics, checkpoints, the trained policy and the critic."""
    tasks_per_update: int = 128
    """Tasks in each round, >= 1."""
    group_size: int = 1
    """Episodes of each task, >= 1: a critic needs no others to compare with."""

    critic: Literal["separate", "head"] = "separate"
    """"separate": a network of its own, the starting policy's with a value head; "head": a value head on the policy."""
    critic_weights: str | None = None
    """The `critic.safetensors` of an earlier run to start from; None values every state 0 at first."""
    critic_learning_rate: float = 1e-5
    """AdamW's rate for the critic (of the head alone, where that is all it has), > 0."""
    critic_warmup: int = 0
    """First updates that teach the critic alone, >= 0."""
    value_coef: float = 1.0
    """Weight of the value loss, > 0; it matters where policy and critic share a backbone."""
    value_clip: float | None = 0.5
    """How far a value may move from the one before the round, > 0; None for no bound."""

    gae_level: Literal["token", "turn"] = "token"
    """What has a value: each response token, or each turn as one action."""
    gamma: float = 1.0
    """Discount from one token, or turn, to the next, in [0, 1]."""
    gae_lambda: float = 1.0
    """Lambda of GAE, in [0, 1]; 1 trusts returns alone, 0 the critic's next value alone."""
    bootstrap: bool = True
    """Whether an episode that was cut off (time limit, context) is worth what the critic says of the state it was cut
    off in; False: nothing more, as where it failed. One that came to its end is worth nothing more in either case."""
    whiten_advantages: bool = True
    """Whether a round's advantages are brought to mean 0 and variance 1."""

    kl_in: Literal["loss", "reward"] = "loss"
    """Where `kl_coef` acts: on the k3 estimate in the loss, or on log pi - log reference, taken off the reward of each
    token."""
    kl_target: float | None = None
    """KL in nats per token that `kl_coef` is adapted to after each update, > 0; None keeps `kl_coef` as it is."""
    kl_horizon: int = 10_000
    """Episodes in which an adapted `kl_coef` changes by 20% at most, >= 1."""

    cluster_size: int = 8
    """Episodes of similar tasks, about, over which the curriculum takes the reward entropy together, >= 2; 1 takes it
    over each task's own episodes."""
    encoder: str = "embedded"
    """What tells similar tasks: "embedded", "sentence-transformers:NAME" or "openai:MODEL@URL"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("critic_learning_rate", "value_coef"):
            self.check(name, getattr(self, name) > 0, "> 0")
        for name in ("gamma", "gae_lambda"):
            self.check(name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        for name in ("value_clip", "kl_target"):
            self.check(name, getattr(self, name) is None or getattr(self, name) > 0, "> 0 or None")
        self.check("critic_warmup", self.critic_warmup >= 0, ">= 0")
        self.check("cluster_size", self.cluster_size >= 1, ">= 1")
        self.check("kl_horizon", self.kl_horizon >= 1, ">= 1")
        self.check("kl_target", self.kl_target is None or self.kl_coef > 0, "None where `kl_coef` is 0")

    def rates(self, progress: float) -> tuple[float, ...]:
        """As above, and the critic's."""
        return (*super().rates(progress), self.critic_learning_rate * self.warmth(progress))


_PAPER = PPOConfig(
    policy="Qwen/Qwen2.5-7B-Instruct",
    history=2,
    context_tokens=4096 + 512,
    bootstrap=False,
    bf16=True,
    gradient_checkpointing=True,
)
_LAPTOP = PPOConfig(
    updates=16,
    temperature=0.8,
    max_tokens=48,
    context_tokens=4096,
    learning_rate=2e-4,
    critic_learning_rate=5e-4,
    mini_batch=16,
    kl_coef=0.0,
    impossible_penalty=0.1,
    bootstrap=False,
    token_budget=4096,
    bf16=None,
    device="cpu",
)
_SMALL = "The bundled policy of a few million parameters, on a CPU"
PRESETS = {
    "small": (f"{_SMALL}: laptop/webshop under its first name.", _LAPTOP),
    "laptop/webshop": (f"{_SMALL}, in the bundled dream of WebShop.", _LAPTOP),
    "laptop/alfworld": (
        f"{_SMALL}, in the bundled dream of ALFWorld, cut off after 30 steps.",
        replace(
            _LAPTOP,
            env_id="DreamGym-ALFWorld-v0",
            settings=("horizon=30",),
            temperature=1.0,
            learning_rate=3e-4,
            warmup_updates=1,
            critic_learning_rate=1e-3,
            mini_batch=8,
            kl_coef=0.01,
            entropy_coef=0.0,
            gae_level="turn",
            gae_lambda=0.95,
        ),
    ),
    "laptop/miniwob": (
        f"{_SMALL}, in the bundled dream of MiniWoB++.",
        replace(_LAPTOP, env_id="DreamGym-MiniWoB-v0"),
    ),
    "paper/webshop": (
        "verl-agent's PPO for WebShop, which the paper builds on; for models of 3B to 8B parameters on GPUs.",
        _PAPER,
    ),
    "paper/alfworld": (
        "verl-agent's PPO for ALFWorld, which the paper builds on; for models of 3B to 8B parameters on GPUs.",
        replace(_PAPER, env_id="DreamGym-ALFWorld-v0", context_tokens=2048 + 512, mini_batch=256),
    ),
    "paper/webarena": (
        "AgentGym-RL's settings for WebArena (learning rate, 15 turns, 512 tokens a turn) and, where it has none, "
        "verl-agent's.",
        replace(_PAPER, env_id="DreamGym-WebArena-v0", settings=("horizon=15",)),
    ),
}
"""Name to (description, config)."""
