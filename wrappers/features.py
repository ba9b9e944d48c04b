"""Numbers for agents that read no text: what a state offers, one row for each action; pure, without an environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dreamgym_env.domain import Domain
from dreamgym_env.encoders import Encoder, state_action_text
from dreamgym_env.types import StepContext, Task, Transition

Floats = NDArray[np.float32]
SCALARS = ("available", "lean", "asked", "fitting", "best", "taken", "last", "shown", "amount", "query", "time")
"""The columns before the embedding; `Features` tells what each holds."""
_WORD = re.compile(r"[a-z0-9]+(?:\.[0-9]+)?")
_AMOUNT = re.compile(r"\d+\.\d\d")
_BLANK = re.compile(r"<[^<>]*>")
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and any are buy dollars find for from get i in is it looking lower me my need of on or price put please "
        "some than that the then to under want which with would like you your",
    )
)
"""Words that say nothing of what is asked for."""


def queries(instruction: str) -> list[str]:
    """What may be typed where an action leaves a blank (`search[<keywords>]`): up to three texts of the instruction.

    The words of its head, which ends at the first ` with ` or `, and ` and begins after `Find me`; the head's last part
    between commas, which names the thing; all words that carry meaning but amounts. No query is given twice.
    """
    text = " ".join(_AMOUNT.sub("", instruction.lower()).split()).rstrip(".")
    head = re.split(r" with |,? and price |, and ", text)[0]
    parts = [head.replace(",", " "), head.split(",")[-1], text]
    found = [" ".join(word for word in re.findall(r"[\w.'-]+", part) if word not in _STOP) for part in parts]
    return list(dict.fromkeys(query for query in found if query)) or [text or "anything"]


@dataclass
class Episode:
    """An episode as its features see it: the present state, what it offers, what was done."""

    task: Task
    state: str
    available: Sequence[str]
    history: list[Transition] = field(default_factory=list)


@dataclass(frozen=True)
class Features:
    """Turns an episode's present state into a float32 array [1 + max_actions, columns] and its actions' texts.

    Row 0 embeds the state beside the instruction. Row 1 + i embeds action i beside the lines of this episode that it
    refers to (`Domain.recall`: the row of the clicked product). Before the embedding stand the numbers `SCALARS`:
    `available` (1 where row i has an action: it is the mask), `lean` (a first guess of the action's worth: `fitting`
    less twice `taken`), `asked` (share of the instruction's words in the action
    and its lines), `fitting` (share of the action's words in the instruction), `best` (`asked` less the greatest
    `asked` of the state), `taken` (how often in this episode: n / (1 + n)), `last` (1 for the action just taken),
    `shown` (1 where the state shows the action's argument more than once, as a chosen option is), `amount` (1 where the
    first amount of the lines, such as 22.99, is at most the last one of the instruction, -1 where it is more, else 0),
    `query` (1 for a filled blank), `time` (share of the horizon used, also in row 0; None is the domain's horizon).

    A state that offers more than `max_actions` keeps those that share most words with the instruction, then those
    taken least often, then the first on the page; so what was tried makes room, and every action comes up in the end
    while the state stays. How many were left out is told.
    """

    encoder: Encoder
    max_actions: int
    horizon: int | None
    queries: Callable[[str], Sequence[str]] = queries

    def choices(self, domain: Domain, episode: Episode) -> tuple[list[str], list[str], int]:
        """At most `max_actions` actions, blanks filled; the lines that each refers to; how many were left out."""
        filled = [one for action in episode.available for one in _filled(action, episode.task, self.queries)]
        lines = [_lines(domain, episode, action) for action in filled]
        if len(filled) <= self.max_actions:
            return filled, lines, 0
        wanted, taken = _words(episode.task.instruction), [step.action for step in episode.history]
        ranks = [
            (-len(wanted & _words(f"{_argument(action)} {line}")), taken.count(action), index)
            for index, (action, line) in enumerate(zip(filled, lines, strict=True))
        ]
        kept = sorted(index for *_, index in sorted(ranks)[: self.max_actions])
        return [filled[index] for index in kept], [lines[index] for index in kept], len(filled) - len(kept)

    def array(self, domain: Domain, episode: Episode, actions: Sequence[str], lines: Sequence[str]) -> Floats:
        """Float32 [1 + max_actions, len(SCALARS) + d]; rows without an action are 0."""
        texts = [state_action_text(episode.state, episode.task.instruction)]
        texts += [state_action_text(line, action) for action, line in zip(actions, lines, strict=True)]
        vectors = self.encoder.encode(texts)
        result = np.zeros((1 + self.max_actions, len(SCALARS) + vectors.shape[1]), dtype=np.float32)
        result[: len(texts), len(SCALARS) :] = vectors
        result[1 : len(texts), : len(SCALARS)] = self._scalars(episode, actions, lines)
        used = len(episode.history) / (self.horizon or domain.horizon)
        result[: len(texts), SCALARS.index("time")] = min(used, 1.0)
        return result

    def _scalars(self, episode: Episode, actions: Sequence[str], lines: Sequence[str]) -> Floats:
        wanted, taken = _words(episode.task.instruction), [step.action for step in episode.history]
        bound = _AMOUNT.findall(episode.task.instruction)[-1:]
        rows = np.zeros((len(actions), len(SCALARS)), dtype=np.float32)
        for row, action, line in zip(rows, actions, lines, strict=True):
            argument = _argument(action)
            words, count = _words(f"{argument} {line}"), taken.count(action)
            amount = _AMOUNT.findall(line)[:1]
            shared = len(wanted & words)
            row[0], row[2], row[3] = 1, shared / max(len(wanted), 1), shared / max(len(words), 1)
            row[5], row[6] = count / (1 + count), taken[-1:] == [action]
            row[7] = episode.state.lower().count(argument.lower()) > 1
            row[8] = np.sign(float(bound[0]) - float(amount[0]) + 1e-9) if bound and amount else 0
            row[9] = action not in episode.available
        if len(rows):
            rows[:, 1] = (rows[:, 3] - 2 * rows[:, 5]).clip(-1, 1)
            rows[:, 4] = rows[:, 2] - rows[:, 2].max()
        return rows


def _filled(action: str, task: Task, fill: Callable[[str], Sequence[str]]) -> list[str]:
    """The action, or where it has a blank one action for each query."""
    if not _BLANK.search(action):
        return [action]
    return [query.join(_BLANK.split(action)) for query in fill(task.instruction)]


def _lines(domain: Domain, episode: Episode, action: str) -> str:
    return "\n".join(domain.recall(StepContext(episode.task, tuple(episode.history), episode.state, action)))


def _argument(action: str) -> str:
    """What stands in the action's brackets; without brackets all but its verb."""
    inside = re.search(r"\[(.*)\]", action, re.DOTALL)
    return inside[1] if inside else action.partition(" ")[2]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _STOP
