"""DreamGym: Gymnasium environments dreamed by a language model, to train LLM agents with RL."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from dreamgym_env.domain import Action, Domain, load_domain
from dreamgym_env.env import DreamGymEnv
from dreamgym_env.experience_model import ExperienceConfig, ExperienceModel
from dreamgym_env.loading import load_experience_model
from dreamgym_env.spaces import Unicode
from dreamgym_env.types import (
    Completion,
    DataError,
    Demonstration,
    DreamGymError,
    LanguageModel,
    ModelError,
    ParseError,
    Prediction,
    Sampling,
    StepContext,
    Task,
    Trajectory,
    Transition,
)

__version__ = "0.1.0"
__all__ = [
    "Action",
    "Completion",
    "DataError",
    "Demonstration",
    "Domain",
    "DreamGymEnv",
    "DreamGymError",
    "ExperienceConfig",
    "ExperienceModel",
    "LanguageModel",
    "ModelError",
    "ParseError",
    "Prediction",
    "Sampling",
    "StepContext",
    "Task",
    "Trajectory",
    "Transition",
    "Unicode",
    "load_domain",
    "load_experience_model",
]


def _register(env_id: str, entry_point: str, vector_entry_point: str | None, **kwargs: object) -> None:
    if env_id not in registry:
        register(
            id=env_id,
            entry_point=entry_point,
            vector_entry_point=vector_entry_point,
            kwargs=kwargs,
            order_enforce=True,
        )


_register(
    "DreamGym-WebShop-v0",
    "dreamgym_env.env:DreamGymEnv",
    "dreamgym_env.vector_env:DreamGymVectorEnv",
    domain="webshop",
)
_register(
    "DreamGym-ALFWorld-v0",
    "dreamgym_env.env:DreamGymEnv",
    "dreamgym_env.vector_env:DreamGymVectorEnv",
    domain="alfworld",
)
_register(
    "DreamGym-v0",  # anyone's own world: domain="path/to/world.yaml"
    "dreamgym_env.env:DreamGymEnv",
    "dreamgym_env.vector_env:DreamGymVectorEnv",
    domain="",
)
_register(
    "DreamGym-WebArena-v0",
    "dreamgym_env.env:DreamGymEnv",
    "dreamgym_env.vector_env:DreamGymVectorEnv",
    domain="webarena",
)
_register(
    "DreamGym-MiniWoB-v0",
    "dreamgym_env.env:DreamGymEnv",
    "dreamgym_env.vector_env:DreamGymVectorEnv",
    domain="miniwob",
)
_register(
    "DreamGymFeatures-v0",
    "dreamgym_env.wrappers.features_env:make_single",
    "dreamgym_env.wrappers.features_env:FeaturesVectorEnv",
)
_register("Real-MiniWoB-v0", "dreamgym_env.wrappers.webarena.miniwob:MiniWoBEnv", None)
_register("Real-WebArena-v0", "dreamgym_env.wrappers.webarena.env:WebArenaEnv", None)
_register("Real-ALFWorld-v0", "dreamgym_env.wrappers.alfworld.env:AlfworldEnv", None)
_register("Real-WebShop-v0", "dreamgym_env.wrappers.webshop.env:WebShopEnv", None)
