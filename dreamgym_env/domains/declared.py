"""A domain made of a YAML file: `DeclaredDomain`, whose every answer follows from the patterns and rules given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from dreamgym_env.domain import Action, Assets
from dreamgym_env.domains.declared_grammar import Bindings, Grammar, Offer, Pattern, expanded
from dreamgym_env.domains.declared_rules import Demand, Lookup, Memory, Offering, lines_about
from dreamgym_env.types import Prediction, StepContext, Task, Transition

Openness = Literal["all", "none"] | tuple[Pattern, ...]
_TASK_LENGTH = 1_000


@dataclass(frozen=True, eq=False)
class DeclaredDomain:
    """See `dreamgym_env.domain.Domain` for what each member means, and `docs/own-world.md` for the file's keys.

    A subclass may override any method and call the declared one by `super()` (the file's `hooks`).
    """

    name: str
    horizon: int
    agent_instruction: str
    experience_instruction: str
    task_instruction: str
    grammar: Grammar
    available: Literal["grammar", "recorded"] | tuple[Offering, ...]
    impossible: str | None
    """The text that answers an impossible action; None for the same state again."""
    recall_names: bool
    lookups: tuple[Lookup, ...]
    memory: Memory | None
    demands: tuple[Demand, ...]
    outcomes: tuple[str, ...]
    ends: Mapping[str, tuple[Pattern, ...]]
    """Outcome to the actions that may bring it, where the file says so."""
    open: Openness
    task_form: re.Pattern[str] | None
    assets: Assets = field(repr=False)

    def parse_action(self, state: str, action: str) -> Action | None:
        found = self.grammar.read(action)
        if found is None:
            return None
        for offer in self.offers(state, ()) if isinstance(self.available, tuple) else ():
            if offer.covers(*found):  # as the state spells it
                found = found[0], {**found[1], **offer.bindings}
        pattern, bindings = found
        argument = bindings[pattern.names[0]] if pattern.names else ""
        return Action(pattern.name, argument, pattern.write(bindings))

    def is_possible(self, context: StepContext, action: Action) -> bool:
        found = self.grammar.read(action.text)
        if found is None:
            return False
        if self.available == "recorded":
            names = found[0].named(found[1])
            return _all_shown(names, _shown(self.standing(context.state, context.history), context.history))
        return any(offer.covers(*found) for offer in self.offers(context.state, context.history))

    def impossible_response(self, state: str, action: str) -> str:
        return state if self.impossible is None else self.impossible

    def available_actions(self, state: str, history: tuple[Transition, ...]) -> list[str]:
        return list(dict.fromkeys(offer.text for offer in self.offers(state, history)))

    def offers(self, state: str, history: tuple[Transition, ...]) -> list[Offer]:
        """What can be done now, in the order of the file or of the first recording."""
        now = self.standing(state, history)
        if isinstance(self.available, tuple):
            return [offer for rule in self.available for offer in rule.offers(self.grammar, now)]
        if self.available == "grammar":
            return expanded(self.grammar.patterns)
        shown = _shown(now, history)
        return [offer for offer in self.recorded if _all_shown(offer.bindings, shown)]

    @cached_property
    def recorded(self) -> tuple[Offer, ...]:
        """Every possible action of the trajectories once, in the order in which they come."""
        from dreamgym_env.trajectories import read_trajectories

        found: dict[str, Offer] = {}
        for trajectory in read_trajectories(self.assets.trajectories) if self.assets.trajectories else ():
            for step in trajectory.transitions:
                if step.possible and (read := self.grammar.read(step.action)):
                    offer = Offer(read[0], read[0].named(read[1]))
                    found.setdefault(offer.text, offer)
        return tuple(found.values()) or tuple(expanded(self.grammar.patterns))

    def standing(self, state: str, history: Sequence[Transition]) -> str:
        """The state as it was before impossible actions, which changed nothing, were answered with a fixed text."""
        for step in reversed(history):
            if step.possible or self.impossible is None or state != self.impossible:
                break
            state = step.state
        return state

    def recall(self, context: StepContext) -> list[str]:
        """The states that the file's rules look up, then lines that share a name with the action, newest first."""
        read, earlier = self.grammar.read, self._states(context)
        now, found = earlier[0], self.grammar.read(context.action)
        lines: list[str] = []
        for rule in self.lookups:
            lines += (rule.look(read, now, context.action, earlier[1:]) or "").splitlines()
        if self.recall_names and found:
            lines += [one for one in lines_about([*found[0].named(found[1]).values()], earlier) if one not in lines]
        return lines

    def _states(self, context: StepContext) -> list[str]:
        """The present state and those before it, newest first."""
        now = self.standing(context.state, context.history)
        return [now, *(step.state for step in reversed(context.history) if step.possible)]

    def known(self, context: StepContext) -> Prediction | None:
        found = self.grammar.read(context.action)
        if self.memory is None or found is None or any(found[0] in patterns for patterns in self.ends.values()):
            return None
        now = StepContext(context.task, context.history, self.standing(context.state, context.history), context.action)
        action = self.grammar.parse(context.action)
        if action is None or not self.is_possible(now, action):
            return None
        state = self.memory.recalled(self.grammar.read, now, action.text)
        return None if state is None else Prediction("", state, 0.0, False, attempts=0)

    def is_open(self, context: StepContext) -> bool:
        found = self.grammar.read(context.action)
        said = self.open == "all" or (self.open != "none" and found is not None and found[0] in self.open)
        return said and self.known(context) is None

    def contradiction(self, context: StepContext, prediction: Prediction) -> str | None:
        action = self.parse_action(context.state, context.action)
        if action is None or not self.is_possible(context, action):
            told = self.impossible_response(context.state, context.action)
            changed = prediction.terminated or prediction.next_state != told
            return f"the action is impossible here, so it must show\n{told}" if changed else None
        if reason := self._false_end(context, prediction):
            return reason
        if not prediction.terminated:
            if not prediction.next_state.strip():
                return "the next state must not be empty"
            known = self.known(context)
            if known and known.next_state != prediction.next_state:
                return f"must show\n{known.next_state}"
        reasons = (rule.broken(self.grammar.read, context, prediction.next_state) for rule in self.demands)
        return next((reason for reason in reasons if reason), None)

    def _false_end(self, context: StepContext, prediction: Prediction) -> str | None:
        if not prediction.terminated:
            return None
        outcome = "success" if prediction.reward > 0 else "failure"
        if outcome not in self.outcomes:
            return f"an episode ends with {' or '.join(self.outcomes)} or goes on"
        found, allowed = self.grammar.read(context.action), self.ends.get(outcome)
        if allowed is not None and (found is None or found[0] not in allowed):
            return f"{outcome} comes with {' or '.join(one.text for one in allowed)} only"
        return None

    def task_problem(self, task: Task) -> str | None:
        text = task.instruction.strip()
        if not text or "\n" in text or len(text) > _TASK_LENGTH:
            return f"must be one line of at most {_TASK_LENGTH} characters"
        if self.task_form and not self.task_form.fullmatch(text):
            return f"must be of the form {self.task_form.pattern!r}"
        return None


def _shown(state: str, history: Sequence[Transition]) -> str:
    return "\n".join([state, *(step.state for step in history)]).lower()


def _all_shown(bindings: Bindings, shown: str) -> bool:
    """Whether every name of an action stands in the text as a word."""
    return all(re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", shown) for name in bindings.values())
