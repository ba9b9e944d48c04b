"""Settings that the algorithms of RL share, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .losses import Aggregation
from .served import read_sampler


@dataclass(frozen=True)
class RunConfig:
    """The settings that every algorithm of RL here has: `grpo_config.py` and `ppo_config.py` add their own."""

    policy: str = "embedded"
    """Starting policy: a checkpoint folder, a hub name (ORG/NAME or hf:ORG/NAME), or "embedded" (the bundled one of the
    environment's domain)."""
    env_id: str = "DreamGym-WebShop-v0"
    """Where to train: any Gymnasium id, dream or real; `module:Id-v0` imports the module first."""
    output: str = "runs/rl"
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
    """Episodes of each task (G), >= 1."""
    num_envs: int | None = None
    """Environments played at once in each process; None for all episodes of the round."""
    temperature: float = 1.0
    """Sampling temperature of the policy, > 0."""
    max_tokens: int = 512
    """Longest response, in tokens."""
    sampler: str | None = None
    """An endpoint that samples the policy's responses, as KIND@URL: "vllm@http://host:8000/v1", "sglang@...",
    "transformers@..." (`transformers serve`). Weights go to it through `output`/served after every update. None samples
    in this process."""
    history: int | None = None
    """What the policy sees of its episode: None for all of it, as one growing conversation, which is one sequence to
    learn from; k >= 0 for the task, the number of steps so far, the last k states and actions and the present state,
    where each turn is a sequence of its own."""
    context_tokens: int = 16384
    """Longest sequence (episode, or with `history` turn), in tokens; an episode that outgrows it ends with
    "context_overflow" and is counted."""

    learning_rate: float = 1e-6
    """AdamW's rate; adapters (`lora_rank`) want about ten times as much."""
    warmup_updates: int = 0
    """Updates over which the rate rises linearly, step by step; constant afterwards. AdamW's first steps are its
    largest, whatever the gradient: without a rise they can throw a small policy off."""
    weight_decay: float = 0.01
    """AdamW's weight decay, >= 0."""
    mini_batch: int = 64
    """Sequences (episodes, or with `history` turns) of an optimizer step, about: the round is split evenly."""
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
    graded_reward: bool = False
    """Whether an episode's reward is the environment's sum (may be partial) instead of 1 for success."""
    invalid_penalty: float = 0.1
    """Taken off where no action can be read from a response, >= 0: off its advantage (GRPO), off its reward (PPO). A
    success pays 1."""
    impossible_penalty: float = 0.0
    """The same where the state does not offer the action, >= 0."""
    max_grad_norm: float = 1.0
    """Gradients with a larger norm are scaled down to it, > 0; in PPO policy and critic each by itself."""
    ema_decay: float = 0.0
    """Decay, by update, of the moving average of the weights that is evaluated and left as the trained policy, in
    [0, 1); episodes are collected with the weights of the last update. 0 leaves the last weights."""

    lam: float = 0.0
    """Largest share of generated tasks in a round, in [0, 1]; 0 generates none."""
    variations: int = 8
    """Task variations asked for after each round where `lam` > 0."""
    variation_dreams: int = 4
    """Quick dreams of each variation; kept are those that neither always fail nor always succeed. >= 2."""
    grow_buffer: bool = False
    """Whether the dream's replay buffer takes in the dreams of groups with spread."""

    real_env: str | None = None
    """A real id beside a dreamed `env_id`, for rounds of dreamed and real groups; None for none."""
    real_settings: tuple[str, ...] = ()
    """Keywords of `gym.make` for `real_env`, as name=value."""
    real_share: float = 0.5
    """Share of a round's groups that are played in `real_env`, in (0, 1); at least one group is."""
    real_budget: int | None = None
    """Most interactions with a real `env_id` or `real_env` that training may use, >= 0: spread evenly over the rounds
    that it lasts for, and the run ends where not one group is sure to fit. None for no bound; evaluations are not
    counted."""

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
    bf16: bool | None = False
    """Whether forward passes of the update run in bfloat16 autocast; weights stay in float32. None where the machine
    has instructions for it."""
    gradient_checkpointing: bool = False
    """Trade a third more computing for much less memory."""
    lora_rank: int = 0
    """Rank of LoRA adapters on all linear layers of the policy (and of a separate critic), >= 0: they alone are
    trained; the trained policy has them merged. 0 trains every weight."""
    shard: bool = False
    """Whether several processes share out among them what is trained, its gradients and its optimizer (FSDP). Each has
    a whole copy of the policy beside its share, to sample with. False: each holds everything."""
    device: str = "auto"
    """"auto" (a GPU where there is one), "cpu"."""
    tensorboard: bool = True
    """Whether TensorBoard files are written beside `metrics.jsonl`."""
    seed: int = 0
    """Seed of every draw: tasks, responses, dreams and the order of mini-batches."""

    def __post_init__(self) -> None:
        at_least_one = (
            "updates",
            "tasks_per_update",
            "mini_batch",
            "token_budget",
            "epochs",
            "save_every",
            "keep_last",
        )
        for name in (*at_least_one, "group_size"):
            self.check(name, getattr(self, name) >= 1, ">= 1")
        for name in ("kl_coef", "entropy_coef", "invalid_penalty", "impossible_penalty", "clip_high", "eval_every"):
            self.check(name, getattr(self, name) >= 0, ">= 0")
        self.check("device", self.device in ("auto", "cpu"), '"auto" (a GPU where there is one) or "cpu"')
        template = self.chat_template
        self.check("chat_template", template is None or Path(template).is_file(), "a file with a Jinja template")
        if self.sampler is not None:
            read_sampler(self.sampler)
        self.check("lora_rank", self.lora_rank >= 0, ">= 0")
        self.check("lora_rank", not (self.lora_rank and self.shard), "0 with `shard`, which shares out what is trained")
        self.check("history", self.history is None or self.history >= 0, ">= 0 or None")
        self.check("num_envs", self.num_envs is None or self.num_envs >= 1, ">= 1 or None")
        self.check("temperature", self.temperature > 0, "> 0: a greedy policy explores nothing")
        self.check("learning_rate", self.learning_rate > 0, "> 0")
        self.check("clip_low", 0 <= self.clip_low < 1, "in [0, 1)")
        self.check("dual_clip", self.dual_clip is None or self.dual_clip > 1, "> 1 or None")
        self.check("variation_dreams", self.variation_dreams >= 2, ">= 2: one dream has no spread")
        self.check("real_budget", self.real_budget is None or self.real_budget >= 0, ">= 0 or None")
        self.check("real_share", 0 < self.real_share < 1, "in (0, 1)")
        self.check("ema_decay", 0 <= self.ema_decay < 1, "in [0, 1)")
        self.check("lam", 0 <= self.lam <= 1, "in [0, 1]")

    def check(self, name: str, holds: bool, expected: str) -> None:
        """Raises a ValueError that names the setting, what it must be and what it is."""
        if not holds:
            raise ValueError(f"`{name}` must be {expected}, got {getattr(self, name)}")

    @property
    def horizon_setting(self) -> tuple[str, ...]:
        """Of `settings` the horizon: all that holds for a real environment as it does for its dream."""
        return tuple(one for one in self.settings if one.startswith("horizon="))

    def warmth(self, progress: float) -> float:
        """The share of its full rate at which is learned after so many updates and parts of one, in [0, 1]."""
        return min(1.0, progress / self.warmup_updates) if self.warmup_updates else 1.0

    def rates(self, progress: float) -> tuple[float, ...]:
        """The learning rates of the optimizer's groups after so many updates and parts of one: the policy's first."""
        return (self.learning_rate * self.warmth(progress),)
