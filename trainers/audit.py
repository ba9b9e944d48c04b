"""`dreamgym audit`: holds a dream to account before any RL: the same policies dreamed and real, every step judged.

Rolls each policy in the dream, judges every dreamed step and outcome with the world's referee, replays the dreamed
actions in the real environment, and rolls the same policy for real. Run:
`python -m dreamgym_env.trainers.audit --episodes 200 --policies embedded random reader`.
Success of a dream is worth nothing without it: `docs/experience-model.md` tells what a policy learns otherwise.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym

from dreamgym_env.loading import starting_policy
from dreamgym_env.trajectories import write_trajectories
from dreamgym_env.types import Sampling, Split, Task, Trajectory

from .corpus import contexts_of
from .disk import check_writable, write_json, writing
from .evaluate import choose_episodes
from .intervals import Share
from .pools import EnvPool, VectorDreamPool, domain_of, open_pool, read_settings
from .rollout import Collector, collect, end_reason_of
from .text_play import ScriptedAgent, play_texts
from .trust import PolicyAudit, passes, target_of
from .unrefereed import RandomReader, ReplayReferee


@dataclass(frozen=True)
class AuditConfig:
    """Settings of `dreamgym audit`."""

    policies: tuple[str, ...] = ("embedded", "random", "reader")
    """`embedded` (the bundled starting policy), a checkpoint folder, `random`, or `reader` (scripted, reads states)."""
    env_id: str = "DreamGym-WebShop-v0"
    """The dream."""
    real_env: str = "Real-WebShop-v0"
    """The real environment that it dreams of."""
    episodes: int = 200
    """Dreamed episodes of each policy, >= 1, on tasks from the first to the last of the environment's."""
    num_envs: int = 64
    """Most environments played at once, dreamed and real; >= 1."""
    split: Split = "train"
    """Which tasks; a dream is audited on the tasks that it is trained on, held-out ones stay untouched."""
    settings: tuple[str, ...] = ()
    """Further keywords of the dream, as name=value (`use_recall=false`)."""
    real_settings: tuple[str, ...] = ()
    """Keywords of `gym.make` for the real environment, as name=value (`data_dir=games`)."""
    raw: bool = False
    """Whether to audit the bare model: no rules, nothing known, no recall, no contradiction check, one attempt."""
    temperature: float = 1.0
    """Sampling temperature of checkpoint policies, as in training."""
    max_tokens: int = 64
    """Longest response of a policy, in tokens."""
    output: Path | None = None
    """JSON file for the report."""
    trajectories: Path | None = None
    """JSON-lines file for the dreamed episodes."""
    seed: int = 0
    """Seed of the policies and the dreams; the same one gives the same report."""

    def __post_init__(self) -> None:
        for name in ("episodes", "num_envs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}")


def audit_policy(
    config: AuditConfig, policy: str, dream: EnvPool, real: EnvPool, env: Any
) -> tuple[PolicyAudit, list[Trajectory]]:
    """Dreams `config.episodes` episodes of the policy and holds them against the referee, replays and reality."""
    tasks = choose_episodes(dream.tasks, config.episodes, spread=True)
    dreamed = roll(config, policy, dream, tasks)
    lived = roll(config, policy, real, tasks)
    return judge(policy, dreamed, lived, env), dreamed


def roll(config: AuditConfig, policy: str, pool: EnvPool, tasks: Sequence[Task]) -> list[Trajectory]:
    """One episode of each task in the pool."""
    pool.seed(config.seed)
    if policy in ("random", "reader"):
        return roll_reader(1.0 if policy == "random" else 0.1, pool, tasks, config)
    from dreamgym_env.language_model import TransformersModel

    path = starting_policy(pool.domain) if policy == "embedded" else policy
    model = TransformersModel.load(path)
    model.seed(config.seed)
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens)
    groups = collect(Collector(model, pool, sampling, policy=policy), tasks)
    return [rollout.trajectory for group in groups for rollout in group]


def roll_reader(slip: float, pool: EnvPool, tasks: Sequence[Task], config: AuditConfig) -> list[Trajectory]:
    """The scripted agent of the real environment's `reader(slip, seed)`, in any pool.

    Raises:
        ValueError: the environment has none, and another than a random one is asked for.
    """
    real: Any = real_one(config).unwrapped
    if not hasattr(real, "reader") and slip < 1:
        raise ValueError(f"`policies` must not hold 'reader' where {config.real_env} has no `reader(slip, seed)`")
    script = real.reader(slip, config.seed) if hasattr(real, "reader") else RandomReader(config.seed)
    return [one.trajectory for one in play_texts(pool, tasks, ScriptedAgent(script), f"reader-{slip}")]


def real_one(config: AuditConfig) -> gym.Env[str, str]:
    """One real environment."""
    settings = {**read_settings(config.real_settings), "split": config.split}
    return gym.make(config.real_env, disable_env_checker=True, **settings)


def judge(policy: str, dreamed: Sequence[Trajectory], lived: Sequence[Trajectory], env: Any) -> PolicyAudit:
    """Adds up what the referee and the replays say."""
    referee = referee_of(env, [one.task for one in dreamed])
    errors: Counter[str] = Counter()
    steps = impossible = same = replayed = 0
    confirmed, denied, replay_success = Counter[bool](), Counter[bool](), Counter[bool]()
    for trajectory in dreamed:
        for context, step in zip(contexts_of(trajectory), trajectory.transitions, strict=True):
            errors.update(referee.step_errors(context, step))
            impossible += not step.possible
            steps += 1
        equal, succeeded = replay(env, trajectory)
        truth = referee.judge(trajectory)
        if truth is None and equal == len(trajectory.transitions) and not trajectory.broken:
            truth = succeeded  # for real it went as dreamed, so its outcome is that of the dream
        if trajectory.success and truth is not None:
            confirmed[truth] += 1
        if truth:
            denied[not trajectory.success] += 1
        same, replayed = same + equal, replayed + len(trajectory.transitions)
        if trajectory.success:
            replay_success[succeeded] += 1
    whole = [trajectory for trajectory in dreamed if not trajectory.broken]
    return PolicyAudit(
        policy=policy,
        dreamed_success=Share(sum(t.success for t in whole), len(whole)),
        real_success=Share(sum(t.success for t in lived), len(lived)),
        confirmed=_share(confirmed),
        denied=_share(denied),
        replay_success=_share(replay_success),
        replay_same_state=Share(same, replayed),
        impossible_accepted=Share(errors["impossible_accepted"], impossible),
        contradictions=Share(errors["contradiction"], steps),
        broken=Share(len(dreamed) - len(whole), len(dreamed)),
        dreamed_finds=find_share(referee, dreamed),
        real_finds=find_share(referee, lived),
        errors=dict(errors),
    )


def find_share(referee: Any, trajectories: Sequence[Trajectory]) -> Share:
    """Of the views that could show for the first time what the task seeks, those that do; none without `finds`."""
    finds = getattr(referee, "finds", lambda context, step: None)
    told = [
        finds(context, step)
        for one in trajectories
        for context, step in zip(contexts_of(one), one.transitions, strict=True)
    ]
    return Share(told.count(True), len(told) - told.count(None))


def referee_of(env: Any, tasks: Sequence[Task]) -> Any:
    """The environment's own referee, or one that knows the domain's rules and what a replay shows."""
    if hasattr(env.unwrapped, "referee"):
        return env.unwrapped.referee()
    return ReplayReferee(env, domain_of(env.unwrapped, tasks))


def _share(counts: Counter[bool]) -> Share:
    return Share(counts[True], counts.total())


def replay(env: Any, trajectory: Trajectory) -> tuple[int, bool]:
    """The dreamed actions in the real environment: how many steps show the dreamed state, and whether they succeed."""
    env.reset(seed=0, options={"task_id": trajectory.task.task_id})
    equal = 0
    for step in trajectory.transitions:
        state, reward, terminated, truncated, info = env.step(step.action)
        equal += state == step.next_state
        if terminated or truncated:
            return equal, end_reason_of((state, reward, terminated, truncated, info)) == "success"
    return equal, False


def main(config: AuditConfig) -> dict[str, Any]:
    """Runs the audit, prints a table and returns the report."""
    check_writable(config.output, config.trajectories)
    extra = read_settings(config.settings)
    if config.raw:
        names = ("use_rules", "use_known", "use_witnesses", "use_recall", "use_contradictions")
        switches = dict.fromkeys(names, False)
        extra = {**switches, "attempts": 1, **extra}
    size = min(config.episodes, config.num_envs)
    dream = open_pool(config.env_id, size, split=config.split, **extra)
    if not isinstance(dream, VectorDreamPool):
        raise ValueError(f"`env_id` must be a dream, got {config.env_id}, which has no experience model")
    real = open_pool(config.real_env, size, **read_settings(config.real_settings), split=config.split)
    env = real_one(config)
    report: dict[str, Any] = {"config": json.loads(json.dumps(asdict(config), default=str)), "policies": []}
    dreams: list[Trajectory] = []
    for policy in config.policies:
        found, trajectories = audit_policy(config, policy, dream, real, env)
        dreams += [replace(one, trajectory_id=f"dream-{policy}-{i}") for i, one in enumerate(trajectories)]
        report["policies"].append({**asdict(found), "passes": passes(found)})
        report["model_counts"] = dict(dream.experience_model.counts)
        show(found)
        save(config, report, dreams)  # after each policy, so that a stopped audit keeps what it found
    return report


def save(config: AuditConfig, report: Mapping[str, Any], dreams: Sequence[Trajectory]) -> None:
    """Writes the report and the dreamed episodes to the files that the config names."""
    if config.output:
        write_json(config.output, report)
    if config.trajectories:
        with writing(config.trajectories, kept=None):
            write_trajectories(config.trajectories, dreams)


def show(audit: PolicyAudit) -> None:
    """A table of one policy's shares, with the targets."""
    from rich.console import Console
    from rich.table import Table

    table = Table("share", "value", "target", title=f"audit under {audit.policy}")
    met = passes(audit)
    words = {True: "met", False: "MISSED", None: "no evidence"}
    for name in PolicyAudit.__dataclass_fields__:
        value = getattr(audit, name)
        if isinstance(value, Share):
            verdict = f"{target_of(name)} {words[met[name]]}" if name in met else ""
            table.add_row(name.replace("_", " "), str(value), verdict)
    Console().print(table)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(AuditConfig, description=__doc__))
