"""`WebShopEnv`: the real WebShop as a Gymnasium environment, `gym.make("Real-WebShop-v0")`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal, get_args

import gymnasium as gym

from dreamgym_env.domains.webshop import WEBSHOP, clickables
from dreamgym_env.domains.webshop_pages import SEARCH_STATE, SearchPage, render
from dreamgym_env.spaces import Unicode
from dreamgym_env.types import EndReason, Split, Task

from ..arguments import asked_task, one_of
from .backend import Backend, NativeBackend, NativeVisit, Visit
from .engine import Session
from .goals import GoalKind, SplitName, SplitStyle, split_range
from .nouns import Tagger
from .shop import Shop, load_shop

ObservationMode = Literal["state", "text", "text_rich"]
RewardKind = Literal["outcome", "graded"]
BackendName = Literal["native", "original"]


class WebShopEnv(gym.Env[str, str]):
    """One visit to WebShop at a time: search, browse, choose options, buy.

    ## Action space
    `Unicode()`. `search[keywords]` works on every page, `click[text]` clicks what stands there (capitals do not
    matter); everything else does nothing. In observation mode "state" the WebShop domain reads the action, as in the
    dream, which forgives spaces and capitals around it; in the other modes it is read exactly as in the original.

    ## Observation space
    `Unicode()`. `observation_mode` "state" (default): the page as the dream shows it, without the instruction. "text"
    and "text_rich": the original's, with it. The original's "html" is not offered.

    ## Starting state
    The search page, for a task drawn uniformly from the split with the environment's generator, or
    `options={"task_id": "webshop-synthetic-17"}`, or `options={"task": Task(...)}` with such an id.

    ## Rewards
    0 until `click[Buy Now]`. `reward="outcome"` (Section 4.1.1, arXiv:2511.03773): 1.0 where every condition is met,
    else 0.0. `reward="graded"`: the original's score in [0, 1].

    ## Episode end
    Terminated by the purchase; truncated after `horizon` steps.

    ## Information
    `task` (types.Task), `instruction`, `available_actions` (as spelled on the page; empty at the end), `success`,
    `end_reason` (None, "success", "failure" or "time_limit"), `score` (graded; 0.0 before the purchase), `possible`
    (False where the action did nothing).

    ## Arguments
    `data_dir`: folder with WebShop's official files; default WEBSHOP_DATA, else the sample catalogue. `num_products`:
    the first so many. `goals`: "synthetic" or "human". `split`, `split_style`: see `goals.split_range`; or `tasks`, a
    list of ids. `horizon`: steps, default 15. `show_attributes`: the Attributes sub-page. `catalogue_seed`: draws
    prices from ranges and price bounds. `tagger`: nouns of titles, "auto", "rules" or "spacy". `backend`: "native", or
    "original" to drive an installed `web_agent_site` on its own files. `render_mode`: None, "ansi" or "human".

    ## References
    Yao et al., WebShop: Towards Scalable Real-World Web Interaction with Grounded Language Agents, arXiv:2207.01206.

    ## Version history
    v0: first version.
    """

    metadata = {"render_modes": ["ansi", "human"], "render_fps": 4}  # noqa: RUF012 (as Gymnasium declares it)
    backend: Backend

    def __init__(
        self,
        data_dir: str | None = None,
        num_products: int | None = None,
        goals: GoalKind = "synthetic",
        split: SplitName = "train",
        split_style: SplitStyle = "verl",
        tasks: Sequence[str] | None = None,
        observation_mode: ObservationMode = "state",
        horizon: int = WEBSHOP.horizon,
        reward: RewardKind = "outcome",
        show_attributes: bool = False,
        catalogue_seed: int = 233,
        tagger: Tagger = "auto",
        backend: BackendName = "native",
        render_mode: str | None = None,
    ) -> None:
        one_of("observation_mode", observation_mode, get_args(ObservationMode))
        one_of("reward", reward, get_args(RewardKind))
        one_of("backend", backend, get_args(BackendName))
        one_of("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        if horizon < 1:
            raise ValueError(f"`horizon` must be >= 1 step, got {horizon}")
        if backend == "original":
            self.backend = _original(data_dir, num_products, goals, catalogue_seed, show_attributes)
        else:
            self.backend = NativeBackend(
                load_shop(data_dir, num_products, goals, catalogue_seed, tagger), show_attributes
            )
        self.goals, self.observation_mode, self.reward = goals, observation_mode, reward
        self.horizon, self.render_mode = horizon, render_mode
        self._count = len(self.backend.instructions)
        self._held_out = split_range(self._count, "held_out", split_style)
        named = None if tasks is None else [self._index(task_id) for task_id in tasks]
        self._indices: Sequence[int] = split_range(self._count, split, split_style) if named is None else named
        if not self._indices:
            raise ValueError(
                f"`split` and `tasks` must leave at least one task of {self._count}, got {split!r}, {tasks}"
            )
        self.observation_space, self.action_space = Unicode(), Unicode()
        self.visit: Visit | None = None
        self.task: Task | None = None
        self.step_count = 0

    @property
    def task_ids(self) -> list[str]:
        """The ids that `reset` draws from."""
        return [self._id(index) for index in self._indices]

    @property
    def shop(self) -> Shop:
        """The native shop.

        Raises:
            ValueError: the backend is the original.
        """
        if not isinstance(self.backend, NativeBackend):
            raise ValueError("`shop` needs backend='native'; the original's data stays inside web_agent_site")
        return self.backend.shop

    @property
    def session(self) -> Session | None:
        """The native engine's session, goal included; None before the first reset and with the original backend."""
        return self.visit.session if isinstance(self.visit, NativeVisit) else None

    @property
    def state(self) -> str:
        """The abstract state text of the current page, in any observation mode."""
        return render(self._begun().page())

    def task_of(self, task_id: str) -> Task:
        """The task of that id, of any split.

        Raises:
            ValueError: there is no such task.
        """
        index = self._index(task_id)
        split: Split = "held_out" if index in self._held_out else "train"
        return Task(task_id, WEBSHOP.name, self.backend.instructions[index], SEARCH_STATE, split=split)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        drawn = self._id(self._indices[int(self.np_random.integers(len(self._indices)))])
        self.task = self.task_of(asked_task(options or {}) or drawn)
        rng = random.Random(int(self.np_random.integers(2**31)))
        self.visit = self.backend.visit(self._index(self.task.task_id), rng)
        self.step_count = 0
        observation, info, *_ = self._result(possible=True)
        return observation, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        visit = self._begun()
        if visit.score is not None or self.step_count >= self.horizon:
            raise gym.error.ResetNeeded("the episode has ended; call reset() first")
        if not isinstance(action, str):
            raise TypeError(f"`action` must be a str such as 'click[Buy Now]', got {type(action).__name__}")
        if self.observation_mode == "state":
            action = self._original_spelling(action)
        possible = visit.act(action)
        self.step_count += 1
        observation, info, terminated, truncated = self._result(possible)
        reward = info["score"] if self.reward == "graded" else float(info["success"])
        return observation, reward, terminated, truncated, info

    def demonstrator(self, name: str, seed: int) -> Any:
        """A policy for offline data by name, see `shopper.demonstrator`; it reads the goal, observations never do."""
        from .shopper import demonstrator

        return demonstrator(name, seed)

    def annotator(self) -> Any:
        """Writes rule-based reasoning traces onto trajectories of this shop, see `annotator.WebShopAnnotator`."""
        from .annotator import WebShopAnnotator

        return WebShopAnnotator(self.shop)

    def referee(self) -> Any:
        """Judges dreamed episodes with this shop's goals and catalogue, see `referee.WebShopReferee`."""
        from .referee import WebShopReferee

        return WebShopReferee(self.shop)

    def reader(self, slip: float, seed: int) -> Any:
        """A scripted agent that reads states only, see `reader.WebShopReader`; it can act in a dream too."""
        from .reader import WebShopReader

        return WebShopReader(slip, seed)

    def get_available_actions(self) -> dict[str, Any]:
        """The original's form: `{"has_search_bar": bool, "clickables": [texts in lower case]}`."""
        return self._begun().available()

    def render(self) -> str | None:  # type: ignore[override]
        """Instruction and state as text ("ansi"); "human" prints them at each step and returns None."""
        if self.task is None or self.render_mode != "ansi":
            return None
        return self._text()

    def _result(self, possible: bool) -> tuple[str, dict[str, Any], bool, bool]:
        """Observation, info, terminated, truncated; the page is built and rendered once."""
        visit, task = self._begun(), self.task
        assert task is not None
        page = visit.page()
        self._state = render(page)
        terminated = visit.score is not None
        truncated = not terminated and self.step_count >= self.horizon
        success = visit.score == 1.0
        end_reason: EndReason | None = "time_limit" if truncated else None
        if terminated:
            end_reason = "success" if success else "failure"
        search = ["search[<keywords>]"] if isinstance(page, SearchPage) else []
        info = {
            "task": task,
            "instruction": task.instruction,
            "available_actions": [] if end_reason else search + [f"click[{text}]" for text in clickables(page)],
            "success": success,
            "end_reason": end_reason,
            "score": visit.score or 0.0,
            "possible": possible,
        }
        if self.render_mode == "human":
            print(self._text(), end="\n\n", flush=True)
        return self._observation(visit), info, terminated, truncated

    def _original_spelling(self, action: str) -> str:
        """The action as the domain reads it, in a form that the original's grammar can read too (no inner brackets)."""
        parsed = WEBSHOP.parse_action(self._state, action)
        if parsed is None:
            return ""
        argument = parsed.argument.replace("[", "(").replace("]", ")")
        return f"{parsed.name}[{argument}]"

    def _observation(self, visit: Visit) -> str:
        if self.observation_mode == "state":
            return self._state
        return visit.simple_text() if self.observation_mode == "text" else visit.rich_text()

    def _text(self) -> str:
        assert self.task is not None
        return f"Instruction: {self.task.instruction}\n\n{self._state}"

    def _begun(self) -> Visit:
        if self.visit is None:
            raise gym.error.ResetNeeded("no episode has begun; call reset() first")
        return self.visit

    def _id(self, index: int) -> str:
        return f"{WEBSHOP.name}-{self.goals}-{index}"

    def _index(self, task_id: str) -> int:
        number = task_id.rpartition("-")[2]
        if not number.isdecimal() or task_id != self._id(int(number)) or int(number) >= self._count:
            raise ValueError(f"a task id must be {self._id(0)!r} to {self._id(self._count - 1)!r}, got {task_id!r}")
        return int(number)


def _original(
    data_dir: str | None, num_products: int | None, goals: GoalKind, seed: int, show_attributes: bool
) -> Backend:
    from .original import OriginalBackend

    if data_dir is not None:
        raise ValueError(f"`data_dir` must be None with backend='original' (it has its own files), got {data_dir!r}")
    return OriginalBackend(num_products, goals, seed, show_attributes)
