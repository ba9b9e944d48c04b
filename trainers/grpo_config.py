"""Settings of `grpo.py`, checked, and named presets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .run_config import RunConfig


@dataclass(frozen=True)
class GRPOConfig(RunConfig):
    """Every setting of a GRPO run. `docs/grpo.md` tells where each comes from."""

    output: str = "runs/grpo"
    """Folder for metrics, checkpoints and the trained policy."""
    group_size: int = 8
    """Episodes of each task (G), >= 2."""
    scale_by_std: bool = True
    """Whether advantages are divided by their group's standard deviation."""
    extra_groups: int = 0
    """Further groups that a round may draw, >= 0, until `tasks_per_update` of them have spread (dynamic sampling,
    arXiv:2503.14476)."""
    keep_share: float = 1.0
    """Share of a round's groups that are learned from, in (0, 1]: those with the largest spread of rewards."""
    negative_weight: float = 1.0
    """Factor of negative advantages, in [0, 1]. Failures that are longer than successes have more tokens to push down
    than those have to pull up; 0 learns from what went better than its group alone (RAFT++, arXiv:2504.11343)."""
    step_weight: float = 0.0
    """Weight of advantages by step, >= 0 (GiGPO, arXiv:2505.10978): how soon success followed on a response, against
    all responses of the group to the same state; so what leads round in a circle is told from what leads on. 0 for
    none."""
    step_discount: float = 0.95
    """How much less a success counts for a response with each step that lies between, in (0, 1]."""
    credit_impossible: bool = True
    """Whether a response whose action the state does not offer shares in its episode's positive advantage, though its
    action changed nothing."""
    center_penalties: bool = False
    """Whether a round's mean penalty is given back to all of its responses: penalties then tell better from worse ones
    and do not push down all that a policy says which is often penalised."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("extra_groups", self.extra_groups >= 0, ">= 0")
        self.check("negative_weight", 0 <= self.negative_weight <= 1, "in [0, 1]")
        self.check("step_weight", self.step_weight >= 0, ">= 0")
        self.check("step_discount", 0 < self.step_discount <= 1, "in (0, 1]")
        self.check("keep_share", 0 < self.keep_share <= 1, "in (0, 1]")
        self.check("group_size", self.group_size >= 2, ">= 2: advantages compare the episodes of a group")


_PAPER = GRPOConfig(
    policy="Qwen/Qwen2.5-7B-Instruct", history=2, context_tokens=4096 + 512, bf16=True, gradient_checkpointing=True
)
_LAPTOP = GRPOConfig(
    updates=16,
    temperature=0.8,
    max_tokens=48,
    context_tokens=4096,
    learning_rate=2e-4,
    mini_batch=16,
    kl_coef=0.0,
    impossible_penalty=0.5,
    credit_impossible=False,
    token_budget=4096,
    bf16=None,
    device="cpu",
)
_LAPTOP_PENALTIES = replace(
    _LAPTOP,
    temperature=1.0,
    learning_rate=3e-4,
    warmup_updates=1,
    kl_coef=0.01,
    entropy_coef=0.0,
    aggregation="sequence_mean",
    invalid_penalty=0.3,
    impossible_penalty=0.3,
    center_penalties=True,
)
"""Where most of what fails is impossible: penalties that compare a group's responses."""
_SMALL = "The bundled policy of a few million parameters, on a CPU"
PRESETS = {
    "small": (f"{_SMALL}: laptop/webshop under its first name.", _LAPTOP),
    "laptop/webshop": (f"{_SMALL}, in the bundled dream of WebShop.", _LAPTOP),
    "laptop/alfworld": (
        f"{_SMALL}, in the bundled dream of ALFWorld, cut off after 30 steps.",
        replace(_LAPTOP_PENALTIES, env_id="DreamGym-ALFWorld-v0", settings=("horizon=30",), updates=8),
    ),
    "laptop/miniwob": (
        f"{_SMALL}, in the bundled dream of MiniWoB++: many tasks, of which a quarter is learned from.",
        replace(
            _LAPTOP_PENALTIES,
            env_id="DreamGym-MiniWoB-v0",
            updates=12,
            tasks_per_update=48,
            keep_share=0.25,
            learning_rate=1e-4,
        ),
    ),
    "laptop/webarena": (
        f"{_SMALL}, in the bundled dream of WebArena's local sites: failures push away half as "
        "much as successes pull; at full weight this policy forgets how to copy.",
        replace(
            _LAPTOP_PENALTIES,
            env_id="DreamGym-WebArena-v0",
            settings=("horizon=15",),
            updates=12,
            tasks_per_update=32,
            num_envs=128,
            keep_share=0.6,
            negative_weight=0.5,
            step_weight=1.0,
            invalid_penalty=0.0,
            impossible_penalty=0.0,
            learning_rate=2e-4,
            max_tokens=80,
            context_tokens=8192,
        ),
    ),
    "paper/webshop": (
        "verl-agent's settings for WebShop, which the paper uses; for models of 3B to 8B parameters on GPUs.",
        _PAPER,
    ),
    "paper/alfworld": (
        "verl-agent's settings for ALFWorld, which the paper uses; for models of 3B to 8B parameters on GPUs.",
        replace(_PAPER, env_id="DreamGym-ALFWorld-v0", context_tokens=2048 + 512, mini_batch=256),
    ),
    "paper/webarena": (
        "AgentGym-RL's settings for WebArena (learning rate, 4 episodes a task, 15 turns, 512 tokens a turn) and, "
        "where it has none, verl-agent's.",
        replace(_PAPER, env_id="DreamGym-WebArena-v0", settings=("horizon=15",), group_size=4),
    ),
}
"""Name to (description, config)."""
