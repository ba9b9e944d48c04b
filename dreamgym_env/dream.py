"""One dreamed episode and how a batch of them takes a step: rules first, then one prediction for all that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dreamgym_env.domain import Domain
from dreamgym_env.experience_model import ExperienceModel
from dreamgym_env.types import EndReason, ParseError, Prediction, StepContext, Task, Trajectory, Transition

StepResult = tuple[str, float, bool, bool, dict[str, Any]]
"""`(next_state, reward, terminated, truncated, info)`, as Gymnasium orders them."""


@dataclass
class Dream:
    """An episode under way. `end_reason` is None until it ends; `state` is what the agent sees."""

    task: Task
    state: str
    transitions: list[Transition] = field(default_factory=list)
    end_reason: EndReason | None = None

    def context(self, action: str) -> StepContext:
        """What the experience model conditions on for this action."""
        return StepContext(self.task, tuple(self.transitions), self.state, action)

    def trajectory(self, policy: str = "", trajectory_id: str = "") -> Trajectory:
        """The episode as data.

        Raises:
            ValueError: it has not ended.
        """
        if self.end_reason is None:
            raise ValueError(f"the episode of {self.task.task_id} has not ended after {len(self.transitions)} steps")
        return Trajectory(self.task, tuple(self.transitions), self.end_reason, policy, trajectory_id)


def begin(task: Task) -> Dream:
    """A dream at its task's initial state."""
    return Dream(task, task.initial_state)


def step_all(model: ExperienceModel, dreams: Sequence[Dream], actions: Sequence[str], horizon: int) -> list[StepResult]:
    """One step of every dream, with one batch of predictions for those whose action the rules let through.

    Raises:
        ValueError: a dream has already ended; reset it first.
    """
    for dream in dreams:
        if dream.end_reason is not None:
            raise ValueError(f"the episode of {dream.task.task_id} has ended ({dream.end_reason}); call reset first")
    contexts = [
        dream.context(_canonical(model.domain, dream.state, action))
        for dream, action in zip(dreams, actions, strict=True)
    ]
    asked = [index for index, context in enumerate(contexts) if not _ruled_out(model, context)]
    predictions = dict(zip(asked, model.predict([contexts[index] for index in asked]), strict=True))
    return [
        _advance(model.domain, dream, contexts[index], predictions.get(index), horizon)
        for index, dream in enumerate(dreams)
    ]


def _ruled_out(model: ExperienceModel, context: StepContext) -> bool:
    return model.config.use_rules and not is_possible(model.domain, context)


def is_possible(domain: Domain, context: StepContext) -> bool:
    """Whether the grammar knows the action and it can be done now."""
    parsed = domain.parse_action(context.state, context.action)
    return parsed is not None and domain.is_possible(context, parsed)


def rules_answer(domain: Domain, context: StepContext) -> Prediction:
    """What comes of an action that cannot be done; no model is asked."""
    return Prediction("", domain.impossible_response(context.state, context.action), 0.0, False, attempts=0)


def _advance(
    domain: Domain, dream: Dream, context: StepContext, result: Prediction | ParseError | None, horizon: int
) -> StepResult:
    """Writes the step into the dream; `result` is None where the rules answered instead of the model."""
    if isinstance(result, ParseError):
        dream.end_reason = "model_error"
        return context.state, 0.0, False, True, describe(domain, dream, None, error=result.reason)
    possible = result is not None and is_possible(domain, context)
    if result is None:
        result = rules_answer(domain, context)
    transition = Transition(
        task=dream.task,
        step_index=len(dream.transitions),
        state=context.state,
        action=context.action,
        next_state=result.next_state,
        reward=result.reward,
        terminated=result.terminated,
        reasoning_trace=result.reasoning_trace,
        source="dream",
        possible=possible,
        prompt=result.prompt,
    )
    dream.transitions.append(transition)
    dream.state = result.next_state
    truncated = not result.terminated and len(dream.transitions) >= horizon
    if result.terminated:
        dream.end_reason = "success" if result.reward > 0 else "failure"
    elif truncated:
        dream.end_reason = "time_limit"
    info = describe(domain, dream, result, possible=possible)
    return result.next_state, result.reward, result.terminated, truncated, info


def _canonical(domain: Domain, state: str, action: str) -> str:
    """The action as the grammar writes it; as it is where it knows none such."""
    parsed = domain.parse_action(state, action)
    return parsed.text if parsed else action


def describe(
    domain: Domain, dream: Dream, prediction: Prediction | None, possible: bool = True, error: str = ""
) -> dict[str, Any]:
    """The `info` of a reset or step; `docs/environment.md` defines every key."""
    ended = dream.end_reason is not None
    return {
        "task": dream.task,
        "instruction": dream.task.instruction,
        "available_actions": [] if ended else domain.available_actions(dream.state, tuple(dream.transitions)),
        "reasoning_trace": prediction.reasoning_trace if prediction else "",
        "demonstrations": list(prediction.demonstration_ids) if prediction else [],
        "attempts": prediction.attempts if prediction else 0,
        "possible": possible,
        "success": dream.end_reason == "success",
        "end_reason": dream.end_reason,
        "error": error,
    }
