"""Groups of episodes: `collect` plays them in one batch, one tick after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from dreamgym_env.types import Completion, EndReason, ModelError, Sampling, Task, Trajectory, Transition

from .agent import AgentChat, Rollout, Turn, read_action, read_thought
from .pools import EnvPool, StepResult, opened

Progress = Callable[[int, int], None]
"""Called with (episodes ended, episodes in all) after each tick."""


class TokenModel(Protocol):
    """The agent's model: token ids in, token ids out. `language_model.TransformersModel` is one."""

    @property
    def tokenizer(self) -> Any:
        """A `transformers` tokenizer with a chat template."""
        ...

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Completion]:
        """One completion per prompt, with `token_ids` and `logprobs` (at the sampling temperature)."""
        ...

    def seed(self, seed: int) -> None:
        """Makes the next draws repeatable."""
        ...

    def forget(self) -> None:
        """Drops what was kept of earlier prompts, so that the last bits of the next draws do not depend on it."""
        ...


@dataclass
class _Episode:
    """An episode under way; `pending` are the prompt ids that the next response will answer, or would."""

    task: Task
    state: str = ""
    pending: tuple[int, ...] = ()
    ids: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    thought: str = ""
    transitions: list[Transition] = field(default_factory=list)
    end_reason: EndReason | None = None

    def prompt(self) -> list[int]:
        return [*self.ids, *self.pending]


@dataclass(frozen=True)
class Collector:
    """What `collect` needs beside tasks: the agent's model, the environments, how to sample, and the longest context.

    `context_tokens`: an episode whose next prompt and longest response exceed it ends with "context_overflow".
    `history`: None shows the agent the whole conversation; k >= 0 shows it the last k steps, in a chat of its own for
    each turn.
    """

    model: TokenModel
    pool: EnvPool
    sampling: Sampling
    context_tokens: int = 4608
    policy: str = "policy"
    history: int | None = None

    def next_prompt(self, chat: AgentChat, episode: _Episode) -> tuple[int, ...]:
        """What the agent has to read before it acts in the episode's state, as far as it has not read it."""
        if self.history is not None:
            return chat.window_ids(episode.task, episode.transitions, episode.state, self.history)
        if not episode.ids:
            return chat.first_ids(episode.task, episode.state)
        return chat.next_ids(episode.state, episode.ids[-1])


def collect(
    collector: Collector, tasks: Sequence[Task], group_size: int = 1, progress: Progress | None = None
) -> list[list[Rollout]]:
    """`group_size` episodes of each task, in the tasks' order.

    Each tick is one generate call and one call of the pool for all running episodes; an episode that ends makes room
    for the next one.

    Raises:
        ValueError: `group_size` < 1, or a first prompt does not fit into the context.
    """
    if group_size < 1:
        raise ValueError(f"`group_size` must be >= 1, got {group_size}")
    chat = AgentChat(
        collector.model.tokenizer, collector.pool.domain.agent_instruction, grows=collector.history is None
    )
    episodes = [_Episode(task) for task in tasks for _ in range(group_size)]
    waiting, running, free = list(episodes), dict[int, _Episode](), list(range(collector.pool.size))
    while waiting or running:
        _start(collector, chat, waiting, running, free)
        _tick(collector, chat, running)
        ended = [index for index, episode in running.items() if episode.end_reason is not None]
        for index in ended:
            del running[index]
        free += ended
        if progress:
            progress(len(episodes) - len(waiting) - len(running), len(episodes))
    rollouts = [_rollout(collector, episode, number) for number, episode in enumerate(episodes)]
    return [rollouts[start : start + group_size] for start in range(0, len(rollouts), group_size)]


def _start(
    collector: Collector, chat: AgentChat, waiting: list[_Episode], running: dict[int, _Episode], free: list[int]
) -> None:
    """Begins as many waiting episodes as there are free environments."""
    count = min(len(waiting), len(free))
    indices, chosen = sorted(free)[:count], waiting[:count]
    free[:] = sorted(free)[count:]
    del waiting[:count]
    for index, episode, (state, info) in zip(
        indices,
        chosen,
        collector.pool.reset(indices, [episode.task for episode in chosen]) if chosen else (),
        strict=True,
    ):
        episode.task, episode.state = opened(episode.task, info), state
        episode.pending = collector.next_prompt(chat, episode)
        needed = len(episode.pending) + collector.sampling.max_tokens
        if needed > collector.context_tokens:
            raise ValueError(
                f"`context_tokens` must hold the first prompt and a response, {needed} tokens for task "
                f"{episode.task.task_id!r}, got {collector.context_tokens}; raise it or lower `max_tokens`"
            )
        running[index] = episode


def _tick(collector: Collector, chat: AgentChat, running: dict[int, _Episode]) -> None:
    """One response and one step of every running episode that still fits into the context."""
    limit = collector.context_tokens - collector.sampling.max_tokens
    for episode in running.values():
        if len(episode.ids) + len(episode.pending) > limit:
            episode.end_reason = "context_overflow"
    active = {index: episode for index, episode in sorted(running.items()) if episode.end_reason is None}
    if not active:
        return
    completions = collector.model.generate([episode.prompt() for episode in active.values()], collector.sampling)
    actions: dict[int, str] = {}
    for (index, episode), completion in zip(active.items(), completions, strict=True):
        if completion.finish_reason == "error":
            raise ModelError(f"the policy gave no response: {completion.error}")
        actions[index] = _respond(collector, episode, completion)
    results = collector.pool.step(list(active), list(actions.values()))
    for (index, episode), result in zip(active.items(), results, strict=True):
        _advance(collector, chat, episode, actions[index], result)


def _respond(collector: Collector, episode: _Episode, completion: Completion) -> str:
    """Notes the response as a turn and gives its action; the raw text where no action can be read."""
    action = read_action(completion.text)
    valid = bool(action) and collector.pool.domain.parse_action(episode.state, action) is not None
    cut = completion.finish_reason == "length"
    turn = Turn(episode.pending, completion.token_ids, completion.logprobs, valid=valid, cut=cut)
    episode.turns.append(turn)
    if collector.history is None:
        episode.ids += [*turn.prompt_ids, *turn.response_ids]
    episode.thought = read_thought(completion.text)
    return action or completion.text


def _advance(collector: Collector, chat: AgentChat, episode: _Episode, action: str, result: StepResult) -> None:
    """Notes what the environment answered and prepares the next prompt, or ends the episode."""
    state, reward, terminated, truncated, info = result
    possible = bool(info.get("possible", True))
    episode.turns[-1] = replace(episode.turns[-1], possible=possible)
    if terminated or truncated:
        episode.end_reason = end_reason_of(result)
    if episode.end_reason == "model_error":
        episode.pending = ()
        return  # nothing happened that could be written down
    parsed = collector.pool.domain.parse_action(episode.state, action)
    transition = Transition(
        task=episode.task,
        step_index=len(episode.transitions),
        state=episode.state,
        action=parsed.text if parsed else action,
        next_state=state,
        reward=reward,
        terminated=terminated,
        reasoning_trace=info.get("reasoning_trace", ""),
        source=collector.pool.source,
        possible=possible,
        thought=episode.thought,
    )
    episode.transitions.append(transition)
    episode.state, episode.pending = state, ()
    if episode.end_reason in (None, "time_limit"):
        episode.pending = collector.next_prompt(chat, episode)


def end_reason_of(result: StepResult) -> EndReason:
    """Why a step ended its episode, also where the environment's `info` does not say."""
    _, reward, terminated, _, info = result
    said: EndReason | None = info.get("end_reason")
    return said or ("time_limit" if not terminated else "success" if reward > 0 else "failure")


def _rollout(collector: Collector, episode: _Episode, number: int) -> Rollout:
    assert episode.end_reason is not None, "collect ends every episode"
    trajectory = Trajectory(
        episode.task,
        tuple(episode.transitions),
        episode.end_reason,
        collector.policy,
        f"{collector.policy}-{number}-{episode.task.task_id}",
    )
    return Rollout(trajectory, tuple(episode.turns), episode.pending, windowed=collector.history is not None)
