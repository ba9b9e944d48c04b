"""Language models for tests: one that tells what the real shop would do, one that lies, one that says what it is told.

They speak the protocol of `dreamgym_env.types.LanguageModel` and see nothing but the conversation, as any model does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import gymnasium as gym

import dreamgym_env  # noqa: F401 (registers the environments)
from dreamgym_env.domains.webshop_pages import DONE_STATE
from dreamgym_env.prompts import answer
from dreamgym_env.types import Completion, Conversation, Sampling, Task, Trajectory, Transition


@cache
def shop_env() -> Any:
    """One real shop over all tasks of the sample catalogue."""
    return gym.make("Real-WebShop-v0", split="all", disable_env_checker=True).unwrapped


@cache
def tasks_of(split: str, count: int) -> tuple[Task, ...]:
    """The first tasks of a split whose instruction stands for one goal only and can be won by the oracle."""
    env = shop_env()
    told = [goal.instruction for goal in env.shop.goals]
    found = []
    for task_id in env.task_ids:
        task = env.task_of(task_id)
        if task.split == split and told.count(task.instruction) == 1 and play(task).success:
            found.append(task)
        if len(found) == count:
            return tuple(found)
    raise AssertionError(f"fewer than {count} tasks")


@cache
def play(task: Task, policy: str = "oracle", seed: int = 0) -> Trajectory:
    """A real episode of a demonstrator on the task."""
    env = shop_env()
    actor = env.demonstrator(policy, seed)
    state, info = env.reset(seed=seed, options={"task_id": task.task_id})
    steps: list[Transition] = []
    while info["end_reason"] is None:
        action = actor.act(env)
        after, reward, terminated, _, info = env.step(action)
        steps.append(Transition(task, len(steps), state, action, after, reward, terminated, possible=info["possible"]))
        state = after
    return Trajectory(task, tuple(steps), info["end_reason"], policy, f"{policy}-{seed}-{task.task_id}")


def actions_of(task: Task) -> list[str]:
    """What the oracle does on the task."""
    return [step.action for step in play(task).transitions]


def asked_actions(conversation: Conversation) -> tuple[str, list[str]]:
    """The instruction and all actions that a conversation of the experience model asks about, the last one included."""
    turns = [message["content"] for message in conversation if message["role"] == "user"]
    instruction = turns[0].removeprefix("Task: ").split("\nState:\n")[0]
    found = [re.search(r"Action: (\".*\")\Z", turn) for turn in turns]
    return instruction, [str(json.loads(match[1])) for match in found if match]


class ShopModel:
    """Simulates pages by replaying the conversation's actions in the real shop; `batches` are its calls' sizes."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.seeds: list[int] = []
        env = shop_env()
        self.ids = {task.instruction: task.task_id for task in map(env.task_of, env.task_ids)}

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        self.batches.append(len(conversations))
        return [Completion(self.reply(conversation)) for conversation in conversations]

    def reply(self, conversation: Conversation) -> str:
        env = shop_env()
        instruction, actions = asked_actions(conversation)
        state, _ = env.reset(seed=0, options={"task_id": self.ids[instruction]})
        reward, terminated = 0.0, False
        for action in actions:
            state, reward, terminated, _, _ = env.step(action)
        return answer(f"after {len(actions)} actions", state, reward, terminated)


class LyingModel(ShopModel):
    """Calls every purchase a success, wherever it is attempted, and puts a product's page behind every other click."""

    PAGE = "Anything you like\nPrice: $1.00 | Rating: N.A.\n[Back to Search] [< Prev] [Description] [Buy Now]"

    def reply(self, conversation: Conversation) -> str:
        action = asked_actions(conversation)[1][-1]
        if action.lower() == "click[buy now]":
            return answer("", DONE_STATE, 1.0, True)
        return answer("", self.PAGE, 0.0, False)


class Scripted:
    """Says what `script` makes of (call number, row number, conversation); keeps what it was asked."""

    def __init__(self, script: Callable[[int, int, Conversation], Completion | str]) -> None:
        self.script = script
        self.calls: list[list[Conversation]] = []
        self.samplings: list[Sampling] = []

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        self.calls.append([list(conversation) for conversation in conversations])
        self.samplings.append(sampling)
        said = [self.script(len(self.calls) - 1, row, one) for row, one in enumerate(conversations)]
        return [Completion(one) if isinstance(one, str) else one for one in said]
