"""What lives through a run of RL, how it is loaded, saved and taken up again, whatever the algorithm."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from dreamgym_env.curriculum import Curriculum
from dreamgym_env.loading import starting_policy
from dreamgym_env.trajectories import read_trajectories, task_from_record, task_record, trajectory_record
from dreamgym_env.types import Task, Trajectory

from .adapters import merge_into, with_adapters, with_same_weights
from .averaging import WeightAverage
from .checkpoint import (
    check_start,
    find_checkpoint,
    load_module,
    load_optimizer,
    load_state,
    load_weights,
    save_checkpoint,
)
from .pools import BudgetedPool, EnvPool, VectorDreamPool, open_pool, read_settings
from .processes import leave_at_exit
from .run_config import RunConfig
from .served import ServedPolicy
from .sharding import SharedOptimizer, copy_weights, share_out, whole_optimizer, whole_weights
from .trust import distrust

Metrics = dict[str, float]
ConfigT = TypeVar("ConfigT", bound=RunConfig, covariant=True)
GivenT = TypeVar("GivenT", bound=RunConfig)
WithCritic = Callable[[Any, str, Any], Any]
"""The policy's network, the checkpoint it started from and the device, to the network that is trained: a module with
the critic as `critic`."""
COLLECT, EVALUATE, VARY, SHUFFLE = range(4)
"""Streams of random numbers; each update has its own, so that a resumed run draws what it would have drawn."""
CRITIC_FILE, AVERAGE_FILE = "critic.safetensors", "average.safetensors"


@dataclass
class RealSide:
    """Real environments beside dreamed ones, and the curriculum of their tasks, none of which is generated."""

    pool: EnvPool
    curriculum: Curriculum


@dataclass
class Run(Generic[ConfigT]):
    """All that lives through a run. `update` counts the updates done; `real_steps` the environment steps taken in
    real environments, by the training itself ("train") and by evaluations ("eval")."""

    config: ConfigT
    accelerator: Any
    model: Any
    """The `TransformersModel` that samples; its weights are those of `network`, or a copy where these are shared out or
    have adapters."""
    network: Any
    """What is trained: the policy's network, with the critic where there is one, wrapped or shared out where several
    processes train."""
    critic: Any
    """The critic's module, or None."""
    reference: Any
    """The frozen starting policy's network, or None."""
    optimizer: Any
    """The policy's parameters are its first group, the critic's the second."""
    pool: EnvPool
    eval_pools: dict[str, EnvPool]
    curriculum: Curriculum
    real: RealSide | None = None
    """Where the real groups of a mixed round are played; `pool` then dreams."""
    served: ServedPolicy | None = None
    """The endpoint that samples in place of `model`, or None."""
    average: WeightAverage | None = None
    """The average of the sampling model's weights, or None where the last ones are the result."""
    update: int = 0
    real_steps: dict[str, int] = field(default_factory=lambda: {"train": 0, "eval": 0})
    carried: dict[str, float] = field(default_factory=dict)
    """Numbers that outlive an update: the algorithm's own, and those by which a budget is spread over the rounds."""
    dreams: list[list[Trajectory]] = field(default_factory=list)
    """What the replay buffer took in, group after group."""
    proposed: list[Task] = field(default_factory=list)
    """Every task variation that the task generator proposed, kept by the curriculum or not."""

    @property
    def folder(self) -> Path:
        return Path(self.config.output)

    @property
    def budgeted(self) -> EnvPool | None:
        """The real environments whose interactions `real_budget` bounds, None without such."""
        if self.config.real_budget is None:
            return None
        return self.real.pool if self.real else self.pool if self.pool.source == "real" else None

    @property
    def policy(self) -> Any:
        """The policy's network as it is trained, without what several processes wrap it in."""
        network = self.accelerator.unwrap_model(self.network)
        return network if self.critic is None else network.policy

    def close(self) -> None:
        """Closes all environments."""
        for pool in (self.pool, *([self.real.pool] if self.real else []), *self.eval_pools.values()):
            pool.close()

    def weights_changed(self) -> None:
        """Tells the model that samples of the last optimizer step."""
        if self.config.shard and self.accelerator.num_processes > 1:
            copy_weights(self.policy, self.model.model)
        if self.config.lora_rank:
            merge_into(self.policy, self.model.model)
        self._renew_samplers()

    @contextmanager
    def as_delivered(self) -> Iterator[None]:
        """Inside the block the model that samples is the policy that the run would leave now: the average of its
        weights, where it keeps one."""
        if self.average is None or not self.average.updates:
            yield
            return
        with self.average.put_into(self.model.model):
            self._renew_samplers()
            yield
        self._renew_samplers()

    def _renew_samplers(self) -> None:
        self.model.weights_changed()
        if self.served is not None:
            self.served.renew()
            self.accelerator.wait_for_everyone()

    def draw_seed(self, stream: int, number: int = 0) -> int:
        """The seed of one purpose in one update and process; `number` tells several draws apart."""
        entropy = [self.config.seed, self.update, stream, self.accelerator.process_index, *([number] if number else ())]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def prepare(config: GivenT, with_critic: WithCritic | None = None) -> Run[GivenT]:
    """Loads policy, critic, reference, environments and, where asked for and there, the newest checkpoint."""
    from accelerate import Accelerator  # type: ignore[import-untyped]

    check_start(Path(config.output), config.resume)
    accelerator = Accelerator(cpu=config.device == "cpu")
    leave_at_exit()
    pools = open_pools(config, accelerator.num_processes)
    start = starting_policy(pools[0].domain) if config.policy == "embedded" else config.policy
    found = find_checkpoint(Path(config.output) / "checkpoints", config.fall_back) if config.resume else None
    processes = accelerator.num_processes
    path = str(found / "policy") if found and not config.lora_rank else start
    model = load_policy(config, path, accelerator.device)
    reference = load_policy(config, start, accelerator.device).model if config.kl_coef else None
    shared = config.shard and processes > 1
    policy, critic = load_policy(config, path, accelerator.device).model if shared else model.model, None
    if config.lora_rank:
        base = reference or load_policy(config, start, accelerator.device).model
        policy = with_adapters(with_same_weights(base), config.lora_rank, config.seed).eval()
        if found:
            load_weights(found / "policy", policy)
    network = policy
    if with_critic is not None:
        network = with_critic(policy, start, accelerator.device)
        critic = network.critic
        if found:
            load_module(found / CRITIC_FILE, critic)
    if shared:
        share_out(network, accelerator.device, processes)
    parts = [policy] if critic is None else [policy, critic]
    groups = [{"params": [weight for weight in part.parameters() if weight.requires_grad]} for part in parts]
    optimizer = torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay)
    if processes > 1 and not shared:
        network = accelerator.prepare_model(network)
    curriculum = Curriculum([t for t in pools[0].tasks if t.split == "train"], config.lam, config.seed)
    real = open_real_side(config, pools[0], accelerator.num_processes) if config.real_env else None
    run = Run(config, accelerator, model, network, critic, reference, optimizer, *pools, curriculum, real)
    if config.ema_decay:
        run.average = WeightAverage(config.ema_decay)
    if found:
        restore(run, found)
    if config.sampler is not None:
        run.served = ServedPolicy(config.sampler, run.folder / "served", model, accelerator.is_main_process)
    run.weights_changed()
    if config.real_budget is not None and run.budgeted is not None:
        bounded = BudgetedPool(run.budgeted, config.real_budget - run.real_steps["train"])
        if run.real:
            run.real.pool = bounded
        else:
            run.pool = bounded
    return run


def open_real_side(config: RunConfig, dreams: EnvPool, processes: int) -> RealSide:
    """The real environments of mixed rounds.

    Raises:
        ValueError: `env_id` does not dream, or `real_env` does.
    """
    assert config.real_env is not None, "asked for"
    groups = -(-config.tasks_per_update // processes)
    settings = {"split": "train", **read_settings(config.real_settings)}
    pool = open_pool(config.real_env, config.num_envs or groups * config.group_size, **settings)
    if (dreams.source, pool.source) != ("dream", "real"):
        raise ValueError(
            f"`real_env` must be a real environment beside a dreamed `env_id`, got {config.real_env} ({pool.source}) "
            f"beside {config.env_id} ({dreams.source})"
        )
    tasks = [task for task in pool.tasks if task.split == "train"]
    return RealSide(pool, Curriculum(tasks, 0.0, config.seed + 1))


def open_pools(config: RunConfig, processes: int) -> tuple[EnvPool, dict[str, EnvPool]]:
    """The training environments, and those for evaluation by id."""
    size = config.num_envs or -(-config.tasks_per_update // processes) * config.group_size
    settings = read_settings(config.settings)
    pool = open_pool(config.env_id, size, **{"split": "train", **settings})
    if isinstance(pool, VectorDreamPool) and (reason := distrust(pool.experience_model.card)):
        warnings.warn(f"this dream is not to be trusted with RL: {reason}", stacklevel=2)
    if not config.eval_every:
        return pool, {}
    wanted = {config.env_id: settings} | {name: read_settings(config.eval_settings) for name in config.eval_envs}
    size = min(size, config.eval_episodes)
    return pool, {name: open_pool(name, size, **{**rest, "split": "held_out"}) for name, rest in wanted.items()}


def load_policy(config: RunConfig, path: str, device: Any) -> Any:
    """A policy in float32 with its tokenizer, dropout off."""
    from dreamgym_env.language_model import TransformersModel

    model = TransformersModel.load(path, dtype="float32", device=str(device))
    if config.chat_template:
        model.tokenizer.chat_template = Path(config.chat_template).read_text(encoding="utf-8")
    for module in model.model.modules():
        for name in {"p", "attention_dropout"} & vars(module).keys():
            setattr(module, name, 0.0)  # a ratio of two passes must show the weights' change alone
    if config.gradient_checkpointing:
        model.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def restore(run: Run[RunConfig], checkpoint: Path) -> None:
    """Puts a checkpoint's state into the run; policy and critic themselves are loaded from it already."""
    state = load_state(checkpoint)
    load_optimizer(checkpoint, SharedOptimizer(run.optimizer))
    run.curriculum.load_state_dict(state["curriculum"])
    if run.real:
        run.real.curriculum.load_state_dict(state["real_curriculum"])
    run.update, run.real_steps = int(state["update"]), dict(state["real_steps"])
    run.carried = dict(state["carried"])
    if run.average is not None:
        run.average.load(checkpoint / AVERAGE_FILE)
    run.proposed = [task_from_record(record) for record in state["proposed"]]
    if run.config.grow_buffer:
        dreams = iter(list(read_trajectories(checkpoint / "dreams.jsonl")))
        grow_buffer(run, [[next(dreams) for _ in range(size)] for size in state["dream_groups"]])


def save(run: Run[RunConfig]) -> None:
    """A checkpoint from which the run goes on bit for bit; the main process writes it."""
    optimizer = whole_optimizer(run.optimizer)
    modules: dict[str, Any] = {} if run.critic is None else {CRITIC_FILE: whole_weights(run.critic)}
    if run.average is not None:
        modules[AVERAGE_FILE] = run.average
    if not run.accelerator.is_main_process:
        return
    state = {
        "config": asdict(run.config),
        "curriculum": run.curriculum.state_dict(),
        "real_curriculum": run.real.curriculum.state_dict() if run.real else None,
        "real_steps": run.real_steps,
        "carried": run.carried,
        "dream_groups": [len(group) for group in run.dreams],
        "proposed": [task_record(task) for task in run.proposed],
    }
    dreams = [json.dumps(trajectory_record(dream)) + "\n" for group in run.dreams for dream in group]
    save_checkpoint(
        run.folder / "checkpoints",
        run.update,
        run.policy if run.config.lora_rank else run.model.model,
        run.model.tokenizer,
        optimizer,
        state,
        run.config.keep_last,
        {"dreams.jsonl": "".join(dreams)},
        modules,
    )


def grow_buffer(run: Run[RunConfig], groups: list[list[Trajectory]]) -> int:
    """Puts groups of dreams into the dream's replay buffer; transitions added."""
    buffer = getattr(getattr(run.pool, "experience_model", None), "replay_buffer", None)
    if buffer is None or not hasattr(buffer, "add_informative"):
        raise ValueError(
            f"`grow_buffer` must be False where the environment has no replay buffer, got {run.config.env_id}"
        )
    rewards = [[sum(step.reward for step in dream.transitions) for dream in group] for group in groups]
    run.dreams += groups
    return int(buffer.add_informative(groups, rewards).added)
