"""Worlds made of a file for tests: the example of `dreamgym new-world`, one of rooms and doors, and models of them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
from dreamed_shop import asked_actions

import dreamgym_env  # noqa: F401 (registers the environments)
from dreamgym_env.prompts import answer
from dreamgym_env.trainers.new_world import write_world
from dreamgym_env.types import Completion, Conversation, Sampling, StepContext, Task, Transition

HOUSE = """
name: house
description: a house of rooms with doors; a ball lies in one of them.
horizon: 12
actions:
  - go {direction}
  - open door to {direction}
  - close door to {direction}
  - take {thing}
  - say [{words}]
placeholders:
  direction: [north, south, east, west]
  words: free
available:
  - find: 'to the (?P<direction>\\w+) lies the'
    action: go {direction}
  - find: 'to the (?P<direction>\\w+) is a closed door'
    action: open door to {direction}
  - find: 'a (?P<thing>ball) is here'
    action: take {thing}
  - always: say [{words}]
outcomes: [success]
ends:
  success: take {thing}
recall:
  - when: go {direction}
    find: 'to the {direction} lies the (?P<room>\\w+)'
    show: '^You are in the {room}'
  - names
known:
  changing: ['open door to {direction}', 'close door to {direction}']
  repeats: true
  lookups:
    - when: go {direction}
      find: 'to the {direction} lies the (?P<room>\\w+)'
      show: '^You are in the {room}'
contradictions:
  - when: go {direction}
    find: 'to the {direction} lies the (?P<room>\\w+)'
    must: '^You are in the {room}'
    because: a step leads into the room that is named
  - when: ['open door to {direction}', 'close door to {direction}']
    never: 'the {direction} is broken'
open: ['go {direction}']
task_form: 'Find the (ball|box)\\.'
"""
HALL = "You are in the hall.\nTo the north lies the cellar.\nTo the EAST is a closed door."
CELLAR = "You are in the cellar.\nTo the south lies the hall.\nA ball is here."
LIT = "You are in the hall.\nTo the north lies the cellar.\nTo the east lies the garden."


def house_file(folder: Path, text: str = HOUSE, **changes: str) -> str:
    """The world file of the house, with lines `key: value` put in place of its own or added."""
    for key, value in changes.items():
        text = re.sub(rf"(?m)^{key}:.*(?:\n[ -].*)*\n", "", text) + f"{key}: {value}\n"
    path = folder / "world.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def context(*steps: tuple[str, str, str], state: str, action: str, possible: Sequence[bool] = ()) -> StepContext:
    """A context after (state, action, next state) steps, all possible unless said otherwise."""
    task = Task("house-1", "house", "Find the ball.", steps[0][0] if steps else state)
    can = [*possible, *[True] * len(steps)]
    history = tuple(Transition(task, i, *step, possible=can[i]) for i, step in enumerate(steps))
    return StepContext(task, history, state, action)


@cache
def lamp_folder() -> Path:
    """The example that `dreamgym new-world` writes, written once."""
    folder = Path(tempfile.mkdtemp(prefix="lamp-")) / "lamp"
    write_world(folder, "lamp", [])
    return folder


class LampModel:
    """What the example's flat truly does: rooms, and a lamp that can be switched on where it stands."""

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        return [Completion(self.reply(one)) for one in conversations]

    def reply(self, conversation: Conversation) -> str:
        action = asked_actions(conversation)[1][-1]
        first = re.search(
            r"State:\n(.*?)\n(?:Seen before|Similar steps|Action):", conversation[1]["content"], re.DOTALL
        )
        assert first is not None
        told = [first[1], *(message["content"] for message in conversation if message["role"] == "assistant")]
        shown = "\n".join(told)  # what this very episode has shown, without demonstrations of others
        room = re.findall(r"You are in the (\w+)", shown)[-1]
        lamps = re.findall(r"You are in the (\w+)\. (?:A lamp)", shown)
        empty = re.findall(r"You are in the (\w+)\. It is empty", shown)
        lamp = lamps[0] if lamps else {"kitchen": "hall", "hall": "kitchen"}[empty[0]]
        room = action.removeprefix("go to ") if action.startswith("go to ") else room
        if action == "switch on lamp" and room == lamp:
            return answer("", "The lamp is on.", 1.0, True)
        return answer(
            "", f"You are in the {room}. " + ("A lamp is here." if room == lamp else "It is empty."), 0, False
        )


def lamp_actions(task: Task) -> list[str]:
    """How the lamp is switched on."""
    if "lamp" in task.initial_state:
        return ["switch on lamp"]
    return [f"go to {'hall' if 'kitchen' in task.initial_state else 'kitchen'}", "switch on lamp"]


def make_lamp(**settings: Any) -> gym.Env[str, str]:
    """The dream of the example."""
    options = {"domain": str(lamp_folder() / "world.yaml"), "experience_model": LampModel(), "top_k": 1}
    return gym.make("DreamGym-v0", **(options | settings))
