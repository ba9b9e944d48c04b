"""WebArena's own evaluators and logins, through BrowserGym, with the addresses and the judge that we give them."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dreamgym_env.types import LanguageModel, ModelError, Sampling

NAMES = ("shopping", "shopping_admin", "reddit", "gitlab", "wikipedia", "map", "homepage")
VERDICTS = ("correct", "same", "different")
"""One of these is in every verdict that WebArena asks its judge for."""
INSTALL = (
    "Real-WebArena-v0 needs WebArena's evaluators, whose own requirements clash with current packages:"
    " pip install 'dreamgym-env[webarena]' and then pip install --no-deps browsergym-webarena==0.14.3"
    " libwebarena==0.0.4 text-generation==0.7.0"
)


def addresses() -> dict[str, str]:
    """The sites' addresses by name, from `WA_SHOPPING` and the like.

    Raises:
        ValueError: some are missing; lists them.
    """
    found = {name: os.environ.get(f"WA_{name.upper()}", "").rstrip("/") for name in NAMES}
    if missing := [f"WA_{name.upper()}" for name, url in found.items() if not url]:
        raise ValueError(
            f"`sites='real'` needs the addresses of WebArena's sites, missing: {', '.join(missing)}."
            " Set these variables (any address will do for a site that no task of yours visits), or use"
            " sites='local', which needs none"
        )
    return found


def load_webarena(urls: Mapping[str, str]) -> None:
    """Imports BrowserGym's WebArena, which wants addresses when it is imported and would download NLTK's data.

    Raises:
        ImportError: it is not installed.
    """
    given = {name.upper(): url for name, url in urls.items() if name.upper() not in os.environ}
    os.environ.update(given)
    try:
        import nltk

        with tempfile.TemporaryDirectory() as folder:  # stands in for the tokenizer, so that nothing is downloaded
            Path(folder, "tokenizers", "punkt_tab").mkdir(parents=True)
            nltk.data.path.append(folder)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # beartype's, of annotations that will be old-fashioned one day
                    import_module("browsergym.webarena.task")
                    import_module("webarena.evaluation_harness.evaluators")
            finally:
                nltk.data.path.remove(folder)
    except ImportError as error:
        raise ImportError(f"{INSTALL} ({error})", name=error.name) from error
    finally:
        for key in given:
            del os.environ[key]
    point_to(urls)


def point_to(urls: Mapping[str, str]) -> None:
    """Gives WebArena's modules the addresses, which they otherwise keep from their import on."""
    for module in ("browser_env.env_config", "evaluation_harness.helper_functions"):
        for name, url in urls.items():
            setattr(import_module(f"webarena.{module}"), name.upper(), url)


def needs_tokenizer() -> bool:
    """Whether NLTK's `punkt_tab` is missing."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        return True
    return False


def task_class() -> Any:
    """`WebTask`, BrowserGym's WebArena task on given sites, scored when asked and not at every step."""
    from browsergym.core.task import AbstractBrowserTask
    from browsergym.webarena.task import GenericWebArenaTask

    class WebTask(GenericWebArenaTask):  # type: ignore[misc]
        def __init__(self, config: Mapping[str, Any], instance: Any, timeout: int) -> None:
            AbstractBrowserTask.__init__(self, seed=0)  # the parent's would read all 812 tasks
            self.timeout = timeout
            self.task_configs, self.webarena_instance = [dict(config)], instance
            self.config_file, self.with_na_hint, self.with_homepage_hint = None, False, False

        def validate(self, page: Any, chat_messages: list[Any]) -> tuple[float, bool, str, dict[str, Any]]:
            return 0.0, False, "", {}

        def score(self, page: Any, chat_messages: list[Any]) -> tuple[float, str]:
            """WebArena's score in [0, 1], and why there is none where the agent has left the sites."""
            score, _, _, info = super().validate(page, chat_messages)
            return float(score), info.get("error", "")

        def teardown(self) -> None:
            if self.config_file:
                with suppress(FileNotFoundError):
                    os.unlink(self.config_file)

    return WebTask


@contextmanager
def evaluating(urls: Mapping[str, str], judge: LanguageModel | None, timeout: float, wait: bool) -> Iterator[None]:
    """While WebArena's evaluators run: they ask the sites at `urls`, whose APIs may take `timeout` seconds, their judge
    is `judge`, and without `wait` they do not sleep 3 seconds after opening a page, which complete pages on loopback do
    not need.

    Raises:
        ModelError: the judge gave no answer, or none that is a verdict.
        requests.RequestException: a site's API did not answer, or with an error, or refused WebArena's account.
    """
    helpers: Any = import_module("webarena.evaluation_harness.helper_functions")
    evaluators: Any = import_module("webarena.evaluation_harness.evaluators")
    point_to(urls)
    asked, clock, web = helpers.generate_from_openai_chat_completion, evaluators.time, helpers.requests
    helpers.generate_from_openai_chat_completion = _asker(judge)
    helpers.requests = SimpleNamespace(get=_checked(web.get, timeout), post=_checked(web.post, timeout))
    if not wait:
        evaluators.time = SimpleNamespace(sleep=lambda seconds: None)
    try:
        yield
    finally:
        helpers.generate_from_openai_chat_completion, evaluators.time, helpers.requests = asked, clock, web


def _checked(ask: Callable[..., Any], timeout: float) -> Callable[..., Any]:
    """`requests.get` or `.post` with a timeout. A site's own error is one here; BrowserGym would score 0."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        answer = ask(*args, timeout=timeout, **kwargs)
        if answer.status_code >= 500 or answer.status_code in (401, 403):
            answer.raise_for_status()
        return answer

    return checked


def _asker(judge: LanguageModel | None) -> Callable[..., str]:
    def ask(messages: list[dict[str, str]], temperature: float, max_tokens: int, top_p: float, **_: Any) -> str:
        if judge is None:
            raise ModelError("this task is scored by a judge model, and there is none: give `judge=`")
        sampling = Sampling(temperature, top_p, max_tokens)
        (answer,) = judge.complete([messages], sampling)
        if answer.finish_reason == "error":
            raise ModelError(f"the judge gave no answer: {answer.error}")
        if not any(word in answer.text.lower() for word in VERDICTS):
            raise ModelError(f"the judge must say one of {', '.join(VERDICTS)}, got {answer.text[:200]!r}")
        return answer.text

    return ask
