"""A language model that tells what the real web did, from the bundled real episodes, and what these episodes are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from dreamed_shop import asked_actions

from dreamgym_env.domain import load_domain
from dreamgym_env.domains.web import WEBARENA
from dreamgym_env.domains.web_page import page_of
from dreamgym_env.loading import embedded_trajectories_path
from dreamgym_env.prompts import answer, opening, told
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import Completion, Conversation, Sampling, StepContext, Task, Trajectory, Transition


@cache
def recorded(domain: str) -> tuple[Trajectory, ...]:
    """The bundled real episodes of a domain."""
    return tuple(read_trajectories(embedded_trajectories_path(domain)))


@cache
def pages(domain: str) -> tuple[Task, ...]:
    """The tasks that some of them won by at least two actions, each once."""
    won = {one.task.task_id: one.task for one in recorded(domain) if wins(one)}
    return tuple(won.values())


def wins(episode: Trajectory) -> bool:
    steps = episode.transitions
    return episode.success and len(steps) > 1 and all(step.possible and "99" not in step.action for step in steps)


def guessed(episode: Trajectory) -> bool:
    """Whether a success on the sites was luck: what its task asks for stands on no page that the agent had seen."""
    *before, last = episode.transitions
    page, call = page_of(last.state), WEBARENA.call_of(last.state, last.action)
    if episode.task.domain != "webarena" or not episode.success or page is None or call is None:
        return False
    return WEBARENA.rules.end(StepContext(episode.task, tuple(before), last.state, last.action), page, call).unproven


def recorded_actions(task: Task) -> list[str]:
    """What won the task."""
    episode = next(one for one in recorded(task.domain) if one.task == task and wins(one))
    return [step.action for step in episode.transitions]


class RecordedModel:
    """Answers with what came next in the recorded episode that began with the conversation's task and actions. Where
    tasks tell the same instruction and first page and differ in what comes later (MiniWoB's seeds), `task_id` says
    which of them is meant."""

    def __init__(self, domain: str) -> None:
        self.domain, self.asked = load_domain(domain), 0
        self.task_id: str | None = None

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        self.asked += len(conversations)
        return [Completion(self.reply(conversation)) for conversation in conversations]

    def reply(self, conversation: Conversation) -> str:
        _, actions = asked_actions(conversation)
        asked = next(message["content"] for message in conversation if message["role"] == "user")
        step = next(step for step in self._steps(asked, actions))
        shown = told(self.domain, step.state, step.next_state)
        return answer(f"after {len(actions)} actions", shown, step.reward, step.terminated)

    def _steps(self, asked: str, actions: Sequence[str]) -> list[Transition]:
        """The step after these possible actions, in every episode that had them and whose task `asked` begins with."""
        found = []
        for episode in recorded(self.domain.name):
            if self.task_id not in (None, episode.task.task_id):
                continue
            steps = [step for step in episode.transitions if step.possible]
            if [one.action for one in steps[: len(actions)]] != actions:
                continue
            if asked.startswith(opening(episode.task, told(self.domain, "", episode.task.initial_state))):
                found.append(steps[len(actions) - 1])
        return found
