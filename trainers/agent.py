"""The LLM agent: its append-only chat as token ids, its answer format, and the rollout that remembers both.

An episode is one chat: the system message and the task with the first state, the agent's response, the next state,
its response, ...; or, where a window of the last steps is shown, one such chat for each turn. Every token is made once,
by the tokenizer (what the environment says) or by the sampler (what the agent says), and is never decoded and encoded
again, so that training sees what was sampled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dreamgym_env.types import Message, ModelError, Task, Trajectory, Transition

_ACTION = re.compile(r"<action>(.*?)</action>", re.DOTALL)
_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_TAG = re.compile(r"</?(?:action|think)>")
_PROBE = "zqxprobe"
_THINKING = f"<think>\n{_PROBE} thought\n</think>\n\n"


@dataclass(frozen=True)
class Turn:
    """One exchange: the ids that came in since the last response (or, in windows, the whole prompt), the sampled ids
    and their log-probabilities.

    `response_logprobs` are natural logs at the sampling temperature, one per response id (or empty for
    demonstrations, which nobody sampled). `valid`: an action of the grammar could be read; `possible`: the state
    offered it; `trained`: the response may be learned from; `cut`: it hit the token limit before its end.
    `told_tokens`: how many tokens an endpoint counted in a response of which only the text came, None where it did not.
    """

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    response_logprobs: tuple[float, ...] = ()
    valid: bool = True
    possible: bool = True
    trained: bool = True
    cut: bool = False
    told_tokens: int | None = None

    @property
    def counted_tokens(self) -> int | None:
        """Tokens of the response, None where it came as text and nobody counted them."""
        return len(self.response_ids) if self.prompt_ids or self.response_ids else self.told_tokens


@dataclass(frozen=True)
class Rollout:
    """A trajectory with its tokens. `reward` is the outcome reward, summed over the steps.

    `closing_ids` are what the agent would have read next, () where the episode came to its end instead of being cut
    off. `windowed`: each turn is a sequence of its own.
    """

    trajectory: Trajectory
    turns: tuple[Turn, ...]
    closing_ids: tuple[int, ...] = ()
    windowed: bool = False

    @property
    def reward(self) -> float:
        return sum(transition.reward for transition in self.trajectory.transitions)

    @property
    def context_overflow(self) -> bool:
        """Whether the episode ended because the next turn did not fit into the context."""
        return self.trajectory.end_reason == "context_overflow"

    @property
    def sequences(self) -> list[Rollout]:
        """What the network reads in one pass each: the whole episode, or in windows each of its turns."""
        return [replace(self, turns=(turn,)) for turn in self.turns] if self.windowed else [self]

    @property
    def token_ids(self) -> list[int]:
        """The whole episode, (T,); in windows one turn's sequence after another."""
        return [token for turn in self.turns for token in (*turn.prompt_ids, *turn.response_ids)]

    @property
    def response_mask(self) -> list[bool]:
        """True where the agent wrote the token and may learn from it, (T,)."""
        return [bool(value) for value in self.per_token([float(turn.trained) for turn in self.turns])]

    @property
    def logprobs(self) -> list[float]:
        """The sampler's log-probability of each response token, 0.0 elsewhere, (T,)."""
        values: list[float] = []
        for turn in self.turns:
            values += [0.0] * len(turn.prompt_ids)
            values += turn.response_logprobs or [0.0] * len(turn.response_ids)
        return values

    @property
    def response_tokens(self) -> int:
        return sum(len(turn.response_ids) for turn in self.turns)

    @property
    def counted_tokens(self) -> int | None:
        """As `response_tokens`, but also of responses without ids; None where nobody counted those."""
        told = [turn.counted_tokens for turn in self.turns]
        known = [count for count in told if count is not None]
        return sum(known) if len(known) == len(told) else None

    @property
    def per_step_tokens(self) -> int:
        """Tokens that the same episode would take as one sample per turn, each with all that came before it."""
        total = length = 0
        for turn in self.turns:
            length = (0 if self.windowed else length) + len(turn.prompt_ids) + len(turn.response_ids)
            total += length
        return total

    @property
    def invalid_actions(self) -> int:
        """Responses from which no action of the grammar could be read."""
        return sum(not turn.valid for turn in self.turns)

    @property
    def impossible_actions(self) -> int:
        """Actions of the grammar that the state did not offer."""
        return sum(turn.valid and not turn.possible for turn in self.turns)

    @property
    def cut_responses(self) -> int:
        """Responses that hit the token limit."""
        return sum(turn.cut for turn in self.turns)

    def per_token(self, values: Sequence[float]) -> list[float]:
        """One value per turn spread over its response tokens, 0.0 on all others, (T,)."""
        spread = [value for turn, value in zip(self.turns, values, strict=True) for _ in turn.response_ids]
        return self.at_responses(spread)

    def at_responses(self, values: Sequence[float]) -> list[float]:
        """One value per response token, in their order, with 0.0 on all other tokens, (T,)."""
        left, placed = iter(values), list[float]()
        for turn in self.turns:
            placed += [0.0] * len(turn.prompt_ids) + [next(left) for _ in turn.response_ids]
        assert next(left, None) is None, "as many values as response tokens"
        return placed


def opening_message(task: Task, state: str) -> str:
    """The first user turn: the task, then the state in which the episode starts."""
    return f"Task: {task.instruction}\n{state_message(state)}"


def state_message(state: str) -> str:
    """A later user turn: the state that the last action led to."""
    return f"State:\n{state}"


def window_message(task: Task, steps: Sequence[Transition], state: str, history: int) -> str:
    """A user turn that needs no earlier one: the task, the number of steps so far, the last `history` of them as
    (state, action), and the present state."""
    lines = [f"Task: {task.instruction}", f"Steps so far: {len(steps)}"]
    for number, step in list(enumerate(steps, 1))[max(0, len(steps) - history) :]:
        lines += [
            f"State before step {number}:",
            step.state,
            f"Action of step {number}: {' '.join(step.action.split())}",
        ]
    return "\n".join([*lines, state_message(state)])


def read_action(response: str) -> str:
    """The action that a response names, "" when it names none.

    The last `<action>...</action>` counts; without one, the last non-empty line outside `<think>...</think>`.
    An `<action>` or `<think>` that is never closed names nothing: the response was cut off.
    """
    answer = response.rpartition("</think>")[2]
    tagged = _ACTION.findall(answer)
    if tagged:
        return str(tagged[-1]).strip()
    if _TAG.search(answer):
        return ""
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def read_thought(response: str) -> str:
    """What stands inside the last `<think>...</think>` of a response, "" where it has none."""
    thoughts = _THOUGHT.findall(response)
    return str(thoughts[-1]).strip() if thoughts else ""


def write_response(action: str, thought: str = "") -> str:
    """The canonical response for an action; `read_action` reads it back. `thought` is left out where it is empty."""
    thinking = f"<think>{thought}</think>\n" if thought else ""
    return f"{thinking}<action>{action}</action>"


class AgentChat:
    """Turns what the environment says into token ids, each only once.

    Args:
        tokenizer: a `transformers` tokenizer with a chat template.
        instruction: the system message (`Domain.agent_instruction`); put before the first user turn where the
            template knows no system role.
        grows: whether the chat grows from turn to turn; False where each turn shows a window and any template will do.

    Raises:
        ModelError: the tokenizer has no chat template, or the chat `grows` and its template rewrites earlier turns
            (drops earlier `<think>` blocks, for example), so that it would not be one growing sequence.
    """

    def __init__(self, tokenizer: Any, instruction: str, grows: bool = True) -> None:
        self.tokenizer, self.instruction = tokenizer, instruction
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError("the policy's tokenizer must have a chat template, got none; set `chat_template`")
        self._system_role = self._has_system_role()
        if grows:
            self._check_append_only()

    def first_ids(self, task: Task, state: str) -> tuple[int, ...]:
        """Ids of everything before the first response."""
        return self._encode(self._render(self._head(opening_message(task, state))))

    def window_ids(self, task: Task, steps: Sequence[Transition], state: str, history: int) -> tuple[int, ...]:
        """Ids of everything before a response that sees the last `history` steps."""
        return self._encode(self._render(self._head(window_message(task, steps, state, history))))

    def next_ids(self, state: str, last_response_id: int | None) -> tuple[int, ...]:
        """Ids between a response and the next one. An end-of-turn token that the response already holds is left out."""
        ids = self._encode(self._between(state_message(state)))
        return ids[1:] if ids and ids[0] == last_response_id else ids

    def response_ids(self, text: str) -> tuple[int, ...]:
        """Ids of a response that nobody sampled (a demonstration), its end-of-turn token included."""
        return (*self._encode(text), self._encode(self._between(""))[0])

    def _head(self, user: str) -> list[Message]:
        if self._system_role:
            return [{"role": "system", "content": self.instruction}, {"role": "user", "content": user}]
        return [{"role": "user", "content": f"{self.instruction}\n\n{user}"}]

    def _between(self, user: str) -> str:
        """The text from the end of an assistant's content to where the next response starts."""
        chat: list[Message] = [*self._head(_PROBE), {"role": "assistant", "content": _PROBE}]
        return self._render([*chat, {"role": "user", "content": user}]).partition(_PROBE)[2].partition(_PROBE)[2]

    def _render(self, chat: list[Message]) -> str:
        return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _has_system_role(self) -> bool:
        from jinja2 import TemplateError

        try:
            text = self._render([{"role": "system", "content": _PROBE}, {"role": "user", "content": "x"}])
        except TemplateError:
            return False
        return _PROBE in text

    def _check_append_only(self) -> None:
        head = self._head("x")
        start = self._render(head)
        for response in (_PROBE, _THINKING + _PROBE):
            grown = self._render([*head, {"role": "assistant", "content": response}, {"role": "user", "content": "y"}])
            if not grown.startswith(start + response):
                what = "its `<think>` block" if response != _PROBE else "its beginning"
                raise ModelError(
                    f"the chat template must be append-only, but it changes an earlier response ({what}): expected "
                    f"{start + response!r} to stay a prefix, got {grown!r}; set `chat_template` to a template that "
                    "keeps every turn whole"
                )
