"""Settings of `grpo.py`, checked, and named presets."""

from __future__ import annotations

from dataclasses import dataclass

from .losses import Aggregation


@dataclass(frozen=True)
class GRPOConfig:
    """Every setting of a GRPO run. `docs/grpo.md` tells where each comes from."""

    policy: str = "embedded"
    """Starting policy: a checkpoint folder, a hub name, or "embedded" (the bundled one of the environment's domain)."""
    env_id: str = "DreamGym-WebShop-v0"
    """Where to train: any Gymnasium id, dream or real; `module:Id-v0` imports the module first."""
    output: str = "runs/grpo"
    """Folder for metrics, checkpoints and the trained policy."""
    settings: tuple[str, ...] = ()
    """Keywords of `gym.make` for `env_id`, as name=value."""
    eval_envs: tuple[str, ...] = ()
    """Further ids to evaluate in, beside `env_id`."""
    eval_settings: tuple[str, ...] = ()
    """Keywords of `gym.make` for `eval_envs`, as name=value."""

    updates: int = 150
    """Rounds of collecting and learning, >= 1."""
    tasks_per_update: int = 16
    """Groups in each round, >= 1."""
    group_size: int = 8
    """Episodes of each task (G), >= 2."""
    num_envs: int | None = None
    """Environments played at once in each process; None for all episodes of the round."""
    temperature: float = 1.0
    """Sampling temperature of the policy, > 0."""
    max_tokens: int = 512
    """Longest response, in tokens."""
    context_tokens: int = 16384
    """Longest episode, in tokens; an episode that outgrows it ends with "time_limit" and is counted."""

    learning_rate: float = 1e-6
    """AdamW's rate."""
    warmup_updates: int = 0
    """Updates over which the rate rises linearly; constant afterwards."""
    weight_decay: float = 0.01
    mini_batch: int = 64
    """Episodes of an optimizer step, about: the round is split evenly."""
    token_budget: int = 16384
    """Tokens of a forward pass, padding included; has no influence on results but memory and speed."""
    epochs: int = 1
    """Passes over each round's episodes, >= 1."""
    clip_low: float = 0.2
    """The ratio is clipped below at 1 - `clip_low`, in [0, 1)."""
    clip_high: float = 0.2
    """... and above at 1 + `clip_high`, >= 0."""
    dual_clip: float | None = 3.0
    """Bound of the loss where the advantage is negative, in multiples of it, > 1; None for none."""
    kl_coef: float = 0.01
    """Weight of the k3 KL to the starting policy; 0 loads no reference policy."""
    entropy_coef: float = 0.001
    """Weight of the entropy bonus."""
    aggregation: Aggregation = "token_mean"
    """How token losses become one number."""
    scale_by_std: bool = True
    """Whether advantages are divided by their group's standard deviation."""
    graded_reward: bool = False
    """Whether an episode's reward is the environment's sum (may be partial) instead of 1 for success."""
    invalid_penalty: float = 0.1
    """Taken off the advantage of a response without a readable action, >= 0."""
    impossible_penalty: float = 0.0
    """Taken off the advantage of a response whose action the state does not offer, >= 0."""
    credit_impossible: bool = True
    """Whether such a response shares in its episode's positive advantage, though its action changed nothing."""
    max_grad_norm: float = 1.0

    lam: float = 0.0
    """Largest share of generated tasks in a round, in [0, 1]; 0 generates none."""
    variations: int = 8
    """Task variations asked for after each round where `lam` > 0."""
    variation_dreams: int = 4
    """Quick dreams of each variation; kept are those that neither always fail nor always succeed. >= 2."""
    grow_buffer: bool = False
    """Whether the dream's replay buffer takes in the dreams of groups with spread."""

    real_budget: int | None = None
    """Most interactions with a real `env_id` that training may use, >= 0: the last rounds shrink, and the run ends
    where not one group is sure to fit. None for no bound; evaluations are not counted."""

    eval_every: int = 5
    """Updates between evaluations; also before the first and after the last; 0 for none at all."""
    eval_episodes: int = 128
    """Held-out episodes per evaluation and environment."""
    eval_temperature: float = 0.4
    """Sampling temperature of evaluations."""
    save_every: int = 10
    """Updates between checkpoints; also after the last."""
    keep_last: int = 2
    """Checkpoints kept."""
    resume: bool = False
    """Go on from the newest checkpoint in `output`, if there is one."""
    fall_back: bool = False
    """With `resume`: pass over a damaged checkpoint for the one before."""
    chat_template: str | None = None
    """File with a Jinja chat template in place of the tokenizer's."""
    bf16: bool = False
    """Whether forward passes of the update run in bfloat16 autocast; weights stay in float32."""
    gradient_checkpointing: bool = False
    """Trade a third more computing for much less memory."""
    device: str = "auto"
    """"auto" (a GPU where there is one), "cpu"."""
    tensorboard: bool = True
    """Whether TensorBoard files are written beside `metrics.jsonl`."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("updates", "tasks_per_update", "mini_batch", "token_budget", "epochs", "save_every", "keep_last"):
            _check(name, getattr(self, name) >= 1, ">= 1", self)
        for name in ("kl_coef", "entropy_coef", "invalid_penalty", "impossible_penalty", "clip_high", "eval_every"):
            _check(name, getattr(self, name) >= 0, ">= 0", self)
        _check("group_size", self.group_size >= 2, ">= 2: advantages compare the episodes of a group", self)
        _check("num_envs", self.num_envs is None or self.num_envs >= 1, ">= 1 or None", self)
        _check("temperature", self.temperature > 0, "> 0: a greedy policy explores nothing", self)
        _check("learning_rate", self.learning_rate > 0, "> 0", self)
        _check("clip_low", 0 <= self.clip_low < 1, "in [0, 1)", self)
        _check("dual_clip", self.dual_clip is None or self.dual_clip > 1, "> 1 or None", self)
        _check("variation_dreams", self.variation_dreams >= 2, ">= 2: one dream has no spread", self)
        _check("real_budget", self.real_budget is None or self.real_budget >= 0, ">= 0 or None", self)
        _check("lam", 0 <= self.lam <= 1, "in [0, 1]", self)

    def rate(self, update: int) -> float:
        """The learning rate of the round after `update` rounds."""
        return self.learning_rate * min(1.0, (update + 1) / max(1, self.warmup_updates))


def _check(name: str, holds: bool, expected: str, config: GRPOConfig) -> None:
    if not holds:
        raise ValueError(f"`{name}` must be {expected}, got {getattr(config, name)}")


PRESETS = {
    "small": (
        "The bundled policy of a few million parameters, on a CPU.",
        GRPOConfig(
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
            device="cpu",
        ),
    ),
    "verl-agent-webshop": (
        "verl-agent's settings for WebShop, which the paper uses; for models of 3B to 8B parameters on GPUs.",
        GRPOConfig(policy="Qwen/Qwen2.5-7B-Instruct", bf16=True, gradient_checkpointing=True),
    ),
}
"""Name to (description, config)."""
