"""PPO in one file, in CleanRL's manner, on any text environment: it needs `gym.make_vec` and torch, nothing else.

    dreamgym cleanrl-ppo --env-id DreamGym-WebShop-v0 --steps 20000

`gym.make_vec("DreamGymFeatures-v0", env_id=...)` gives observations [N, 1 + K, D]: row 0 tells state and instruction,
the others the actions on offer; column 0 is 1 where a row has an action, column 1 a first guess of its worth. It resets
in the same step, so that after an end the observation is the next episode's first. Where this differs from CleanRL's
`ppo.py`: an episode that was cut off is bootstrapped from its last observation, only a terminated one is not; actions
that are not there have no probability; the network scores each action's row, since an index means nothing.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

import dreamgym_env  # noqa: F401 (registers the environments)

from .pools import read_settings


@dataclass(frozen=True)
class CleanRLConfig:
    """CleanRL's settings of PPO, by its names where it has one."""

    env_id: str = "DreamGym-WebShop-v0"
    """Any id whose `info` has `task` and whose observations are state texts."""
    settings: tuple[str, ...] = ()
    """Further keywords of `gym.make`, as `name=value`."""
    max_actions: int = 24
    """K; what happens where there are more: `docs/other-trainers.md`."""
    steps: int = 20_000
    """Environment steps, all environments together; rounded down to whole rollouts."""
    num_envs: int = 32
    """Environments stepped together."""
    num_steps: int = 16
    """Steps of each environment in a rollout."""
    num_minibatches: int = 4
    """Mini-batches of a rollout."""
    update_epochs: int = 10
    """Passes over each rollout."""
    learning_rate: float = 1e-3
    """Adam's, falling linearly to 0; > 0."""
    gamma: float = 0.95
    """Discount, in (0, 1]."""
    gae_lambda: float = 0.95
    """In [0, 1]."""
    clip_coef: float = 0.2
    """Of the ratio, > 0."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus, >= 0."""
    vf_coef: float = 0.5
    """Weight of the value loss, >= 0."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this norm; > 0."""
    output: str | None = None
    """Folder for `policy.safetensors`, `config.json` and `metrics.jsonl`."""
    seed: int = 0
    """Seed of the network's first weights, of the environments and of the order of batches."""

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.num_steps < 1:
            raise ValueError(f"`num_envs` and `num_steps` must be >= 1, got {self.num_envs} and {self.num_steps}")
        if self.steps < self.batch_size:
            raise ValueError(f"`steps` must be at least a rollout's {self.batch_size}, got {self.steps}")
        if not 1 <= self.num_minibatches <= self.batch_size:
            raise ValueError(f"`num_minibatches` must be in [1, {self.batch_size}], got {self.num_minibatches}")

    @property
    def batch_size(self) -> int:
        """Steps in a rollout, all environments together."""
        return self.num_envs * self.num_steps


class Agent(nn.Module):
    """Scores each action's row beside row 0 and the mean row; the mean row's reading gives the value."""

    def __init__(self, columns: int, width: int = 64) -> None:
        super().__init__()
        self.row = nn.Sequential(nn.Linear(2 * columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)  # the first policy follows column 1 alone
        self.actor = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), last)
        self.critic = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        self.lean = nn.Parameter(torch.tensor(6.0))

    def forward(self, obs_BRD: Tensor) -> tuple[Categorical, Tensor]:
        """The policy over K actions and the value, (B,)."""
        actions_BKD, there_BK = obs_BRD[:, 1:], obs_BRD[:, 1:, 0]
        rows_BKH = self.row(torch.cat([actions_BKD, obs_BRD[:, :1].expand_as(actions_BKD)], -1)) * there_BK[..., None]
        mean_BH = rows_BKH.sum(1) / there_BK.sum(1, keepdim=True).clamp(min=1)
        beside_BKH = mean_BH[:, None].expand_as(rows_BKH)
        logits_BK = self.actor(torch.cat([rows_BKH, beside_BKH], -1))[..., 0] + self.lean * actions_BKD[..., 1]
        return Categorical(logits=logits_BK.masked_fill(there_BK == 0, -1e9)), self.critic(mean_BH)[:, 0]


def advantages_of(
    rewards_TN: Tensor, values_TN: Tensor, ends_TN: Tensor, last_value_N: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """GAE, (T, N). `ends_TN` is 1 where an episode ended with that step; a cut-off one's reward already holds
    `gamma` times the value of its last observation."""
    advantages_TN, after_N = torch.zeros_like(rewards_TN), torch.zeros_like(last_value_N)
    for t in reversed(range(len(rewards_TN))):
        next_value_N = last_value_N if t == len(rewards_TN) - 1 else values_TN[t + 1]
        goes_on_N = 1 - ends_TN[t]
        delta_N = rewards_TN[t] + gamma * next_value_N * goes_on_N - values_TN[t]
        after_N = advantages_TN[t] = delta_N + gamma * gae_lambda * goes_on_N * after_N
    return advantages_TN


def main(config: CleanRLConfig) -> list[dict[str, float]]:
    """Trains; one entry of metrics for each rollout: `steps`, `episodes`, `success` (share of the episodes that ended
    in it, broken dreams left out; NaN where none did), `loss`, `entropy`, `approx_kl`, `steps_per_second`."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    envs: Any = gym.make_vec(
        "DreamGymFeatures-v0",
        num_envs=config.num_envs,
        env_id=config.env_id,
        max_actions=config.max_actions,
        **read_settings(config.settings),
    )
    agent = Agent(envs.single_observation_space.shape[1])
    optimizer = torch.optim.Adam(agent.parameters(), lr=config.learning_rate, eps=1e-5)
    shape = (config.num_steps, config.num_envs)
    obs = torch.zeros((*shape, *envs.single_observation_space.shape))
    actions = torch.zeros(shape, dtype=torch.long)
    logprobs, rewards, ends, values = (torch.zeros(shape) for _ in range(4))

    metrics: list[dict[str, float]] = []
    next_obs = torch.as_tensor(envs.reset(seed=config.seed)[0])
    updates = config.steps // config.batch_size
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - update / updates)
        begun, reasons = time.monotonic(), list[str]()

        for t in range(config.num_steps):
            with torch.no_grad():
                policy, values[t] = agent(next_obs)
                action = policy.sample()
            obs[t], actions[t], logprobs[t] = next_obs, action, policy.log_prob(action)
            seen, reward, terminated, truncated, infos = envs.step(action.numpy())
            rewards[t] = torch.as_tensor(reward, dtype=torch.float32)
            ends[t] = torch.as_tensor(terminated | truncated, dtype=torch.float32)
            for index in np.flatnonzero(terminated | truncated):
                reasons.append(str(infos["final_info"]["end_reason"][index]))
                if not terminated[index]:
                    with torch.no_grad():
                        last = agent(torch.as_tensor(infos["final_obs"][index])[None])[1][0]
                    rewards[t, index] += config.gamma * last
            next_obs = torch.as_tensor(seen)

        with torch.no_grad():
            last_value = agent(next_obs)[1]
        advantages = advantages_of(rewards, values, ends, last_value, config.gamma, config.gae_lambda)
        returns = advantages + values

        flat = [one.flatten(0, 1) for one in (obs, actions, logprobs, advantages, returns)]
        for _ in range(config.update_epochs):
            for rows in np.array_split(rng.permutation(config.batch_size), config.num_minibatches):
                b_obs, b_actions, b_logprobs, b_advantages, b_returns = (one[rows] for one in flat)
                policy, value = agent(b_obs)
                log_ratio = policy.log_prob(b_actions) - b_logprobs
                ratio = log_ratio.exp()
                scaled = (b_advantages - b_advantages.mean()) / (b_advantages.std(correction=0) + 1e-8)
                clipped = ratio.clamp(1 - config.clip_coef, 1 + config.clip_coef)
                policy_loss = -torch.min(scaled * ratio, scaled * clipped).mean()
                entropy = policy.entropy().mean()
                value_loss = 0.5 * (value - b_returns).square().mean()
                loss = policy_loss - config.ent_coef * entropy + config.vf_coef * value_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), config.max_grad_norm)
                optimizer.step()

        counted = [reason for reason in reasons if reason != "model_error"]
        entry = {
            "steps": (update + 1) * config.batch_size,
            "episodes": len(reasons),
            "success": counted.count("success") / len(counted) if counted else float("nan"),
            "loss": loss.item(),
            "entropy": entropy.item(),
            "approx_kl": ((ratio - 1) - log_ratio).mean().item(),
            "steps_per_second": config.batch_size / (time.monotonic() - begun),
        }
        metrics.append(entry)
        print(" ".join(f"{key} {value:.3g}" for key, value in entry.items()), flush=True)
    envs.close()
    if config.output:
        save(config, agent, metrics)
    return metrics


def save(config: CleanRLConfig, agent: Agent, metrics: list[dict[str, float]]) -> None:
    """Weights, settings and metrics into the output folder."""
    from .checkpoint import save_final_module

    folder = Path(config.output or ".")
    folder.mkdir(parents=True, exist_ok=True)
    save_final_module(folder / "policy.safetensors", agent, kept=None)
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")
    lines = [json.dumps(entry) + "\n" for entry in metrics]
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(CleanRLConfig, description=__doc__))
