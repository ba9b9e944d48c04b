"""MaskablePPO of sb3-contrib, or SB3's PPO, in a dream or for real, with a policy that scores each available action.

    dreamgym sb3 --env-id DreamGym-WebShop-v0 --steps 20000 --eval-envs DreamGym-WebShop-v0 Real-WebShop-v0

The environments are `DreamGymFeatures-v0` (numbers for texts, `docs/other-trainers.md`); dreams stay batched. The
parts serve SB3's own scripts too: `SB3VecEnv` around any Gymnasium vector environment that resets in the same step, and
`MaskableScoringPolicy` or `ScoringPolicy` in the place of "MlpPolicy".
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from torch import Tensor, nn

from dreamgym_env.types import Split

from .checkpoint import save_final_module
from .intervals import wilson_interval
from .pools import read_settings

WEIGHTS = "policy.safetensors"


@dataclass(frozen=True)
class SB3Config:
    """What to train, and where to measure it."""

    env_id: str = "DreamGym-WebShop-v0"
    """Where to train: any id whose `info` has `task` and `available_actions`."""
    settings: tuple[str, ...] = ()
    """Further keywords of `gym.make`, as `name=value`."""
    algorithm: Literal["maskable-ppo", "ppo"] = "maskable-ppo"
    """sb3-contrib's MaskablePPO, or SB3's PPO, which has no masks and has to learn what is available."""
    steps: int = 20_000
    """Environment steps of training, all environments together; 0 only evaluates."""
    minutes: float | None = None
    """Training ends after the rollout in which so many have passed; None is no limit."""
    num_envs: int = 32
    """Environments stepped together."""
    rollout_steps: int = 16
    """Steps of each environment between updates."""
    batch_size: int = 128
    """Steps in a mini-batch."""
    epochs: int = 10
    """Passes over each rollout."""
    learning_rate: float = 1e-3
    """Adam's, > 0."""
    gamma: float = 0.95
    """Discount, in (0, 1]: below 1, a sooner success is worth more."""
    gae_lambda: float = 0.95
    """Of the advantages, in [0, 1]."""
    entropy: float = 0.01
    """Coefficient of the entropy bonus, >= 0."""
    max_actions: int = 24
    """K; what happens where there are more: `docs/other-trainers.md`."""
    policy: str | None = None
    """Folder of an earlier run to start from, or to evaluate."""
    eval_envs: tuple[str, ...] = ("Real-WebShop-v0",)
    """Where to play at the end, with held-out tasks."""
    eval_split: Split = "held_out"
    """Tasks of the evaluation."""
    episodes: int = 256
    """Evaluation episodes in each of `eval_envs`; 0 skips it."""
    random: bool = False
    """Evaluate uniform choice among the available actions instead."""
    output: str | None = None
    """Folder for `policy.safetensors`, `config.json` and `evaluation.json`."""
    seed: int = 0
    """Seed of the network's first weights, of the environments and of what is drawn in them."""

    def __post_init__(self) -> None:
        if self.num_envs < 1:
            raise ValueError(f"`num_envs` must be >= 1, got {self.num_envs}")
        if self.steps < 0 or self.episodes < 0:
            raise ValueError(f"`steps` and `episodes` must be >= 0, got {self.steps} and {self.episodes}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"`gamma` must be in (0, 1], got {self.gamma}")


class SB3VecEnv(VecEnv):
    """A Gymnasium vector environment as Stable-Baselines3's: one `step` of it is one `step_wait`.

    At an end `infos[i]` has `terminal_observation`, the observation returned is the next episode's first, and
    `TimeLimit.truncated` tells that the episode was cut off (also where a dream broke), so that PPO bootstraps there.

    Raises:
        ValueError: the environments do not reset in the same step.
    """

    def __init__(self, envs: Any) -> None:
        mode = envs.metadata.get("autoreset_mode")
        if mode != gym.vector.AutoresetMode.SAME_STEP:
            raise ValueError(f"`envs` must have autoreset mode SAME_STEP, got {mode}")
        self.envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> NDArray[np.float32]:
        seed = self._seeds[0]
        options = self._options[0] or None
        observations, infos = self.envs.reset(seed=seed, options=options)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [_of(infos, index) for index in range(self.num_envs)]
        return np.asarray(observations)

    def step_async(self, actions: NDArray[np.int64]) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        observations, rewards, terminated, truncated, merged = self.envs.step(self._actions)
        dones = terminated | truncated
        infos = [_of(merged, index) for index in range(self.num_envs)]
        for index in np.flatnonzero(dones).tolist():
            self.reset_infos[index] = infos[index]
            infos[index] = {**_of(merged["final_info"], index), "terminal_observation": merged["final_obs"][index]}
        for index, info in enumerate(infos):
            info["TimeLimit.truncated"] = bool(truncated[index] and not terminated[index])
        return np.asarray(observations), rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        value = None if attr_name == "render_mode" else getattr(self.envs, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError(f"the environments share one object; set {attr_name!r} on `envs` itself")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Calls a method that answers for all environments (`action_masks`); the rows of its result."""
        rows = getattr(self.envs, method_name)(*args, **kwargs)
        return [rows[index] for index in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def _of(infos: dict[str, Any], index: int) -> dict[str, Any]:
    """One environment's `info` out of those that Gymnasium merged; without those of ended episodes."""
    keys = [key for key in infos if f"_{key}" in infos and not key.startswith("final_")]
    return {key: infos[key][index] for key in keys if infos[f"_{key}"][index]}


class ActionScorer(nn.Module):
    """One small network that scores every action row alike, and values the state by all of them.

    An index means another action in each state, so nothing may be learnt by index. Each row is read beside row 0 (state
    and instruction), then again beside the mean and the maximum over all available actions; the second reading's last
    layer gives the score, a layer on the mean and the maximum gives the value. Input float [B, (1 + K) * D] (SB3
    flattens), output scores [B, K] and value features [B, width]. It takes the place of SB3's `mlp_extractor`.
    """

    def __init__(self, rows: int, columns: int, width: int = 64, lean: float = 6.0) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.latent_dim_pi, self.latent_dim_vf = rows - 1, width
        self.read = nn.Sequential(nn.Linear(2 * columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)  # the first policy leans alone
        self.score = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), last)
        self.value = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU())
        self.lean = nn.Parameter(torch.tensor(lean))

    def forward(self, flat_BX: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [B, K] and value features [B, width]."""
        rows_BRD = flat_BX.view(-1, self.rows, self.columns)
        state_B1D, actions_BKD = rows_BRD[:, :1], rows_BRD[:, 1:]
        there_BK1 = actions_BKD[..., :1]
        hidden_BKH = self.read(torch.cat([actions_BKD, state_B1D.expand_as(actions_BKD)], -1)) * there_BK1
        mean_BH = hidden_BKH.sum(1) / there_BK1.sum(1).clamp(min=1)
        all_BH = torch.cat([mean_BH, hidden_BKH.max(1).values], -1)
        beside_BKH = all_BH[:, None].expand(-1, self.rows - 1, -1)
        scores_BK = self.score(torch.cat([hidden_BKH, beside_BKH], -1))[..., 0] + self.lean * actions_BKD[..., 1]
        return scores_BK, self.value(all_BH)

    def forward_actor(self, flat_BX: Tensor) -> Tensor:
        """Scores [B, K]."""
        return self.forward(flat_BX)[0]

    def forward_critic(self, flat_BX: Tensor) -> Tensor:
        """Value features [B, width]."""
        return self.forward(flat_BX)[1]


class _Scoring:
    """Puts `ActionScorer` where SB3's policies let a network be changed; its scores are the logits."""

    def _build_mlp_extractor(self: Any) -> None:
        rows, columns = self.observation_space.shape
        self.mlp_extractor = ActionScorer(rows, columns).to(self.device)

    def _build(self: Any, lr_schedule: Callable[[float], float]) -> None:
        self.ortho_init = False  # it would overwrite the scorer's own start
        super()._build(lr_schedule)  # type: ignore[misc]
        self.action_net = nn.Identity()
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


class ScoringPolicy(_Scoring, ActorCriticPolicy):  # type: ignore[misc]
    """For SB3's `PPO`: no mask, so it also learns which indices are empty (column `available`)."""


class MaskableScoringPolicy(_Scoring, MaskableActorCriticPolicy):  # type: ignore[misc]
    """For sb3-contrib's `MaskablePPO`."""


def make_envs(env_id: str, num_envs: int, max_actions: int, **settings: Any) -> SB3VecEnv:
    """`num_envs` environments of any text id, as SB3 takes them."""
    how: dict[str, Any] = {"env_id": env_id, "max_actions": max_actions, **settings}
    return SB3VecEnv(gym.make_vec("DreamGymFeatures-v0", num_envs=num_envs, **how))


class Keeper(BaseCallback):
    """Writes the policy after each rollout, so that a killed run keeps its last one, and ends training in time."""

    def __init__(self, folder: Path | None, minutes: float | None) -> None:
        super().__init__()
        self.folder, self.minutes, self.begun = folder, minutes, time.monotonic()

    def _on_rollout_start(self) -> None:
        if self.folder:
            save_final_module(self.folder / WEIGHTS, self.model.policy, kept=None)

    def _on_step(self) -> bool:
        over = self.minutes is not None and time.monotonic() - self.begun > 60 * self.minutes
        return not over or self.model.rollout_buffer.pos > 0  # type: ignore[attr-defined]


Act = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.int64]]


def play(envs: SB3VecEnv, act: Act, episodes: int, seed: int) -> dict[str, Any]:
    """Success in `episodes` (at least; the same number in each environment, so that short ones are not favoured).

    Broken dreams (`model_error`) are counted in `end_reasons` but not in `n`. `low` and `high` are Wilson's 95%.
    """
    envs.seed(seed)
    observations: Any = envs.reset()
    left = np.full(envs.num_envs, -(-episodes // envs.num_envs))
    reasons: Counter[str] = Counter()
    while left.any():
        masks = np.stack(envs.env_method("action_masks"))
        observations, _, dones, infos = envs.step(act(observations, masks))
        for index in np.flatnonzero(dones & (left > 0)):
            left[index] -= 1
            reasons[infos[index]["end_reason"]] += 1
    n = reasons.total() - reasons["model_error"]
    low, high = wilson_interval(reasons["success"], n)
    rate = reasons["success"] / n if n else 0.0
    return {"n": n, "success_rate": rate, "low": low, "high": high, "end_reasons": dict(sorted(reasons.items()))}


def random_act(seed: int) -> Act:
    """Uniform choice among the available actions."""
    rng = np.random.default_rng(seed)
    return lambda _, masks: np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])


def evaluate(config: SB3Config, act: Act) -> dict[str, Any]:
    """`play` in each of the config's evaluation environments."""
    results = {}
    for env_id in config.eval_envs if config.episodes else ():
        settings = read_settings(config.settings) if env_id == config.env_id else {}
        settings["split"] = config.eval_split
        envs = make_envs(env_id, min(config.num_envs, config.episodes), config.max_actions, **settings)
        results[env_id] = play(envs, act, config.episodes, config.seed)
        envs.close()
    return results


def main(config: SB3Config) -> dict[str, Any]:
    """Trains, evaluates, writes; the evaluation's figures by environment."""
    folder = Path(config.output) if config.output else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")
    envs = make_envs(config.env_id, config.num_envs, config.max_actions, **read_settings(config.settings))
    masked = config.algorithm == "maskable-ppo"
    kind: Any = MaskablePPO if masked else PPO
    model = kind(
        MaskableScoringPolicy if masked else ScoringPolicy,
        VecMonitor(envs),
        learning_rate=config.learning_rate,
        n_steps=config.rollout_steps,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        ent_coef=config.entropy,
        seed=config.seed,
        verbose=1,
    )
    if config.policy:
        model.policy.load_state_dict(load_file(Path(config.policy) / WEIGHTS))
    if config.steps:
        model.learn(config.steps, Keeper(folder, config.minutes), log_interval=1)

    def act(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        given = {"action_masks": masks} if masked else {}
        return np.asarray(model.predict(observations, deterministic=True, **given)[0])

    results = evaluate(config, random_act(config.seed) if config.random else act)
    if folder:
        save_final_module(folder / WEIGHTS, model.policy, kept=None)
        (folder / "evaluation.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    envs.close()
    return results


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(SB3Config, description=__doc__)), indent=1))
