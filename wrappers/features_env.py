"""Text environments for agents of numbers, one or many at once: `Box` observations, `Discrete(K)` actions, masks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.encoders import Encoder, load_encoder
from dreamgym_env.hashed_encoder import HashedEncoder
from dreamgym_env.types import Transition

from .features import SCALARS, Episode, Features, Floats


class Watcher:
    """Keeps one episode under way and gives its observations; the environments below share it.

    Args:
        features: what to make of an episode.
        domain: the world's; None takes the bundled one that the task names.
    """

    def __init__(self, features: Features, domain: Domain | None) -> None:
        self.features, self._domain = features, domain
        self.actions: list[str] = []
        self.episode: Episode | None = None

    def begin(self, state: str, info: dict[str, Any]) -> Floats:
        """The observation of a reset."""
        self.episode = Episode(info["task"], state, [])
        return self._observe(False, info)

    def text(self, choice: int) -> str:
        """The action of that index; "", which no world can do, where the state has no such action."""
        return self.actions[choice] if 0 <= choice < len(self.actions) else ""

    def advance(self, choice: int, state: str, terminated: bool, info: dict[str, Any]) -> Floats:
        """The observation of a step; where the episode was cut off, still with what the state would offer."""
        episode = self.episode
        assert episode is not None, "a step follows a reset"
        step = Transition(episode.task, len(episode.history), episode.state, self.text(choice), state)
        self.episode = Episode(episode.task, state, [], [*episode.history, step])
        return self._observe(terminated, info)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Bool [max_actions]: which indices are actions. All True where there is none, since a choice must be made."""
        count = len(self.actions) or self.features.max_actions
        return np.arange(self.features.max_actions) < count

    @property
    def domain(self) -> Domain:
        """The world of the episode."""
        assert self.episode is not None
        return self._domain or load_domain(self.episode.task.domain)

    def _observe(self, terminated: bool, info: dict[str, Any]) -> Floats:
        assert self.episode is not None
        offered = info.get("available_actions")
        if not (offered or terminated):
            offered = self.domain.available_actions(self.episode.state, tuple(self.episode.history))
        self.episode.available = offered or []
        self.actions, lines, left_out = self.features.choices(self.domain, self.episode)
        info["actions"], info["actions_left_out"] = list(self.actions), left_out
        if left_out:
            warnings.warn(  # once for each place in a program, as warnings are
                f"a state offers {left_out} actions more than `max_actions` = {self.features.max_actions}; "
                "info['actions_left_out'] counts them, `Features` says which",
                stacklevel=2,
            )
        return self.features.array(self.domain, self.episode, self.actions, lines)


def make_features(env: Any, max_actions: int, encoder: Encoder | str | None) -> Features:
    """The features for an environment.

    Raises:
        ValueError: `max_actions` < 1.
    """
    if max_actions < 1:
        raise ValueError(f"`max_actions` must be >= 1, got {max_actions}")
    first = env.envs[0].unwrapped if isinstance(env, gym.vector.SyncVectorEnv) else env.unwrapped
    chosen = load_encoder(encoder) if isinstance(encoder, str) else encoder
    return Features(chosen or HashedEncoder(dimension=64), max_actions, getattr(first, "horizon", None))


def spaces_of(features: Features) -> tuple[Box, Discrete[np.int64]]:
    """Observation and action space of one environment."""
    columns = len(SCALARS) + features.encoder.encode([]).shape[1]
    return Box(-1.0, 1.0, (1 + features.max_actions, columns), np.float32), Discrete(features.max_actions)


class ActionFeatures(gym.Wrapper[Any, Any, str, str]):
    """One text environment, real or dream, for agents of numbers; `Features` specifies the observation.

    Action i is `info["actions"][i]`; an index without an action is impossible, and the step counts. `action_masks()` is
    what sb3-contrib asks for. `info` also gets `actions_left_out`.

    Args:
        env: its `info` must have `task`, its observations must be state texts. What a state offers is its `info`'s
            `available_actions`, or where it has none what the domain says.
        max_actions: K, at least 1.
        encoder: an encoder or its name (`encoders.load_encoder`); None is the embedded one at 64 dimensions.
    """

    def __init__(self, env: gym.Env[str, str], max_actions: int = 24, encoder: Encoder | str | None = None) -> None:
        super().__init__(env)
        features = make_features(env.unwrapped, max_actions, encoder)
        self.watcher = Watcher(features, getattr(env.unwrapped, "domain", None))
        self.observation_space, self.action_space = spaces_of(features)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        state, info = self.env.reset(seed=seed, options=options)
        return self.watcher.begin(state, info), info

    def step(self, action: np.int64) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        state, reward, terminated, truncated, info = self.env.step(self.watcher.text(int(action)))
        observation = self.watcher.advance(int(action), state, terminated, info)
        return observation, float(reward), terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Bool [max_actions]: which indices are actions now."""
        return self.watcher.mask


def make_single(
    env_id: str = "DreamGym-WebShop-v0", max_actions: int = 24, encoder: Encoder | str | None = None, **settings: Any
) -> ActionFeatures:
    """What `gym.make("DreamGymFeatures-v0", env_id=...)` makes; `settings` go to `gym.make(env_id)`."""
    return ActionFeatures(gym.make(env_id, disable_env_checker=True, **settings), max_actions, encoder)


class FeaturesVectorEnv(VectorEnv[Floats, NDArray[np.int64], np.ndarray]):
    """What `gym.make_vec("DreamGymFeatures-v0", num_envs=N, env_id=...)` makes.

    Observations are float32 [N, 1 + max_actions, columns] (`features.Features`), actions indices [N]. A dream is
    stepped by one batched prediction; a real environment by `gym.make_vec`'s `SyncVectorEnv`. Ends reset in the same
    step (`AutoresetMode.SAME_STEP`): the observation returned is the next episode's first, and `infos` has `final_obs`
    and `final_info` of the one that ended, as in Gymnasium's own vector environments.

    Args:
        num_envs: N, at least 1.
        env_id: any id whose `info` has `task` and whose observations are state texts.
        max_actions, encoder: as in `features.ActionFeatures`.
        settings: go to `gym.make_vec(env_id)`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        env_id: str = "DreamGym-WebShop-v0",
        max_actions: int = 24,
        encoder: Encoder | str | None = None,
        **settings: Any,
    ) -> None:
        batched = gym.spec(env_id).vector_entry_point is not None
        how: dict[str, Any] = {} if batched else {"vector_kwargs": {"autoreset_mode": AutoresetMode.DISABLED}}
        self.texts: Any = gym.make_vec(env_id, num_envs=num_envs, **how, **settings)
        self.num_envs = num_envs
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}
        features = make_features(self.texts, max_actions, encoder)
        self.watchers = [Watcher(features, getattr(self.texts, "domain", None)) for _ in range(num_envs)]
        self.single_observation_space, self.single_action_space = spaces_of(features)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._observations = np.zeros(self.observation_space.shape or (), dtype=np.float32)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """`options` as `gym.make_vec(env_id)` takes them, without `reset_mask`."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        infos = self._begin(range(self.num_envs), seed, options or {})
        return self._observations.copy(), infos

    def step(self, actions: NDArray[np.int64]) -> tuple[Floats, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if len(actions) != self.num_envs:
            raise ValueError(f"`actions` must have one index for each of {self.num_envs}, got {len(actions)}")
        chosen = [watcher.text(int(choice)) for watcher, choice in zip(self.watchers, actions, strict=True)]
        states, rewards, terminated, truncated, found = self.texts.step(tuple(chosen))
        rewards, terminated, truncated = (np.array(one) for one in (rewards, terminated, truncated))
        infos: dict[str, Any] = {}
        over = np.flatnonzero(terminated | truncated).tolist()
        for index, watcher in enumerate(self.watchers):
            info = _one(found, index)
            seen = watcher.advance(int(actions[index]), states[index], bool(terminated[index]), info)
            self._observations[index] = seen
            infos = self._add_info(infos, {"final_obs": seen, "final_info": info} if index in over else info, index)
        if over:
            first = self._begin(over, None, {"reset_mask": np.isin(np.arange(self.num_envs), over)})
            for index in over:
                infos = self._add_info(infos, _one(first, index), index)
        return self._observations.copy(), rewards, terminated, truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Bool [N, max_actions]: which indices are actions now."""
        return np.stack([watcher.mask for watcher in self.watchers])

    def close_extras(self, **kwargs: Any) -> None:
        self.texts.close()

    def _begin(self, indices: Sequence[int], seed: Any, options: dict[str, Any]) -> dict[str, Any]:
        states, found = self.texts.reset(seed=seed, options=options)
        infos: dict[str, Any] = {}
        for index in indices:
            info = _one(found, index)
            self._observations[index] = self.watchers[index].begin(states[index], info)
            infos = self._add_info(infos, info, index)
        return infos


def _one(infos: dict[str, Any], index: int) -> dict[str, Any]:
    """The `info` of one environment, out of those that Gymnasium merged."""
    keys = [key for key in infos if f"_{key}" in infos]
    return {key: infos[key][index] for key in keys if infos[f"_{key}"][index]}
