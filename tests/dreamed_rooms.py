"""A language model that tells what the real ALFWorld would do, and tasks with the actions that win them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from alfworld_games import make_env
from dreamed_shop import asked_actions

from dreamgym_env.prompts import answer
from dreamgym_env.types import Completion, Conversation, Sampling, Task


@cache
def room_env() -> Any:
    """One real environment over the generated training games."""
    return make_env("train")


def rooms() -> tuple[Task, ...]:
    """Its tasks."""
    env = room_env()
    return tuple(env.task_of(task_id) for task_id in env.task_ids)


@cache
def winning_actions(task: Task) -> list[str]:
    """What the oracle does on the task."""
    env = room_env()
    actor = env.demonstrator("oracle", 0)
    env.reset(seed=0, options={"task_id": task.task_id})
    actions: list[str] = []
    while not env.success:
        actions.append(actor.act(env))
        env.step(actions[-1])
    return actions


class RoomModel:
    """Simulates rooms by replaying the conversation's actions in the real game that begins as the conversation does."""

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        return [Completion(self.reply(conversation)) for conversation in conversations]

    def reply(self, conversation: Conversation) -> str:
        instruction, actions = asked_actions(conversation)
        begins = f"Task: {instruction}\nState:\n"
        told = conversation[1]["content"].removeprefix(begins)
        env = room_env()
        (task,) = [one for one in rooms() if one.instruction == instruction and told.startswith(one.initial_state)]
        state, _ = env.reset(seed=0, options={"task_id": task.task_id})
        reward, terminated = 0.0, False
        for action in actions:
            state, reward, terminated, _, _ = env.step(action)
        return answer(f"after {len(actions)} actions", state, reward, terminated)
