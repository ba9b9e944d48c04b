"""What SFT reads pass after pass: demonstrations as training sequences, with names exchanged, and tasks of micro-sites
drawn anew."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.domains.web import WebDomain
from dreamgym_env.types import DataError, Trajectory

from .agent import AgentChat, Rollout, Turn, write_response
from .microsite_tasks import draw_demonstration
from .microsites import SiteWords
from .names import exchange_classes, exchange_labels, number_classes, permuted, read_in, said_in
from .supervised import Example
from .supply import StatelessSupply

if TYPE_CHECKING:
    from .sft import SFTConfig

Exchange = Callable[[Example, random.Random], Example]


@dataclass(frozen=True)
class Demonstrations:
    """Episodes as training sequences, and what was left out. Held-out tasks are never trained on."""

    train: tuple[Example, ...]
    instructions: tuple[str, ...]
    """What was asked for in each training episode."""
    said: tuple[str, ...]
    """What the agent said in each, thoughts and actions."""
    read: tuple[str, ...]
    """What it read in each, the states."""
    domains: tuple[str, ...]
    """Of which worlds they are."""
    held_out: tuple[Example, ...]
    held_out_episodes: int
    failed: int = 0
    broken: int = 0
    too_long: int = 0
    spare: int = 0
    """More of a task than `per_task`."""
    thoughtless: int = 0
    """With a step without a thought, where those are left out."""


def named(trajectory: Trajectory, domain: Domain) -> Trajectory:
    """The episode with actions that name elements in words (`Domain.by_name`); as it is where the domain has none."""
    by_name: Callable[[str, str], str] | None = getattr(domain, "by_name", None)
    if by_name is None:
        return trajectory
    steps = (replace(step, action=by_name(step.state, step.action)) for step in trajectory.transitions)
    return replace(trajectory, transitions=tuple(steps))


def demonstration_rollout(
    chat: AgentChat, trajectory: Trajectory, skip_impossible: bool = True, history: int | None = None
) -> Rollout:
    """The episode as the agent would have lived it, its actions in the canonical answer format."""
    turns: list[Turn] = []
    prompt = chat.first_ids(trajectory.task, trajectory.task.initial_state)
    for index, step in enumerate(trajectory.transitions):
        if history is not None:
            prompt = chat.window_ids(trajectory.task, trajectory.transitions[:index], step.state, history)
        elif step.step_index == 0:
            prompt = chat.first_ids(trajectory.task, step.state)
        response = chat.response_ids(write_response(step.action, step.thought))
        turns.append(Turn(prompt, response, possible=step.possible, trained=step.possible or not skip_impossible))
        prompt = chat.next_ids(step.next_state, response[-1]) if history is None else ()
    return Rollout(trajectory, tuple(turns), windowed=history is not None)


def example_of(rollout: Rollout, state_weight: float = 0.0) -> Example:
    """Ids [T] and weights: 1 on the response tokens to learn, `state_weight` on those of the states that actions led
    to, 0 on the rest."""
    weights = np.asarray(rollout.response_mask, np.float32)
    at = 0
    for index, turn in enumerate(rollout.turns):
        if index:
            weights[at : at + len(turn.prompt_ids)] = state_weight
        at += len(turn.prompt_ids) + len(turn.response_ids)
    return Example(np.asarray(rollout.token_ids, np.int32), weights)


class Encoder:
    """Episodes as training sequences, in the chat of their world's agent."""

    def __init__(self, tokenizer: Any, config: SFTConfig) -> None:
        self.tokenizer, self.config = tokenizer, config
        self.domains: dict[str, Domain] = {}
        self.chats: dict[str, AgentChat] = {}

    def examples(self, trajectory: Trajectory) -> list[Example]:
        """The sequences that have something to learn: one, or with `history` one for each turn."""
        config, name = self.config, trajectory.task.domain
        if name not in self.domains:
            domain = self.domains[name] = load_domain(config.domain or name)
            self.chats[name] = AgentChat(self.tokenizer, domain.agent_instruction, grows=config.history is None)
        trajectory = named(trajectory, self.domains[name]) if config.by_name else trajectory
        rollout = demonstration_rollout(self.chats[name], trajectory, config.skip_impossible, config.history)
        weight = 0.0 if trajectory.task.split == "held_out" else config.state_weight
        return [example_of(part, weight) for part in rollout.sequences if any(part.response_mask)]


def load_demonstrations(config: SFTConfig, tokenizer: Any, trajectories: Iterable[Trajectory]) -> Demonstrations:
    """Filters and encodes.

    Raises:
        DataError: nothing is left to train on.
    """
    train: list[Example] = []
    held_out: list[Example] = []
    instructions: list[str] = []
    said: list[str] = []
    read: list[str] = []
    domains: dict[str, None] = {}
    counts = {"failed": 0, "broken": 0, "too_long": 0, "spare": 0, "thoughtless": 0, "held_out_episodes": 0}
    taken = Counter[str]()
    encoder = Encoder(tokenizer, config)
    for trajectory in trajectories:
        reason = _unwanted(trajectory, config)
        if reason:
            counts[reason] += 1
            continue
        examples = encoder.examples(trajectory)
        if any(len(one) > config.max_tokens for one in examples):
            counts["too_long"] += 1
        elif trajectory.task.split == "held_out":
            held_out += examples
            counts["held_out_episodes"] += 1
        elif config.per_task is not None and taken[trajectory.task.task_id] >= config.per_task:
            counts["spare"] += 1
        elif config.max_episodes is None or len(instructions) < config.max_episodes:
            taken[trajectory.task.task_id] += 1
            train += examples
            instructions.append(trajectory.task.instruction)
            said.append(said_in(trajectory))
            read.append(read_in(trajectory))
            domains[trajectory.task.domain] = None
    if not train:
        raise DataError(f"`trajectories` must hold episodes to train on, got none; left out: {counts}")
    return Demonstrations(
        train=tuple(train),
        instructions=tuple(instructions),
        said=tuple(said),
        read=tuple(read),
        domains=tuple(domains),
        held_out=tuple(held_out),
        **counts,
    )


def supply_of(config: SFTConfig, data: Demonstrations, tokenizer: Any) -> StatelessSupply:
    """The episodes again and again; in `permute_share` of them names are exchanged, others in each pass, and beside
    them tasks of micro-sites, `micro_share` of all.

    Raises:
        ValueError: the vocabulary has no names to exchange, or too few words to make sites of.
    """
    if not (config.permute_share or config.micro_share):
        return StatelessSupply(lambda _: data.train)
    exchange = _exchange(config, data, tokenizer) if config.permute_share else lambda one, _: one
    micro = _micro_sites(config, data, tokenizer) if config.micro_share else lambda _: []

    def pool(tokens: int) -> list[Example]:
        rng = random.Random(f"{config.seed} {tokens}")
        return [*(exchange(one, rng) for one in data.train), *micro(rng)]

    return StatelessSupply(pool)


def _micro_sites(
    config: SFTConfig, data: Demonstrations, tokenizer: Any
) -> Callable[[random.Random], Sequence[Example]]:
    """Draws the sequences of a pass's tasks on micro-sites: as many as the share needs, or a few more."""
    encoder, words = Encoder(tokenizer, config), SiteWords.of(tokenizer)
    count = max(1, round(len(data.train) * config.micro_share / (1 - config.micro_share)))
    for name in data.domains:
        if not isinstance(load_domain(name), WebDomain):
            raise ValueError(f"`micro_share` must be 0 for worlds that are not web sites, got episodes of {name!r}")

    def draw(rng: random.Random) -> list[Example]:
        found: list[Example] = []
        for _ in range(10 * count):
            if len(found) >= count:
                return found
            examples = encoder.examples(draw_demonstration(rng, words, rng.choice(data.domains)))
            found += [one for one in examples if len(one) <= config.max_tokens]
        raise ValueError(
            f"`max_tokens` must leave room for tasks of micro-sites, got {config.max_tokens}; nine in ten were longer"
        )

    return draw


def _exchange(config: SFTConfig, data: Demonstrations, tokenizer: Any) -> Exchange:
    """How a sequence's names are exchanged."""
    classes = exchange_classes(tokenizer, data.train, data.instructions, data.said, data.read, config.names)
    if not classes:
        raise ValueError(
            f"`permute_share` must be 0 where the vocabulary has no words to exchange, got {config.permute_share} with "
            f"that of {config.model}; `dreamgym fit-vocabulary` makes one that has"
        )
    labels = exchange_labels(tokenizer, data.instructions, data.said, data.read, classes) if config.label_share else []
    numbers = number_classes(tokenizer) if config.number_share else []

    def exchange(one: Example, rng: random.Random) -> Example:
        if rng.random() >= config.permute_share:
            return one
        chosen = labels if config.label_share and rng.random() < config.label_share else classes
        more = numbers if config.number_share and rng.random() < config.number_share else []
        return permuted(one, [*chosen, *more], len(tokenizer), rng)

    return exchange


def _unwanted(trajectory: Trajectory, config: SFTConfig) -> str | None:
    """As what an episode is left out, None where it is not."""
    if trajectory.broken or not trajectory.transitions:
        return "broken"
    if config.success_only and not trajectory.success:
        return "failed"
    thoughtless = config.thoughts_only and not all(step.thought for step in trajectory.transitions)
    return "thoughtless" if thoughtless else None
