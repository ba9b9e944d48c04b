"""Training conversations of the experience model, drawn from trajectories: retrieval, recall, weights, other names."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.hashed_encoder import unit
from dreamgym_env.prompts import FAILURE, SUCCESS, answer_of, as_told, experience_messages, user_turn
from dreamgym_env.replay_buffer import ReplayBuffer
from dreamgym_env.task_generator import task_answer, task_messages
from dreamgym_env.types import Message, StepContext, Trajectory, Transition

from .experience_config import ExperienceTrainingConfig
from .supervised import Example, answer_spans, encode_chat


def contexts_of(trajectory: Trajectory) -> list[StepContext]:
    """The step context before each transition."""
    steps = trajectory.transitions
    return [StepContext(trajectory.task, steps[:index], step.state, step.action) for index, step in enumerate(steps)]


def conversation(
    domain: Domain,
    trajectory: Trajectory,
    shown: Sequence[Sequence[Transition]],
    recall: bool,
    traces: bool,
    brief: Sequence[bool],
) -> list[Message]:
    """A trajectory as the chat the experience model would have had.

    `shown` are each step's demonstrations; where `brief`, a step has neither recalled lines nor a trace.
    """
    steps: list[Transition] = []
    rows = zip(contexts_of(trajectory), trajectory.transitions, shown, brief, strict=True)
    for context, step, demonstrations, short in rows:
        context = replace(context, history=tuple(steps))
        action = domain.parse_action(step.state, step.action)
        recalled = domain.recall(context) if recall and not short else []
        shown_here = [as_told(domain, one) for one in demonstrations]
        prompt = user_turn(action.text if action else step.action, recalled, shown_here)
        reasoning = step.reasoning_trace if traces and not short else ""
        steps.append(replace(step, prompt=prompt, reasoning_trace=reasoning))
    last = steps[-1]
    messages = experience_messages(
        domain, StepContext(last.task, tuple(steps[:-1]), last.state, last.action), last.prompt
    )
    return [*messages, {"role": "assistant", "content": answer_of(domain, last)}]


_ENDS = tuple(f"<outcome>{how}</outcome>" for how in (SUCCESS, FAILURE))
_LIKE_ONE_OF = 64  # tasks among which a variation is looked for: enough that some are about the same kind of thing


class Corpus:
    """Training conversations drawn from trajectories with retrieval, recall and augmentation as the config says."""

    def __init__(
        self, config: ExperienceTrainingConfig, trajectories: Sequence[Trajectory], domain: str | None = None
    ) -> None:
        self.config, self.trajectories = config, trajectories
        self.domain = load_domain(domain or config.domain[0])
        self.rng = random.Random(config.seed)
        self.buffer = ReplayBuffer("memory", domain=self.domain, include_impossible=False)
        if config.top_k:
            self.buffer.add(trajectories[: config.buffer_trajectories], held_out="skip")
        self.order: list[int] = []
        """Trajectories to draw next, the last first."""
        self._passes: dict[int, list[int]] = {}

    def begin(self, number: int, count: int) -> None:
        """Makes what follows the draws of pool `number` of pools of `count` conversations, whatever was drawn before.

        Pools go through the trajectories in an order that is another in each pass.
        """
        self.rng = random.Random(f"{self.config.seed} pool {number}")
        size = len(self.trajectories)
        places = [divmod(place, size) for place in range(number * count, (number + 1) * count)]
        passes = {turn: self._passes.get(turn) or self._pass(turn) for turn, _ in places}
        self._passes = passes
        self.order = [passes[turn][place] for turn, place in reversed(places)]

    def _pass(self, turn: int) -> list[int]:
        size = len(self.trajectories)
        return random.Random(f"{self.config.seed} pass {turn}").sample(range(size), size)

    def examples(
        self, tokenizer: Any, count: int, exchange: Callable[[Example], Example] = lambda example: example
    ) -> list[Example]:
        """The next `count` conversations as token ids and weights, those that are too long left out.

        `tasks_share` of them are M_task's. The others go through `exchange`, which may put other names for theirs; a
        task's names cannot be looked up anywhere, and must go together.
        """
        tasks = sum(self.rng.random() < self.config.tasks_share for _ in range(count))
        drawn = self._draw(count - tasks)
        steps = (exchange(self._weighted(encode_chat(tokenizer, chat), chat, factors)) for chat, factors in drawn)
        encoded = [*steps, *(encode_chat(tokenizer, chat) for chat in self.task_chats(tasks))]
        return [example for example in encoded if len(example) <= self.config.longest]

    def _weighted(self, example: Example, chat: Sequence[Message], factors: Sequence[float]) -> Example:
        """Multiplies each answer's weights by its factor, and those of outcomes by `outcome_weight`."""
        said = [message["content"] for message in chat if message["role"] == "assistant"]
        weights = example.weights.copy()
        for (start, end), factor, reply in zip(answer_spans(weights), factors, said, strict=True):
            weights[start:end] *= factor * (self.config.outcome_weight if reply.endswith(_ENDS) else 1.0)
        return Example(example.ids, weights)

    def draw(self, count: int) -> list[list[Message]]:
        """The next `count` trajectories as conversations; every one once before any comes again."""
        return [chat for chat, _ in self._draw(count)]

    def _draw(self, count: int) -> list[tuple[list[Message], list[float]]]:
        """Conversations, and for each answer the factor of its loss weight."""
        chosen = []
        for _ in range(count):
            if not self.order:
                self.order = self.rng.sample(range(len(self.trajectories)), len(self.trajectories))
            trajectory = self.trajectories[self.order.pop()]
            possible = tuple(step for step in trajectory.transitions if step.possible)
            if possible and self.rng.random() >= self.config.impossible_share:
                trajectory = replace(trajectory, transitions=possible)
            chosen.append(trajectory)
        return self._chats(chosen)

    def _chats(self, chosen: Sequence[Trajectory]) -> list[tuple[list[Message], list[float]]]:
        config = self.config
        known, wanted, owners = [], [], []
        for trajectory in chosen:
            contexts = contexts_of(trajectory)
            known.append([self.domain.known(context) is not None for context in contexts])
            asked = [context for context, skip in zip(contexts, known[-1], strict=True) if not skip]
            wanted += asked
            owners += [trajectory.trajectory_id] * len(asked)
        found = self.buffer.retrieve(wanted, config.top_k, exclude_trajectory_ids=owners) if config.top_k else []
        rows = iter([[one.transition for one in row] for row in found] or [[] for _ in wanted])
        chats = []
        for trajectory, skipped in zip(chosen, known, strict=True):
            shown = [[] if skip else next(rows) for skip in skipped]
            if self.rng.random() >= config.demonstration_share:
                shown = [[] for _ in shown]
            recall, traces = (self.rng.random() < share for share in (config.recall_share, config.trace_share))
            brief = [config.brief_share > 0 and skip for skip in skipped]
            if any(brief) and self.rng.random() >= config.brief_share:
                brief = [False for _ in brief]
            chats.append(
                (conversation(self.domain, trajectory, shown, recall, traces, brief), self._factors(trajectory, brief))
            )
        return chats

    def _factors(self, trajectory: Trajectory, brief: Sequence[bool]) -> list[float]:
        """Of each answer: 0 where it is brief, where it is open `open_weight`, or 0 if the policy knew, else 1."""
        knew = trajectory.policy.startswith(self.config.knowing_policies)
        at_open = 0.0 if knew else self.config.open_weight
        contexts = zip(contexts_of(trajectory), brief, strict=True)
        return [0.0 if short else at_open if self.domain.is_open(one) else 1.0 for one, short in contexts]

    def task_chats(self, count: int) -> list[list[Message]]:
        """M_task's examples (Eq. 6): three tasks of the corpus, and one like the last of them as its variation."""
        return [self._task_chat() for _ in range(count)]

    def _task_chat(self) -> list[Message]:
        shown = [self.rng.choice(self.trajectories).task for _ in range(3)]
        others = [self.rng.choice(self.trajectories).task for _ in range(_LIKE_ONE_OF)]
        texts = [task.instruction for task in (shown[-1], *others)]
        vectors = self.buffer.encoder.encode(texts)
        vectors = unit(vectors - vectors.mean(axis=0))  # the words that all tasks share say nothing
        likeness = np.where([text == texts[0] for text in texts], -1.0, vectors @ vectors[0])
        messages = list(task_messages(self.domain, shown))
        return [*messages, {"role": "assistant", "content": task_answer(texts[int(likeness.argmax())])}]


def corpora_of(config: ExperienceTrainingConfig, trajectories: Sequence[Trajectory]) -> list[Corpus]:
    """A corpus of each of the config's worlds.

    Raises:
        ValueError: a world has no trajectory.
    """
    if len(config.domain) == 1:
        return [Corpus(config, trajectories)]
    found = {name: [one for one in trajectories if one.task.domain == name] for name in config.domain}
    if missing := [name for name, those in found.items() if not those]:
        told = sorted({one.task.domain for one in trajectories})
        raise ValueError(f"`data` must hold trajectories of each `domain`, got none of {missing}, only of {told}")
    return [Corpus(config, those, name) for name, those in found.items()]
