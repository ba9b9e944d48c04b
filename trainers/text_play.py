"""Episodes of agents that read and write texts: scripted ones, and any chat model behind an endpoint.

`rollout.collect` plays policies whose tokens are learned from; here nothing is learned, so texts are enough.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dreamgym_env.types import (
    Completion,
    EndReason,
    LanguageModel,
    Message,
    ModelError,
    Sampling,
    Task,
    Trajectory,
    Transition,
)

from .agent import Rollout, Turn, opening_message, read_action, read_thought, state_message
from .collect import run_episode
from .pools import EnvPool, SingleEnvPool, StepResult, opened
from .rollout import Progress, end_reason_of


@dataclass
class TextEpisode:
    """An episode under way: what the agent may know of it."""

    task: Task
    state: str
    available: Sequence[str]
    transitions: list[Transition] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)
    """What the agent said, word for word, one for each action."""
    turns: list[Turn] = field(default_factory=list)
    end_reason: EndReason | None = None


class TextAgent(Protocol):
    """Answers for all running episodes at once."""

    def act(self, episodes: Sequence[TextEpisode]) -> list[Completion]:
        """One response for each episode, in order.

        `finish_reason` "error" ends that episode: with "context_overflow" where the answer has `overflow`, else with
        "model_error".
        """
        ...


class ScriptedAgent:
    """A script with `act(task, state, available, history) -> action`, such as a real environment's `reader`."""

    def __init__(self, script: Any) -> None:
        self.script = script

    def act(self, episodes: Sequence[TextEpisode]) -> list[Completion]:
        acts = [self.script.act(one.task, one.state, one.available, one.transitions) for one in episodes]
        return [Completion(f"<action>{action}</action>") for action in acts]


class RandomScript:
    """Any of the available actions, each as likely; a `<placeholder>` in one becomes a word of the task."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def act(self, task: Task, state: str, available: Sequence[str], history: Sequence[Transition]) -> str:
        """The next action, "" where none is available."""
        words = task.instruction.split() or [""]
        action = self.rng.choice(list(available)) if available else ""
        return re.sub(r"<\w+>", lambda _: self.rng.choice(words), action)


class ChatAgent:
    """A chat model as the agent, in the chat that a trained policy has: instruction, task and state, answer, state, ...

    Raises (in `act`):
        ModelError: no episode got an answer, for other reasons than the length of its chat, and there are several or
            none had one before: the endpoint is gone.
    """

    def __init__(self, model: LanguageModel, instruction: str, sampling: Sampling) -> None:
        self.model, self.instruction, self.sampling = model, instruction, sampling

    def act(self, episodes: Sequence[TextEpisode]) -> list[Completion]:
        found = self.model.complete([self._chat(one) for one in episodes], self.sampling)
        first = not any(one.responses for one in episodes)
        if (len(found) > 1 or first) and all(one.finish_reason == "error" and not one.overflow for one in found):
            raise ModelError(f"the policy gave no answer in any of {len(found)} episodes: {found[0].error}")
        return found

    def _chat(self, episode: TextEpisode) -> list[Message]:
        states = [*(step.state for step in episode.transitions), episode.state]
        chat: list[Message] = [{"role": "system", "content": self.instruction}]
        for number, state in enumerate(states):
            said = state_message(state) if number else opening_message(episode.task, state)
            chat.append({"role": "user", "content": said})
            if number < len(episode.responses):
                chat.append({"role": "assistant", "content": episode.responses[number]})
        return chat


def play_texts(
    pool: EnvPool, tasks: Sequence[Task], agent: TextAgent, policy: str, progress: Progress | None = None
) -> list[Rollout]:
    """One episode of each task, in the tasks' order, as many at once as the pool is large; rollouts without tokens."""
    finished: list[TextEpisode] = []
    for start in range(0, len(tasks), pool.size):
        batch = tasks[start : start + pool.size]
        results = pool.reset(range(len(batch)), batch)
        episodes = [
            TextEpisode(opened(task, info), state, info.get("available_actions", ()))
            for task, (state, info) in zip(batch, results, strict=True)
        ]
        while running := {index: one for index, one in enumerate(episodes) if one.end_reason is None}:
            given = dict(zip(running, agent.act(list(running.values())), strict=True))
            for index in [index for index, answer in given.items() if answer.finish_reason == "error"]:
                episodes[index].end_reason = "context_overflow" if given.pop(index).overflow else "model_error"
            actions = {index: read_action(answer.text) or answer.text for index, answer in given.items()}
            stepped = pool.step(list(actions), list(actions.values())) if actions else []
            for (index, action), result in zip(actions.items(), stepped, strict=True):
                _advance(pool, episodes[index], given[index], action, result)
            if progress:
                progress(len(finished) + len(episodes) - len(running), len(tasks))
        finished += episodes
    return [_rollout(one, policy, number) for number, one in enumerate(finished)]


def play_script(
    name: str, pool: EnvPool, tasks: Sequence[Task], seed: int, progress: Progress | None = None
) -> list[Rollout]:
    """Episodes of a demonstrator, which may look behind the observations of its (real) environment; those of the random
    agent in any environment.

    Raises:
        ValueError: the environments have no demonstrators, or none of that name.
    """
    env = pool.envs[0] if isinstance(pool, SingleEnvPool) else None
    if env is None or not hasattr(env.unwrapped, "demonstrator"):
        if name == "random":
            pool.seed(seed)
            return play_texts(pool, tasks, ScriptedAgent(RandomScript(seed)), name, progress)
        raise ValueError(f"`policy` must be no script where there are no demonstrators, got 'script:{name}'")
    policy, rollouts = env.unwrapped.demonstrator(name, seed), list[Rollout]()
    for number, task in enumerate(tasks):
        options = {"task": task, "task_id": task.task_id}
        trajectory = run_episode(env, policy, name, f"{name}-{seed}-{number}", seed=seed + number, options=options)
        turns = [
            Turn((), (), valid=pool.domain.parse_action(step.state, step.action) is not None, possible=step.possible)
            for step in trajectory.transitions
        ]
        rollouts.append(Rollout(trajectory, tuple(turns)))
        if progress:
            progress(len(rollouts), len(tasks))
    return rollouts


def _advance(pool: EnvPool, episode: TextEpisode, answer: Completion, action: str, result: StepResult) -> None:
    """Notes the response and what the environment made of it."""
    state, reward, terminated, truncated, info = result
    valid = pool.domain.parse_action(episode.state, action) is not None
    possible, cut = bool(info.get("possible", True)), answer.finish_reason == "length"
    tokens = len(answer.token_ids) or answer.tokens
    episode.turns.append(Turn((), (), valid=valid, possible=possible, trained=False, cut=cut, told_tokens=tokens))
    if terminated or truncated:
        episode.end_reason = end_reason_of(result)
    if episode.end_reason == "model_error":
        return  # nothing happened that could be written down
    episode.responses.append(answer.text)
    episode.transitions.append(
        Transition(
            task=episode.task,
            step_index=len(episode.transitions),
            state=episode.state,
            action=action,
            next_state=state,
            reward=reward,
            terminated=terminated,
            reasoning_trace=info.get("reasoning_trace", ""),
            source=pool.source,
            possible=possible,
            thought=read_thought(answer.text),
        )
    )
    episode.state, episode.available = state, info.get("available_actions", ())


def _rollout(episode: TextEpisode, policy: str, number: int) -> Rollout:
    assert episode.end_reason is not None, "every episode ends"
    trajectory = Trajectory(episode.task, tuple(episode.transitions), episode.end_reason, policy, f"{policy}-{number}")
    return Rollout(trajectory, tuple(episode.turns))
