"""Typed values to chat messages: what the experience model is shown and what its answer looks like.

An episode is one conversation that only ever grows: each step adds a user turn (recalled lines, demonstrations, the
quoted action) and the answer. Nothing that was said is taken back, so that a prefix cache, ours or a server's, keeps
all but the newest turn, and a whole trajectory trains as one sequence. Where it outgrows the model's context, its first
steps are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from dreamgym_env.domain import Domain
from dreamgym_env.types import Demonstration, Message, StepContext, Task, Transition

CONTINUE, SUCCESS, FAILURE = "continue", "success", "failure"


def quote(action: str) -> str:
    """The action as data: a JSON string whose angle brackets are escaped, so that it cannot open or close a tag."""
    return json.dumps(action, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")


def told(domain: Domain, before: str, state: str) -> str:
    """A state as the experience model reads and writes it after the state `before` ("" at first): as it is, or as the
    domain's `shorten` puts it where it has one."""
    shorten = getattr(domain, "shorten", None)
    return str(shorten(before, state)) if shorten else state


def heard(domain: Domain, before: str, text: str) -> str:
    """The state that `told` made this text of.

    Raises:
        ValueError: there is no such state.
    """
    restore = getattr(domain, "restore", None)
    return str(restore(before, text)) if restore else text


def in_words(domain: Domain, state: str, action: str) -> str:
    """The action as the replay buffer embeds and shows it: as it is, or as the domain's `in_words` puts it where it has
    one. `click('17')` means another thing on every page; what comes of it depends on the thing."""
    words = getattr(domain, "in_words", None)
    return str(words(state, action)) if words else action


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


def answer_of(domain: Domain, step: Transition) -> str:
    """The completion that a transition was, or should have been."""
    state = told(domain, step.state, step.next_state)
    return answer(step.reasoning_trace, state, step.reward, step.terminated)


def told_steps(context: StepContext) -> list[Transition]:
    """The steps of the past that stand in the conversation.

    Those at which nothing happened (impossible actions that the domain answered) are left out: they changed nothing.
    """
    return [transition for transition in context.history if transition.possible or transition.prompt]


def experience_messages(domain: Domain, context: StepContext, prompt: str, skipped: int = 0) -> list[Message]:
    """The conversation up to and including this step's question `prompt` (from `user_turn`).

    Without the first `skipped` of `told_steps` it reads as if the episode had begun in the state behind them.
    """
    messages: list[Message] = [{"role": "system", "content": domain.experience_instruction}]
    past = told_steps(context)[skipped:]
    start = context.task.initial_state if not skipped else past[0].state if past else context.state
    head = opening(context.task, told(domain, "", start))
    for transition in past:
        turn = transition.prompt or user_turn(transition.action, (), ())
        reply = answer_of(domain, transition)
        messages += [{"role": "user", "content": head + turn}, {"role": "assistant", "content": reply}]
        head = ""
    return [*messages, {"role": "user", "content": head + prompt}]


def retry_message(reason: str) -> Message:
    """Tells the experience model why its last answer was refused."""
    return {"role": "user", "content": f"That cannot be: {reason}\nAnswer again."}


def demonstrations_of(domain: Domain, retrieved: Sequence[Demonstration]) -> list[Transition]:
    """The transitions alone, in order of similarity, as the experience model reads them."""
    return [as_told(domain, demonstration.transition) for demonstration in retrieved]


def as_told(domain: Domain, step: Transition) -> Transition:
    """A transition to be shown, with its action in words and its next state as the experience model reads it."""
    action, next_state = in_words(domain, step.state, step.action), told(domain, step.state, step.next_state)
    return replace(step, action=action, next_state=next_state)
