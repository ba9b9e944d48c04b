"""`WebEnv`: what every environment in a real browser shares, from an action's text to the page's text."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import gymnasium as gym

from dreamgym_env.domains.web import WebDomain
from dreamgym_env.domains.web_actions import Call, can
from dreamgym_env.domains.web_page import Text, WebPage, render
from dreamgym_env.spaces import Unicode
from dreamgym_env.types import BROKEN, DreamGymError, EndReason, StepContext, Task, Transition

try:
    from browsergym.core.task import AbstractBrowserTask as AbstractBrowserTask
    from playwright.sync_api import Error as Error

    from .session import NotLoaded, Session
except ImportError as error:
    raise ImportError(
        f"web environments need BrowserGym: pip install 'dreamgym-env[webarena]' ({error})", name=error.name
    ) from error

from ..arguments import asked_task, one_of
from .annotator import WebAnnotator
from .axtree import page_of
from .referee import WebReferee


class SiteError(DreamGymError):
    """A site could not be opened at the start of an episode: down, too slow, half-loaded, or its login failed."""

    def __init__(self, message: str, reason: EndReason = "site_error") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Outcome:
    """What the task says after a step: ended or not, with success or not; or why the episode cannot go on."""

    ended: bool = False
    success: bool = False
    problem: EndReason | None = None
    error: str = ""


class WebEnv(gym.Env[str, str]):
    """An agent before a browser; subclasses say which tasks there are, which page opens and when one is done."""

    metadata = {"render_modes": ["ansi", "human"], "render_fps": 4}  # noqa: RUF012 (as Gymnasium declares it)
    domain: ClassVar[WebDomain]

    def __init__(self, horizon: int, settle: float, render_mode: str | None) -> None:
        one_of("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        if horizon < 1:
            raise ValueError(f"`horizon` must be >= 1 step, got {horizon}")
        if settle < 0:
            raise ValueError(f"`settle` must be >= 0 seconds, got {settle}")
        self.horizon, self.settle, self.render_mode = horizon, settle, render_mode
        self.observation_space, self.action_space = Unicode(), Unicode()
        self.task: Task | None = None
        self.page, self.state = WebPage("", ""), ""
        self._whole, self._instruction = self.page, ""
        self.end_reason: EndReason | None = None
        self.transitions: list[Transition] = []
        self._unopened: SiteError | None = None
        self._opened_before = False
        self._session: Session | None = None
        self._ids: dict[str, str] = {}

    @property
    @abstractmethod
    def task_ids(self) -> list[str]:
        """The ids that `reset` draws from."""

    @abstractmethod
    def task_of(self, task_id: str) -> Task:
        """The task of that id, of any split.

        Raises:
            ValueError: there is no such task.
        """

    @abstractmethod
    def _opened(self, task_id: str) -> tuple[AbstractBrowserTask, bool]:
        """BrowserGym's task, and whether it may begin in the context of the one before."""

    @abstractmethod
    def _outcome(self, call: Call, info: dict[str, Any], last: bool) -> Outcome:
        """What the step came to; `last`: it is the horizon's. `info` is BrowserGym's of this step."""

    def _url(self, url: str) -> str:
        """An address as pages show it."""
        return url

    def _refined(self, page: WebPage, ids: dict[str, str]) -> tuple[WebPage, dict[str, str]]:
        """What the agent sees of the page that the rules made, `_whole`, and the browser's own names of its elements.
        `_instruction` is the episode's."""
        return page, ids

    def _aimed(self, call: Call) -> Call:
        """The call with the browser's own names of the elements, and addresses as the browser needs them."""
        return call.aimed(self._ids)

    @property
    def step_count(self) -> int:
        return len(self.transitions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """As in Gymnasium. A task that does not open, once another has, is an episode that its first step truncates
        (`end_reason` "site_error" or "login_expired"), so that one dead page does not end a long run.

        Raises:
            SiteError: the first task of this environment does not open; the sites' addresses may be wrong.
        """
        super().reset(seed=seed)
        ids = self.task_ids
        drawn = ids[int(self.np_random.integers(len(ids)))]
        task = self.task_of(asked_task(options or {}) or drawn)
        self._unopened, error = None, ""
        try:
            task = replace(task, instruction=self._begin(task.task_id))
            self._opened_before = True
        except SiteError as failed:
            if not self._opened_before:
                raise
            self._unopened, error = failed, str(failed)
            self.page, self._ids = WebPage("", "", (Text("text", "This page did not open."),)), {}
            self.state = render(self.page)
        self.task = replace(task, initial_state=self.state)
        self.transitions, self.end_reason = [], None
        return self.state, self._info(possible=True, error=error)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self.task is None:
            raise gym.error.ResetNeeded("no episode has begun; call reset() first")
        if self.end_reason is not None:
            raise gym.error.ResetNeeded("the episode has ended; call reset() first")
        if not isinstance(action, str):
            raise TypeError(f"`action` must be a str such as \"click('12')\", got {type(action).__name__}")
        before, last = self.state, self.step_count + 1 >= self.horizon
        call = self.domain.call_of(self.state, action)
        if self._unopened:
            outcome, possible = Outcome(problem=self._unopened.reason, error=str(self._unopened)), False
        else:
            outcome, possible = self._act(call, last)
        success = outcome.success and outcome.problem is None
        self.end_reason = outcome.problem
        if outcome.ended and outcome.problem is None:
            self.end_reason = "success" if success else "failure"
        elif last and self.end_reason is None:
            self.end_reason = "time_limit"
        terminated = self.end_reason in ("success", "failure", "left_sites")
        truncated = self.end_reason == "time_limit" or self.end_reason in BROKEN
        text = call.text if call else action
        self.transitions.append(
            Transition(
                self.task, self.step_count, before, text, self.state, float(success), terminated, possible=possible
            )
        )
        return self.state, float(success), terminated, truncated, self._info(possible, outcome.error)

    def render(self) -> str | None:  # type: ignore[override]
        """Instruction and state as text ("ansi"); "human" prints them at each step and returns None."""
        return self._text() if self.task is not None and self.render_mode == "ansi" else None

    def close(self) -> None:
        """Closes the tabs; the browser stays for other environments, and this one can be reset again."""
        if self._session is not None:
            self._session.close()
            self._session = None
        super().close()

    def annotator(self) -> WebAnnotator:
        """Writes reasoning traces of trajectories of this environment."""
        return WebAnnotator(self.domain)

    def referee(self) -> WebReferee:
        """Judges dreamed episodes of such tasks."""
        return WebReferee(self.domain)

    def context(self, action: str) -> StepContext:
        """The episode up to here and an action, as a dream would have it."""
        assert self.task is not None
        return StepContext(self.task, tuple(self.transitions), self.state, action)

    def _begin(self, task_id: str) -> str:
        """Opens the task in the browser, where the page's text follows; the instruction.

        Raises:
            SiteError: it did not open.
        """
        if self._session is None:
            self._session = Session(self.settle)
        task, keep_context = self._opened(task_id)
        try:
            self._instruction = " ".join(self._session.begin(task, keep_context).split())
            self._look(self._session._get_obs())
        except (Error, NotLoaded) as error:
            self.close()
            raise SiteError(f"{task_id} does not open: {error}") from error
        return self._instruction

    def _look(self, seen: dict[str, Any]) -> None:
        """The page and its text follow what the browser shows."""
        index, titles = seen["active_page_index"], seen["open_pages_titles"]
        self._whole, ids = page_of(
            seen["axtree_object"],
            seen["extra_element_properties"],
            titles[index],
            self._url(seen["url"]),
            titles,
            index,
        )
        self.page, self._ids = self._refined(self._whole, ids)
        self.state = render(self.page)

    def _act(self, call: Call | None, last: bool) -> tuple[Outcome, bool]:
        """Does the action where it is possible; the state follows. What is not possible never reaches the browser."""
        assert self._session is not None
        if call is None or not can(self.page, call):
            return (self._outcome(Call("noop", ()), {}, last) if last else Outcome()), False
        before = self.state
        try:
            observation, _, _, _, info = self._session.step(self._aimed(call).text)
            self._look(observation)
        except (Error, NotLoaded) as error:  # the browser or a tab crashed, or the site did not answer
            return Outcome(problem="site_error", error=str(error)), True
        failed = self._session.last_action_error
        outcome = self._outcome(call, info, last)
        possible = not failed or self.state != before  # slow pages arrive after the action has given up waiting
        return (outcome if outcome.error or possible else replace(outcome, error=failed)), possible

    def _info(self, possible: bool, error: str) -> dict[str, Any]:
        assert self.task is not None
        success = self.end_reason == "success"
        if self.render_mode == "human":
            print(self._text(), end="\n\n", flush=True)
        return {
            "task": self.task,
            "instruction": self.task.instruction,
            "available_actions": [] if self.end_reason else self.domain.available_actions(self.state, ()),
            "success": success,
            "end_reason": self.end_reason,
            "score": float(success),
            "possible": possible,
            "error": error,
        }

    def _text(self) -> str:
        assert self.task is not None
        last = f"> {self.transitions[-1].action}\n" if self.transitions else ""
        return f"Instruction: {self.task.instruction}\n{last}{self.state}"
