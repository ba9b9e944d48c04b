"""`WebArenaEnv`: WebArena in a real browser, on its sites or small local ones, `gym.make("Real-WebArena-v0")`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from dreamgym_env.domains.web import WEBARENA
from dreamgym_env.domains.web_actions import ENDS, Call
from dreamgym_env.domains.web_page import WebPage
from dreamgym_env.domains.web_trail import Key
from dreamgym_env.types import EndReason, LanguageModel, ModelError, Task

from ..arguments import one_of
from .base import AbstractBrowserTask, Error, Outcome, SiteError, WebEnv
from .configs import SitesName, SplitName, Subset, chosen, filled, judged, read_configs, split_of, tokenized
from .evaluation import NAMES, addresses, evaluating, load_webarena, needs_tokenizer, task_class
from .refine import Refiner
from .sites import LocalLogin, SiteMap, problem_of, problem_of_answers

LEAVE_OUT = "leave_out"


class WebArenaEnv(WebEnv):
    """A task on web sites at a time: a shop and its administration, a code host, a forum (an encyclopedia, a map).

    ## Action space
    `Unicode()`, BrowserGym's actions: `click('3')`, `dblclick`, `hover`, `focus`, `clear`, `fill('3', 'text')`,
    `press('3', 'Enter')`, `select_option('3', 'label')`, `drag_and_drop('3', '5')`, `scroll(0, 200)`, `noop()`,
    `goto('http://...')`, `go_back()`, `go_forward()`, `new_tab()`, `tab_close()`, `tab_focus(0)`,
    `send_msg_to_user('...')`, `report_infeasible('...')`, with the numbers that the page's text shows or in words:
    `click('link Orders')`, `click('link View of 000000170')` in that row.

    ## Observation space
    `Unicode()`: the page as text, see `dreamgym_env.domains.web_page`. Sites have their public names in addresses
    (`http://gitlab.com/...`), wherever they run; `goto` takes these too.

    ## Starting state
    The start page of a task drawn uniformly from the split with the environment's generator, or
    `options={"task_id": "webarena-17"}` (local sites: "local-17"), or `options={"task": Task(...)}` with such an id;
    logged in. Local sites are as new at every reset; WebArena's own are as they are: to reset them is their host's.
    A task that does not open raises where it is the first; later its first step ends the episode, see below.

    ## Rewards
    1.0 where WebArena's evaluators give the full score, else 0.0. They are asked once, as in WebArena: when the agent
    answers or gives up (`send_msg_to_user`, `report_infeasible`), or at the horizon.

    ## Episode end
    Terminated by the answer, by leaving the sites ("left_sites"), or by success at the horizon; truncated after
    `horizon` steps, and where the episode says nothing of the agent: a site is down, slow or half-loaded
    ("site_error"), a login is asked for ("login_expired"), the judge does not answer ("model_error").

    ## Information
    `task` (types.Task), `instruction`, `available_actions` (empty at the end), `success`, `end_reason` (None,
    "success", "failure", "time_limit", "left_sites", "site_error", "login_expired" or "model_error"), `score` (1.0 or
    0.0), `possible` (False where the action did nothing), `error` (what the browser or the site said, "" otherwise).

    ## Arguments
    `sites`: "real" (addresses in WA_SHOPPING, WA_SHOPPING_ADMIN, WA_REDDIT, WA_GITLAB, WA_WIKIPEDIA, WA_MAP,
    WA_HOMEPAGE) or "local". `task_id`: one of the 812 by number. `subset`: "all" or "lite" (WebArena-Lite's 165).
    `split`: "train", "held_out" (real: WebArena-Lite; local: templates of their own), "valid_seen" (local: other tasks
    of the training templates), "all"; default "train", and "all" of "lite". `tasks`: a list of ids instead.
    `task_file`: a JSON file of tasks in WebArena's form instead of the 812. `judge`: a model that judges answers
    (`fuzzy_match`), "openai:MODEL@URL" or a `LanguageModel`; "leave_out" leaves such tasks out. `horizon`: steps,
    default 30. `settle`: seconds to wait after an action before the page is read, default 0.5, local 0. `timeout`:
    seconds that a page may take, default 10. `render_mode`: None, "ansi" or "human". `refine`: a model that chooses
    which lines of each page the task needs, the others are not shown; named or given as `judge`; default None, all are.

    ## References
    Zhou et al., WebArena: A Realistic Web Environment for Building Autonomous Agents, arXiv:2307.13854.

    ## Version history
    v0: first version, on browsergym-webarena 0.14.3 and libwebarena 0.0.4.
    """

    domain = WEBARENA

    def __init__(
        self,
        sites: SitesName = "real",
        task_id: int | None = None,
        subset: Subset = "all",
        split: SplitName | None = None,
        tasks: Sequence[str] | None = None,
        task_file: str | None = None,
        judge: LanguageModel | str | None = None,
        horizon: int = WEBARENA.horizon,
        settle: float | None = None,
        timeout: float = 10.0,
        render_mode: str | None = None,
        refine: LanguageModel | str | None = None,
    ) -> None:
        super().__init__(horizon, (0.0 if sites == "local" else 0.5) if settle is None else settle, render_mode)
        one_of("sites", sites, get_args(SitesName))
        one_of("subset", subset, get_args(Subset))
        one_of("split", split, (None, *get_args(SplitName)))
        if timeout <= 0:
            raise ValueError(f"`timeout` must be > 0 seconds, got {timeout}")
        self.local, self.timeout = sites == "local", timeout
        if self.local and (subset != "all" or task_file is not None):
            raise ValueError(f"local sites have no `subset` or `task_file`, got {subset!r} and {task_file!r}")
        load_webarena(dict.fromkeys(NAMES, "http://127.0.0.1") if self.local else addresses())
        self.configs = read_configs(sites, task_file)
        if task_id is not None:
            tasks = [f"{'local' if self.local else 'webarena'}-{task_id}"]
        self._chosen = self._scored(chosen(self.configs, subset, split, tasks), judge)
        self.judge = _loaded(None if judge == LEAVE_OUT else judge)
        refiner = _loaded(refine)
        self._refiner = None if refiner is None else Refiner(refiner)
        self.survey: dict[Key, str | None] = {}
        self.map, self._instance, self._world = self._sites()
        self._class = task_class()

    @property
    def task_ids(self) -> list[str]:
        return list(self._chosen)

    def task_of(self, task_id: str) -> Task:
        """The task of that id, of any split. Its page is "" here: only `reset` opens it.

        Raises:
            ValueError: there is no such task.
        """
        if task_id not in self.configs:
            raise ValueError(f"a task id must be one of {next(iter(self.configs))!r}, ..., got {task_id!r}")
        config = self.configs[task_id]
        return Task(task_id, WEBARENA.name, " ".join(config["intent"].split()), "", split=split_of(task_id, config))

    def demonstrator(self, name: str, seed: int) -> Any:
        """A policy for offline data by name, see `local.oracle.demonstrator`; on local sites only. Surveyors share what
        they have opened."""
        from .local.oracle import demonstrator

        if not self.local:
            raise ValueError(f"demonstrators know the local sites only: sites='local', got {name!r}")
        return demonstrator(name, seed, self.survey)

    def reader(self, slip: float, seed: int) -> Any:
        """A scripted agent on the local sites that reads states and instruction only, for dreams too."""
        from .local.reader import SiteReader

        return SiteReader(slip, seed)

    def close(self) -> None:
        super().close()
        if self._world is not None:
            self._world.close()
            self.map, self._instance, self._world = self._sites()

    def _sites(self) -> tuple[SiteMap, Any, Any]:
        if self.local:
            from .local.server import LocalSites

            world = LocalSites()
            return SiteMap(world.urls), LocalLogin(world.urls, world.cookies()), world
        from browsergym.webarena.instance import WebArenaInstance

        return SiteMap(addresses()), WebArenaInstance(), None

    def _scored(self, ids: list[str], judge: LanguageModel | str | None) -> list[str]:
        """The tasks that can be scored here.

        Raises:
            ValueError: some cannot, and nobody said to leave them out.
        """
        asking = [one for one in ids if judged(self.configs[one])]
        if asking and judge == LEAVE_OUT:
            ids = [one for one in ids if one not in asking]
        elif asking and judge is None:
            raise ValueError(
                f"{len(asking)} of {len(ids)} tasks ({asking[0]}, ...) are scored by a judge model: give"
                " judge='openai:MODEL@URL', or judge='leave_out' to go without these tasks"
            )
        if (split := [one for one in ids if tokenized(self.configs[one])]) and needs_tokenizer():
            raise ValueError(
                f"{len(split)} of {len(ids)} tasks ({split[0]}, ...) are scored by words, which needs NLTK's data:"
                " python -m nltk.downloader punkt_tab"
            )
        if not ids:
            raise ValueError("`judge='leave_out'` must leave at least one task, got none")
        return ids

    def _opened(self, task_id: str) -> tuple[AbstractBrowserTask, bool]:
        if self._world is not None:
            self._world.reset()
        if self._refiner is not None:
            self._refiner.forget_failures()
        config = filled(self.configs[task_id], self.map.urls)
        return self._class(config, self._instance, round(1000 * self.timeout)), self.local

    def _begin(self, task_id: str) -> str:
        self._scored([task_id], self.judge)
        goal = super()._begin(task_id)
        problem = self._problem()
        if problem is not None:
            self.close()
            reason: EndReason = "login_expired" if problem[0] == "login_expired" else "site_error"
            raise SiteError(f"{task_id} does not open: {problem[1]}", reason)
        return goal

    def _url(self, url: str) -> str:
        return self.map.public(url)

    def _refined(self, page: WebPage, ids: dict[str, str]) -> tuple[WebPage, dict[str, str]]:
        return self._refiner.refined(self._instruction, page, ids) if self._refiner else (page, ids)

    def _act(self, call: Call | None, last: bool) -> tuple[Outcome, bool]:
        if call is not None and call.name == "goto" and not self.map.inside(self.map.private(call.arguments[0])):
            return Outcome(problem="left_sites", error=f"outside the task's sites: {call.arguments[0]}"), True
        return super()._act(call, last)

    def _aimed(self, call: Call) -> Call:
        if call.name == "goto":
            return Call("goto", (self.map.private(call.arguments[0]),))
        return super()._aimed(call)

    def _outcome(self, call: Call, info: dict[str, Any], last: bool) -> Outcome:
        if problem := self._problem():
            return Outcome(problem=problem[0], error=problem[1])
        if call.name not in ENDS and not last:
            return Outcome()
        session = self._session
        assert session is not None
        session.answers.clear()
        try:
            with evaluating(self.map.urls, self.judge, self.timeout, wait=not self.local):
                score, error = session.task.score(session.page, session.chat.messages)
        except ModelError as failed:
            return Outcome(problem="model_error", error=str(failed))
        except (Error, OSError) as failed:  # a page that the evaluator opens, or an API that it asks (requests)
            return Outcome(problem="site_error", error=str(failed))
        except (LookupError, TypeError, ValueError) as failed:  # what a site answered is not what the evaluator reads
            return Outcome(problem="site_error", error=f"the evaluator could not read the site: {failed!r}")
        if problem := problem_of_answers(session.answers, self.map):
            return Outcome(problem=problem[0], error=problem[1])
        if error:
            return Outcome(problem="left_sites", error=error)
        success = score >= 1.0
        return Outcome(ended=call.name in ENDS or success, success=success)

    def _problem(self) -> tuple[EndReason, str] | None:
        """What is wrong with the page in view, see `sites.problem_of`."""
        session = self._session
        assert session is not None
        page, pages = session.page, session.context.pages
        return problem_of(self._whole, page.url, [one.url for one in pages], session.statuses.get(page), self.map)


def _loaded(model: LanguageModel | str | None) -> LanguageModel | None:
    if not isinstance(model, str):
        return model
    from dreamgym_env.language_model import load_language_model

    return load_language_model(model)
