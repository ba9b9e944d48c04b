"""TRL's `GRPOTrainer` with a dream, or a real environment, as where its episodes are played.

    dreamgym trl-grpo --policy embedded --env-id DreamGym-WebShop-v0 --updates 8

TRL's `rollout_func` asks for whole episodes: `rollout.collect` plays them batched, and hands over the very token ids
that were sampled, with their log-probabilities and a mask of what the agent wrote (`env_mask`); nothing is decoded and
encoded again. A prompt of the data set is a task's id. A broken dream has no reward (None): TRL leaves it out of its
group's mean and learns nothing from it. TRL calls `rollout_func` experimental; tested with the version in
`constraints.txt`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dreamgym_env.loading import starting_policy
from dreamgym_env.types import Sampling, Task

from .agent import Rollout
from .checkpoint import save_final_policy
from .pools import open_pool, read_settings
from .rollout import Collector, collect


@dataclass(frozen=True)
class TRLGRPOConfig:
    """The policy, where it learns, and how long; what is not here keeps TRL's default."""

    policy: str = "embedded"
    """Checkpoint folder, hub name (ORG/NAME or hf:ORG/NAME), or "embedded" (the bundled starting policy of the
    environment's domain)."""
    env_id: str = "DreamGym-WebShop-v0"
    """Gymnasium id, dream or real."""
    settings: tuple[str, ...] = ()
    """Further keywords of `gym.make`, as `name=value`."""
    output: str = "runs/trl-grpo"
    """Folder for the trained policy (`policy/`) and `log.json`, TRL's log."""
    updates: int = 8
    """Optimizer steps, one for each collection; >= 1."""
    tasks: int = 8
    """Groups in a collection."""
    group_size: int = 8
    """Episodes of the same task, >= 2."""
    batch_size: int = 8
    """Episodes in a forward pass; a divisor of `tasks * group_size`."""
    num_envs: int = 64
    """Environments played at once."""
    learning_rate: float = 3e-5
    """AdamW's, > 0."""
    beta: float = 0.0
    """Weight of the KL to the starting policy, >= 0."""
    temperature: float = 1.0
    """Sampling temperature, > 0."""
    max_tokens: int = 64
    """Longest response, in tokens."""
    context_tokens: int = 4608
    """Longest episode, in tokens."""
    seed: int = 0
    """Seed of sampling, of the environments and of TRL's trainer."""

    def __post_init__(self) -> None:
        if self.updates < 1:
            raise ValueError(f"`updates` must be >= 1, got {self.updates}")
        if self.group_size < 2:
            raise ValueError(f"`group_size` must be >= 2, got {self.group_size}")
        if self.tasks * self.group_size % self.batch_size:
            raise ValueError(
                f"`batch_size` must divide `tasks * group_size` = {self.tasks * self.group_size}, got {self.batch_size}"
            )
        if self.temperature <= 0:
            raise ValueError(f"`temperature` must be > 0, got {self.temperature}")


def fields(rollouts: Sequence[Rollout]) -> dict[str, list[Any]]:
    """What TRL wants to know of some episodes, each a list with one entry an episode.

    `prompt_ids`: ids before the first response. `completion_ids`: all that follow, responses and states. `logprobs`:
    the sampler's, 0.0 for ids of states. `env_mask`: 1 for ids of responses, else 0. `outcome`: the outcome reward,
    None for a broken dream.
    """
    starts = [len(rollout.turns[0].prompt_ids) for rollout in rollouts]
    cut = list(zip(rollouts, starts, strict=True))
    return {
        "prompt_ids": [rollout.token_ids[:start] for rollout, start in cut],
        "completion_ids": [rollout.token_ids[start:] for rollout, start in cut],
        "logprobs": [rollout.logprobs[start:] for rollout, start in cut],
        "env_mask": [[int(own) for own in rollout.response_mask[start:]] for rollout, start in cut],
        "outcome": [None if one.trajectory.end_reason == "model_error" else one.reward for one in rollouts],
    }


def rollout_func(collector: Collector, tasks: Mapping[str, Task]) -> Callable[[list[str], Any], dict[str, list[Any]]]:
    """TRL's `rollout_func`: one episode for each prompt (TRL repeats a prompt `num_generations` times)."""

    def play(prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        model: Any = collector.model
        training = model.model.training
        model.model.eval()
        model.weights_changed()  # the steps of TRL's default optimizer, a fused one, are not noticed
        rollouts = [group[0] for group in collect(collector, [tasks[prompt] for prompt in prompts])]
        model.model.train(training)
        return fields(rollouts)

    return play


def outcome_reward(outcome: list[float | None], **columns: Any) -> list[float | None]:
    """TRL's reward function: what the environment said."""
    return outcome


def make_trainer(config: TRLGRPOConfig, collector: Collector, tasks: Sequence[Task]) -> Any:
    """A `trl.GRPOTrainer` that trains the collector's model."""
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    episodes = config.tasks * config.group_size
    arguments = GRPOConfig(
        output_dir=config.output,
        max_steps=config.updates,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=episodes // config.batch_size,
        generation_batch_size=episodes,
        num_generations=config.group_size,
        learning_rate=config.learning_rate,
        beta=config.beta,
        temperature=config.temperature,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        bf16=False,
        gradient_checkpointing=False,
        seed=config.seed,
    )
    model: Any = collector.model
    return GRPOTrainer(
        model=model.model,
        args=arguments,
        processing_class=model.tokenizer,
        reward_funcs=outcome_reward,
        train_dataset=Dataset.from_dict({"prompt": [task.task_id for task in tasks]}),
        rollout_func=rollout_func(collector, {task.task_id: task for task in tasks}),
    )


def main(config: TRLGRPOConfig) -> list[dict[str, float]]:
    """Trains and saves the policy; TRL's log, one entry an update."""
    from pathlib import Path

    from dreamgym_env.language_model import TransformersModel

    pool = open_pool(config.env_id, config.num_envs, **read_settings(config.settings))
    pool.seed(config.seed)
    path = starting_policy(pool.domain) if config.policy == "embedded" else config.policy
    model = TransformersModel.load(path, dtype="float32")
    model.seed(config.seed)
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens)
    trainer = make_trainer(config, Collector(model, pool, sampling, config.context_tokens), pool.tasks)
    trainer.train()
    log: list[dict[str, float]] = [entry for entry in trainer.state.log_history if "reward" in entry]
    save_final_policy(Path(config.output) / "policy", model.model, model.tokenizer, kept=None)
    (Path(config.output) / "log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    pool.close()
    return log


if __name__ == "__main__":
    import tyro

    main(tyro.cli(TRLGRPOConfig, description=__doc__))
