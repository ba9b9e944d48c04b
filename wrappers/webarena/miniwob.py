"""`MiniWoBEnv`: the 125 tasks of MiniWoB++ in a real browser, `gym.make("Real-MiniWoB-v0")`; no network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from dreamgym_env.domains.miniwob_games import GAMES, PLAIN
from dreamgym_env.domains.web import MINIWOB
from dreamgym_env.domains.web_actions import Call
from dreamgym_env.types import Task

from ..arguments import one_of
from .base import AbstractBrowserTask, Outcome, WebEnv
from .miniwob_reader import Demonstrator, MiniWoBReader, demonstrator

SplitName = Literal["train", "held_out", "all"]
SEEDS: dict[str, range] = {"train": range(1000), "held_out": range(1000, 1200), "all": range(1200)}
"""The seeds of each split; the same for every task."""


class MiniWoBEnv(WebEnv):
    """One small web page at a time, with one thing to do on it.

    ## Action space
    `Unicode()`, BrowserGym's actions within one page: `click('3')`, `dblclick`, `hover`, `focus`, `clear`, `fill('3',
    'text')`, `press('3', 'Enter')`, `select_option('3', 'label')`, `drag_and_drop('3', '5')`, `scroll(0, 200)`,
    `noop()`, with the numbers that the page's text shows. There are no actions by coordinates, and none that leave the
    page.

    ## Observation space
    `Unicode()`: the page as text, see `dreamgym_env.domains.web_page`.

    ## Starting state
    A task and a seed drawn uniformly from the split with the environment's generator, or
    `options={"task_id": "click-test-17"}`, or `options={"task": Task(...)}` with such an id. The seed determines the
    page.

    ## Rewards
    1.0 with the step after which the page says that the task was done right, else 0.0. How long it took does not
    matter: MiniWoB's clock stands still.

    ## Episode end
    Terminated when the page says so, rightly or wrongly done; truncated after `horizon` steps, or as "site_error"
    where the browser failed.

    ## Information
    `task` (types.Task), `instruction`, `available_actions` (empty at the end), `success`, `end_reason` (None,
    "success", "failure", "time_limit" or "site_error"), `score` (1.0 or 0.0), `possible` (False where the action did
    nothing), `error` (why it did not, "" otherwise).

    ## Arguments
    `task`: a name, a list of names, "all", "dreamed" (those of `domains.miniwob_games`, whose pages text explains) or
    "plain" (of these, those without words from MiniWoB's lists, whose episodes are bundled).
    `split`: "train" (seeds 0 to 999), "held_out" (1000 to 1199) or "all". `seeds`: only so many of each split, from its
    first on. `tasks`: a list of ids instead. `horizon`: steps, default 10. `settle`: seconds to wait after an action
    before the page is read, default 0.05. `render_mode`: None, "ansi" or "human".

    ## References
    Liu et al., Reinforcement Learning on Web Interfaces using Workflow-Guided Exploration, arXiv:1802.08802.

    ## Version history
    v0: first version, on miniwob 1.1.0 and browsergym-miniwob 0.14.3.
    """

    domain = MINIWOB

    def __init__(
        self,
        task: str | Sequence[str] = "click-test",
        split: SplitName = "train",
        seeds: int | None = None,
        tasks: Sequence[str] | None = None,
        horizon: int = MINIWOB.horizon,
        settle: float = 0.05,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(horizon, settle, render_mode)
        one_of("split", split, get_args(SplitName))
        whole = {"all": tuple(_entry_points()), "dreamed": tuple(GAMES), "plain": PLAIN}
        self.names = whole.get(task, (task,)) if isinstance(task, str) else tuple(task)
        for name in self.names:
            one_of("task", name, tuple(_entry_points()))
        if seeds is not None and seeds < 1:
            raise ValueError(f"`seeds` must be >= 1 of each split, got {seeds}")
        parts = ("train", "held_out") if split == "all" else (split,)
        chosen = [seed for part in parts for seed in SEEDS[part][:seeds]]
        self._ids_of_split = [f"{name}-{seed}" for name in self.names for seed in chosen]
        # `reset` draws from the list before by its seeds: bundled episodes were made in that order
        self._rounds = [f"{name}-{seed}" for seed in chosen for name in self.names]
        if tasks is not None:
            self._ids_of_split = self._rounds = [self._parts(task_id)[2] for task_id in tasks]
        if not self._ids_of_split:
            raise ValueError(f"`task` and `tasks` must leave at least one task, got {task!r} and {tasks!r}")

    @property
    def task_ids(self) -> list[str]:
        """Every task with the first seed, then every task with the next one, so that any number of them is fair."""
        return list(self._rounds)

    def task_of(self, task_id: str) -> Task:
        """The task of that id, of any split. Instruction and page are "" here: only `reset` opens the page.

        Raises:
            ValueError: there is no such task.
        """
        _, seed, task_id = self._parts(task_id)
        return Task(task_id, MINIWOB.name, "", "", split="train" if seed in SEEDS["train"] else "held_out")

    def demonstrator(self, name: str, seed: int) -> Demonstrator:
        """A policy for offline data by name, see `miniwob_reader.demonstrator`; it knows the "dreamed" tasks alone."""
        return demonstrator(name, seed)

    def reader(self, slip: float, seed: int) -> MiniWoBReader:
        """A scripted agent that reads states and instruction only, for dreams too."""
        return MiniWoBReader(slip, seed)

    def _opened(self, task_id: str) -> tuple[AbstractBrowserTask, bool]:
        name, seed, _ = self._parts(task_id)
        return _entry_points()[name](seed=seed, base_url=_folder()), True

    def _outcome(self, call: Call, info: dict[str, Any], last: bool) -> Outcome:
        said = info.get("task_info", {})
        if "error" in said:  # another page or tab: no action leads there, so the page itself went
            return Outcome(problem="site_error", error=said["error"])
        return Outcome(bool(said.get("DONE_GLOBAL")), said.get("RAW_REWARD_GLOBAL", 0) > 0)

    def _url(self, url: str) -> str:
        return "miniwob/" + url.rpartition("/")[2]

    def _parts(self, task_id: str) -> tuple[str, int, str]:
        """A task's name and seed, and its id.

        Raises:
            ValueError: it is no such id.
        """
        name, _, seed = str(task_id).rpartition("-")
        if (
            name not in _entry_points()
            or not seed.isdecimal()
            or int(seed) not in SEEDS["all"]
            or seed != str(int(seed))
        ):
            raise ValueError(f"a task id must be '<task>-<seed>' with a seed of 0 to 1199, got {task_id!r}")
        return name, int(seed), str(task_id)


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, Any]:
    from browsergym.miniwob import ALL_MINIWOB_TASKS

    return {task.subdomain: task for task in ALL_MINIWOB_TASKS}


def _folder() -> str:
    """Where the pages of the installed `miniwob` lie, as an address.

    Raises:
        ImportError: it is not installed.
    """
    found = find_spec("miniwob")
    if found is None or found.origin is None:
        raise ImportError("Real-MiniWoB-v0 needs the pages: pip install 'dreamgym-env[webarena]'", name="miniwob")
    return (Path(found.origin).parent / "html" / "miniwob").as_uri() + "/"
