"""Typed values to chat messages: what the experience model is shown and what its answer looks like.

An episode is one conversation that only ever grows: each step adds a user turn (recalled lines, demonstrations, the
quoted action) and the answer. Nothing that was said is taken back, so that a prefix cache, ours or a server's, keeps
all but the newest turn, and a whole trajectory trains as one sequence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from dreamgym_env.domain import Domain
from dreamgym_env.types import Demonstration, Message, StepContext, Task, Transition

CONTINUE, SUCCESS, FAILURE = "continue", "success", "failure"


def quote(action: str) -> str:
    """The action as data: a JSON string whose angle brackets are escaped, so that it cannot open or close a tag."""
    return json.dumps(action, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")


def opening(task: Task, state: str) -> str:
    """What the first user turn says before its action: the task and the state that the episode starts in."""
    return f"Task: {task.instruction}\nState:\n{state}\n"


def demonstration_text(demonstration: Transition) -> str:
    """A retrieved transition, short: its action and what it led to."""
    lines = [f"Action: {quote(demonstration.action)}", demonstration.next_state]
    if demonstration.terminated:
        lines.append(f"Outcome: {outcome(demonstration.reward, True)}")
    return "\n".join(lines)


def user_turn(action: str, recalled: Sequence[str], demonstrations: Sequence[Transition]) -> str:
    """One step's question: recalled lines, then demonstrations, then the quoted action right before the answer."""
    parts = []
    if recalled:
        parts.append("Seen before:\n" + "\n".join(recalled))
    if demonstrations:
        parts.append("Similar steps:\n" + "\n".join(demonstration_text(shown) for shown in demonstrations))
    return "\n".join([*parts, f"Action: {quote(action)}"])


def outcome(reward: float, terminated: bool) -> str:
    """`continue`, `success` or `failure`."""
    if not terminated:
        return CONTINUE
    return SUCCESS if reward > 0 else FAILURE


def answer(reasoning_trace: str, next_state: str, reward: float, terminated: bool) -> str:
    """The canonical completion; `parsing.parse_prediction` reads it back."""
    reasoning = f"<reasoning>{reasoning_trace}</reasoning>\n" if reasoning_trace else ""
    return f"{reasoning}<state>\n{next_state}\n</state>\n<outcome>{outcome(reward, terminated)}</outcome>"


def experience_messages(domain: Domain, context: StepContext, prompt: str) -> list[Message]:
    """The conversation up to and including this step's question `prompt` (from `user_turn`).

    Steps at which nothing happened (impossible actions that the domain answered) are left out: they changed nothing.
    """
    messages: list[Message] = [{"role": "system", "content": domain.experience_instruction}]
    past = [transition for transition in context.history if transition.possible or transition.prompt]
    head = opening(context.task, context.task.initial_state)
    for transition in past:
        turn = transition.prompt or user_turn(transition.action, (), ())
        reply = answer(transition.reasoning_trace, transition.next_state, transition.reward, transition.terminated)
        messages += [{"role": "user", "content": head + turn}, {"role": "assistant", "content": reply}]
        head = ""
    return [*messages, {"role": "user", "content": head + prompt}]


def retry_message(reason: str) -> Message:
    """Tells the experience model why its last answer was refused."""
    return {"role": "user", "content": f"That cannot be: {reason}\nAnswer again."}


def demonstrations_of(retrieved: Sequence[Demonstration]) -> list[Transition]:
    """The transitions alone, in order of similarity."""
    return [demonstration.transition for demonstration in retrieved]
