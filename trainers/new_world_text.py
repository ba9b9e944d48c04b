"""The text of a world file, with a comment for every key that it may have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from .new_world_draft import Draft


def world_text(name: str, draft: Draft) -> str:
    """A commented world.yaml that says what the draft says."""
    return _TEXT.format(
        name=name,
        description=_quoted(draft.description),
        horizon=draft.horizon,
        actions="\n".join(f"  - {_quoted(action)}" for action in draft.actions),
        placeholders=_placeholders(draft.placeholders),
        available=draft.available,
        impossible=_quoted(draft.impossible),
        outcomes=_row(draft.outcomes),
        ends=_ends(draft.ends),
    )


def _quoted(text: str) -> str:
    """As YAML reads back whatever it is: JSON is YAML."""
    return json.dumps(text, ensure_ascii=False)


def _row(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _placeholders(values: Mapping[str, Sequence[str] | str]) -> str:
    if not values:
        return "# placeholders:\n#   direction: [north, south, east, west]\n#   keywords: free"
    rows = [f"  {key}: {value if isinstance(value, str) else _row(value)}" for key, value in values.items()]
    return "\n".join(["placeholders:", *rows])


def _ends(ends: Mapping[str, Sequence[str]]) -> str:
    if not ends:
        return '# ends:\n#   success: ["buy {thing}"]'
    return "\n".join(["ends:", *(f"  {outcome}: {_row(texts)}" for outcome, texts in ends.items())])


_TEXT = """\
# A world for DreamGym. docs/own-world.md explains every key; `dreamgym new-world --check FOLDER` checks the file
# against tasks.jsonl and trajectories.jsonl beside it. Regular expressions do not care for capitals; in them, {{name}}
# stands for what the action named there.

# One word; every task and trajectory carries it as its `domain`.
name: {name}
# Goes into the instructions of the agent, of the experience model and of the task generator.
description: {description}
# Steps after which an episode is cut off.
horizon: {horizon}

# What the agent can say. {{thing}} stands for any words; of two patterns that fit, the longer one is meant.
actions:
{actions}
# What a placeholder may stand for: a list, or `free` for text that names nothing of the world (search words, answers).
{placeholders}

# What can be done in a state; all else is answered by `impossible`, without the model.
#   grammar   every action that the grammar reads
#   recorded  actions whose names the episode has shown; offered are those that the trajectories hold
#   a list of rules on the state's text, such as
#     - always: look around
#     - find: 'to the (?P<direction>\\w+) you see'
#       action: go {{direction}}
#     - find: '^You can: (.*)$'
#       split: ', '
available: {available}
# What the real environment answers to the rest: `same state`, or a fixed text.
impossible: {impossible}

# How an episode can end by itself, and, if that is so, which actions alone can bring it.
outcomes: {outcomes}
{ends}

# What is put beside an action for the model to look at: lines of the episode that share a name with it (`names`),
# nothing (`none`), or a list of `names` and rules: for actions `when`, if the state has `find`, the latest earlier
# state that has `show`.
recall: names
# recall:
#   - when: go {{direction}}
#     find: 'to the {{direction}} you see the (?P<room>\\w+)'
#     show: '^You are in the {{room}}'
#   - names

# What the episode has shown holds until one of the `changing` actions, so that no model is asked. Leave it out unless
# it is always so; the check holds it against the trajectories.
# known:
#   changing: ["open {{thing}}"]
#   repeats: true          # the same action in the same state leads to the same state
#   lookups: []            # rules as in `recall`

# What a dreamed next state must or must never show; what breaks a rule is dreamed again.
# contradictions:
#   - when: go {{direction}}
#     find: 'to the {{direction}} you see the (?P<room>\\w+)'
#     must: '^You are in the {{room}}'
#     because: it leads into the room that is named

# Whether the next state holds what no history determines: none, all, or a list of actions. Such answers weigh less in
# training, and may be sampled warmer (`open_temperature`).
open: none

# Written from `description` where they are left out.
# agent_instruction: ...
# experience_instruction: ...
# task_instruction: ...
# A regular expression that generated tasks must fit.
# task_form: 'Find the \\w+\\.'

# Files beside this one; these two are found by themselves.
# tasks: tasks.jsonl
# trajectories: trajectories.jsonl
# What gym.make uses as experience model, and the trainers as starting policy, where none is named: a checkpoint folder,
# hf:ORG/NAME, openai:MODEL@URL.
# model: experience
# policy: policy

# A subclass of dreamgym_env.domains.declared.DeclaredDomain that overrides what no key can say. It runs only where the
# caller trusts it: trust_hooks=True, or DREAMGYM_TRUST_HOOKS=1.
# hooks: hooks.py:World
"""
