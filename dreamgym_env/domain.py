"""`Domain`: one environment family as data and a few pure functions, shared by its dream and its real wrapper."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

from dreamgym_env.types import Prediction, StepContext, Task, Transition


@dataclass(frozen=True)
class Action:
    """A parsed action: `name` of the grammar's verb, `argument` as it is spelled on the page, and its plain `text`."""

    name: str
    argument: str
    text: str


@runtime_checkable
class Domain(Protocol):
    """What the core needs to know of a world. All methods are pure functions of their arguments.

    A domain may also have, each by itself:

    - `mended(context, prediction) -> Prediction | None`: a contradicting prediction with what contradicts struck out;
    - `witnessed(context, seen) -> Prediction | None`: the outcome that real transitions of other episodes, the nearest
      first, show of this very step, where they agree and nothing can have changed it;
    - `shorten(before, state)` and `restore(before, told)`: how the experience model reads and writes a state that
      follows `before` (see `prompts.told`);
    - `in_words(state, action) -> str`: the action by what it means where its text says that on one page only (see
      `prompts.in_words`);
    - `by_name(state, action) -> str`: the action in another form of the grammar, which names what it acts on in words,
      for agents that find words sooner than numbers (`sft --by-name`);
    - `kind(context) -> str`, `compare(context, transition, predicted) -> [(name, hit)]`, `task_type(task) -> str`: for
      figures.
    """

    @property
    def name(self) -> str:
        """Short id, as in `Task.domain` ("webshop")."""
        ...

    @property
    def agent_instruction(self) -> str:
        """System message of the LLM agent: role, action grammar, answer format."""
        ...

    @property
    def experience_instruction(self) -> str:
        """System message of the experience model: what it simulates and the answer format."""
        ...

    @property
    def task_instruction(self) -> str:
        """System message of the task generator: what a variation of a task is, inside `<task></task>`."""
        ...

    @property
    def horizon(self) -> int:
        """Steps after which an episode is truncated."""
        ...

    def parse_action(self, state: str, action: str) -> Action | None:
        """The action in canonical spelling, or None when the grammar does not know it. It may still be impossible."""
        ...

    def is_possible(self, context: StepContext, action: Action) -> bool:
        """Whether the action can be done now. What is impossible never reaches the experience model."""
        ...

    def impossible_response(self, state: str, action: str) -> str:
        """The state that the real environment returns for an impossible action."""
        ...

    def available_actions(self, state: str, history: tuple[Transition, ...]) -> list[str]:
        """The actions that the state offers; free text is shown by a placeholder (`search[<keywords>]`)."""
        ...

    def recall(self, context: StepContext) -> list[str]:
        """Earlier lines of this very episode that the action refers to, most relevant first; may be empty."""
        ...

    def known(self, context: StepContext) -> Prediction | None:
        """The outcome of a possible action where this episode has already shown all of it (going back, a page opened
        before), with `attempts` 0; None where the experience model has to predict. Never the end of an episode."""
        ...

    def is_open(self, context: StepContext) -> bool:
        """Whether the next state holds much that no history determines (which products a search returns, what lies in a
        drawer opened for the first time). A dream samples there; all else it may answer greedily."""
        ...

    def contradiction(self, context: StepContext, prediction: Prediction) -> str | None:
        """Why the prediction cannot be true given what this episode has already said, or None."""
        ...

    def task_problem(self, task: Task) -> str | None:
        """Why a generated task is not one of this domain (wrong form, no stated condition), or None."""
        ...


DOMAINS = {
    "alfworld": "dreamgym_env.domains.alfworld:ALFWORLD",
    "miniwob": "dreamgym_env.domains.web:MINIWOB",
    "webarena": "dreamgym_env.domains.web:WEBARENA",
    "webshop": "dreamgym_env.domains.webshop:WEBSHOP",
}
"""Name to `module:attribute` of every bundled domain."""


TRUST_HOOKS = "DREAMGYM_TRUST_HOOKS"
"""Environment variable: set to 1 it lets a world file's Python hooks run, as `trust_hooks=True` does."""

_LOADED: dict[str, Domain] = {}
"""World files' domains that this process has loaded, by the name that their tasks carry."""


@dataclass(frozen=True)
class Assets:
    """What belongs to a domain beside its rules: `None` where there is none."""

    tasks: Path | None
    """Seed tasks; without them, those of the trajectories."""
    trajectories: Path | None
    experience_model: str | None
    """A checkpoint folder, "hf:org/name" or "openai:MODEL@URL"."""
    policy: str | None
    """A checkpoint folder or hub name."""


def load_domain(name: str, trust_hooks: bool = False) -> Domain:
    """The domain called `name`, the one at `package.module:attribute`, or the one of a world file (`world.yaml`).

    Args:
        name: a file's own name serves too, once the process has loaded the file; its tasks carry it.
        trust_hooks: whether the Python that a world file names as its `hooks` may run. Without it no code runs.

    Raises:
        ValueError: the name is neither a bundled domain nor a path nor an import path.
        DataError: the file is missing, or something in it is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        return _load_file(name, trust_hooks or os.environ.get(TRUST_HOOKS) == "1")
    if name in _LOADED:
        return _LOADED[name]
    path = DOMAINS.get(name, name)
    module, _, attribute = path.partition(":")
    if not attribute:
        raise ValueError(
            f"`domain` must be one of {sorted(DOMAINS)}, the path of a world file (world.yaml) or "
            f"'package.module:ATTRIBUTE', got {name!r}; the tasks of a world file carry its name, so give its path"
        )
    domain = getattr(import_module(module), attribute)
    return _checked(domain, path)


def _checked(domain: object, path: str) -> Domain:
    if not isinstance(domain, Domain):
        lacking = [name for name in dir(Domain) if not name.startswith("_") and not hasattr(domain, name)]
        raise ValueError(f"{path} must be a Domain, got {type(domain).__name__} without {', '.join(lacking)}")
    return domain


def _load_file(name: str, trust_hooks: bool) -> Domain:
    path = Path(name).expanduser().resolve()
    changed = path.stat().st_mtime_ns if path.exists() else 0
    domain = _read_file(path, changed, trust_hooks)
    _LOADED[domain.name] = domain
    return domain


@lru_cache(maxsize=32)
def _read_file(path: Path, changed: int, trust_hooks: bool) -> Domain:
    from dreamgym_env.domains.declared_file import read_world

    return _checked(read_world(path, trust_hooks), str(path))
