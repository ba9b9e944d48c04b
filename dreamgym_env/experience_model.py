"""The experience model M_exp (Eq. 4, arXiv:2511.03773): retrieve, prompt, complete, parse, for a batch of contexts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dreamgym_env.domain import Domain
from dreamgym_env.parsing import parse_prediction
from dreamgym_env.prompts import (
    demonstrations_of,
    experience_messages,
    heard,
    retry_message,
    told_steps,
    user_turn,
)
from dreamgym_env.types import (
    Completion,
    Demonstration,
    LanguageModel,
    Message,
    ParseError,
    Prediction,
    Sampling,
    StepContext,
)

WITNESSES = 3
"""Demonstrations that are asked what they show of a step; those of the very same step must agree."""


class Retriever(Protocol):
    """What the experience model needs of a replay buffer."""

    def retrieve(self, contexts: Sequence[StepContext], k: int) -> list[list[Demonstration]]:
        """The top-k demonstrations of each context, most similar first."""
        ...


@dataclass(frozen=True)
class ExperienceConfig:
    """How predictions are made."""

    top_k: int = 3
    """Demonstrations in each prompt, >= 0."""
    temperature: float = 0.7
    """Sampling temperature of the first attempt, >= 0."""
    open_temperature: float | None = None
    """The same where much is open (`Domain.is_open`), >= 0; None for `temperature`. What is determined is best answered
    greedily, what is open has to vary."""
    max_tokens: int = 1024
    """Longest answer, in tokens."""
    attempts: int = 3
    """Completions drawn for a step before it is given up, >= 1."""
    use_rules: bool = True
    """Whether the domain answers impossible actions itself (applied by the environment)."""
    use_known: bool = True
    """Whether the domain repeats what the episode has already shown in full; the model is asked for the rest."""
    brief_known: bool = False
    """Whether those steps stand in the conversation without recalled lines and trace (as the model was trained)."""
    use_recall: bool = True
    """Whether the lines that the action refers to are put beside it."""
    use_contradictions: bool = True
    """Whether predictions that deny what the episode has said are drawn again."""
    use_witnesses: bool = True
    """Whether the domain may take over what real demonstrations show of the very same step (`Domain.witnessed`)."""
    use_mending: bool = True
    """Whether the domain may strike what contradicts out of a prediction (`Domain.mended`) before it is drawn again."""
    explain_retries: bool = False
    """Whether a refused answer and the reason stay in the prompt of the next attempt; for models that read advice."""

    def __post_init__(self) -> None:
        if self.top_k < 0:
            raise ValueError(f"`top_k` must be >= 0, got {self.top_k}")
        if self.attempts < 1:
            raise ValueError(f"`attempts` must be >= 1, got {self.attempts}")
        for name in ("temperature", "open_temperature"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"`{name}` must be >= 0, got {value}")


@dataclass
class _Step:
    """One context on its way through the attempts."""

    context: StepContext
    prompt: str
    demonstrations: list[Demonstration]
    messages: list[Message]
    skipped: int = 0
    """Steps of the past, from the first one on, that the messages leave out."""
    attempts: int = 0
    result: Prediction | ParseError | None = None


class ExperienceModel:
    """Predicts reasoning trace, next state, reward and end for a batch of steps.

    `counts` adds up, over the model's life: `steps`, `known` (those that the episode itself answers), `witnessed`
    (those that real demonstrations do), `completions`, `shortened` (steps whose conversation was too long for the
    language model, so that its first steps were left out), `model_errors` (the language model gave none), `unparsed`,
    `mended`, `contradictions` (drawn again) and `failed` (steps given up).
    """

    def __init__(
        self,
        language_model: LanguageModel,
        domain: Domain,
        replay_buffer: Retriever | None = None,
        config: ExperienceConfig | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        self.card = card or {}
        self.language_model = language_model
        self.domain = domain
        self.replay_buffer = replay_buffer
        self.config = config or ExperienceConfig()
        self.counts: Counter[str] = Counter()

    def predict(self, contexts: Sequence[StepContext]) -> list[Prediction | ParseError]:
        """One prediction for each context, in order; a step that cannot be predicted is a `ParseError` value."""
        known = [self.domain.known(context) for context in contexts]
        asked = [one for one, answered in zip(contexts, known, strict=True) if answered is None]
        shown, witnessed = iter(self._retrieve(asked)), iter(self._witnessed(asked))
        # Demonstrations show what is open; beside what the episode itself determines they would only distract.
        steps = [
            self._ask(context, next(shown), None, next(witnessed))
            if answered is None
            else self._ask(context, [], answered, None)
            for context, answered in zip(contexts, known, strict=True)
        ]
        self.counts["steps"] += len(steps)
        self.counts["known"] += sum(one is not None for one in known) if self.config.use_known else 0
        for attempt in range(self.config.attempts):
            open_steps = [step for step in steps if not isinstance(step.result, Prediction)]
            if not open_steps:
                break
            self._attempt(open_steps, attempt)
        results = [step.result for step in steps]
        self.counts["failed"] += sum(isinstance(result, ParseError) for result in results)
        return [result for result in results if result is not None]

    def _retrieve(self, contexts: Sequence[StepContext]) -> list[list[Demonstration]]:
        if self.replay_buffer is None or self.config.top_k == 0 or not contexts:
            return [[] for _ in contexts]
        return self.replay_buffer.retrieve(contexts, self.config.top_k)

    def _witnessed(self, contexts: Sequence[StepContext]) -> list[Prediction | None]:
        """What the nearest real demonstrations show of each of these very steps, where the domain takes it over."""
        witnessed = getattr(self.domain, "witnessed", None)
        if self.replay_buffer is None or witnessed is None or not self.config.use_witnesses:
            return [None for _ in contexts]
        found: list[Prediction | None] = []
        for context, row in zip(contexts, self.replay_buffer.retrieve(contexts, WITNESSES), strict=True):
            real = [one for one in row if one.transition.source == "real"]
            told: Prediction | None = witnessed(context, [one.transition for one in real])
            sound = told is not None and not self.domain.contradiction(context, told)
            found.append(told if sound else None)
        return found

    def _ask(
        self,
        context: StepContext,
        shown: list[Demonstration],
        known: Prediction | None,
        witnessed: Prediction | None,
    ) -> _Step:
        action = self.domain.parse_action(context.state, context.action)
        brief = known is not None and self.config.use_known and self.config.brief_known
        recalled = self.domain.recall(context) if self.config.use_recall and not brief else []
        prompt = user_turn(action.text if action else context.action, recalled, demonstrations_of(self.domain, shown))
        if known is not None and self.config.use_known:
            known = replace(known, reasoning_trace="") if brief else known
            return _Step(context, prompt, shown, [], result=replace(known, prompt=prompt))
        if witnessed is not None:
            self.counts["witnessed"] += 1
            ids = tuple(one.transition_id for one in shown)
            return _Step(context, prompt, shown, [], result=replace(witnessed, prompt=prompt, demonstration_ids=ids))
        return _Step(context, prompt, shown, experience_messages(self.domain, context, prompt))

    def _attempt(self, steps: list[_Step], attempt: int) -> None:
        """Draws once more for every open step; later attempts are at least warm, so that they can differ."""
        by_temperature: dict[float, list[_Step]] = {}
        for step in steps:
            by_temperature.setdefault(self._temperature(step.context), []).append(step)
        for temperature, alike in by_temperature.items():
            self._complete(alike, temperature if attempt == 0 else max(temperature, 0.5))

    def _temperature(self, context: StepContext) -> float:
        config = self.config
        if config.open_temperature is None or not self.domain.is_open(context):
            return config.temperature
        return config.open_temperature

    def _complete(self, steps: list[_Step], temperature: float) -> None:
        sampling = Sampling(temperature=temperature, max_tokens=self.config.max_tokens)
        while steps:
            completions = self.language_model.complete([step.messages for step in steps], sampling)
            self.counts["completions"] += len(completions)
            shortened = []
            for step, completion in zip(steps, completions, strict=True):
                if completion.overflow and self._shorten(step):
                    shortened.append(step)
                    continue
                step.attempts += 1
                step.result = self._read(step, completion)
                if isinstance(step.result, ParseError) and self.config.explain_retries and completion.text:
                    advice = [{"role": "assistant", "content": completion.text}, retry_message(step.result.reason)]
                    step.messages += advice
            steps = shortened

    def _shorten(self, step: _Step) -> bool:
        """Leaves more of the episode's first steps out; False where none is left.

        Twice as many each time, so that the next steps leave out as many and find the same beginning kept.
        """
        past = len(told_steps(step.context))
        if step.skipped >= past:
            return False
        self.counts["shortened"] += not step.skipped
        step.skipped = min(past, 2 * step.skipped or 1)
        step.messages = experience_messages(self.domain, step.context, step.prompt, step.skipped)
        return True

    def _read(self, step: _Step, completion: Completion) -> Prediction | ParseError:
        if completion.finish_reason == "error":
            self.counts["model_errors"] += 1
            return ParseError(completion.error, "", step.attempts)
        try:
            answer = parse_prediction(completion.text)
            next_state = heard(self.domain, step.context.state, answer.next_state)
        except ValueError as error:
            self.counts["unparsed"] += 1
            return ParseError(str(error), completion.text, step.attempts)
        prediction = Prediction(
            answer.reasoning_trace,
            next_state,
            answer.reward,
            answer.terminated,
            prompt=step.prompt,
            demonstration_ids=tuple(shown.transition_id for shown in step.demonstrations),
            attempts=step.attempts,
        )
        if self.config.use_contradictions and (reason := self.domain.contradiction(step.context, prediction)):
            if mended := self._mended(step.context, prediction):
                self.counts["mended"] += 1
                return mended
            self.counts["contradictions"] += 1
            return ParseError(reason, completion.text, step.attempts)
        return prediction

    def _mended(self, context: StepContext, prediction: Prediction) -> Prediction | None:
        """The prediction as the domain can mend it, where nothing contradicts it any more."""
        mend = getattr(self.domain, "mended", None)
        found: Prediction | None = mend(context, prediction) if mend and self.config.use_mending else None
        return found if found and not self.domain.contradiction(context, found) else None

    def with_config(self, **changes: object) -> ExperienceModel:
        """The same model under another configuration (for ablations); counters start at zero."""
        config = replace(self.config, **changes)  # type: ignore[arg-type]
        return ExperienceModel(self.language_model, self.domain, self.replay_buffer, config, self.card)
