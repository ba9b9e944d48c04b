"""`AlfworldEnv`: the real ALFWorld (its text games) as a Gymnasium environment, `gym.make("Real-ALFWorld-v0")`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym

from dreamgym_env.domains.alfworld import ALFWORLD
from dreamgym_env.spaces import Unicode
from dreamgym_env.types import EndReason, Task, Transition

try:
    from alfworld.info import __version__ as ALFWORLD_VERSION

    from .engine import Engine, split_intro
    from .generate import cache_folder, generate
except ImportError as error:
    raise ImportError(
        f"Real-ALFWorld-v0 needs ALFWorld: pip install 'dreamgym-env[alfworld]' ({error})", name=error.name
    ) from error

from ..arguments import asked_task, one_of
from .games import Game, Goal, Kind, OfficialSplit, SplitName, find_games, official_root, official_splits, read_game
from .games import read_kinds as _read_kinds

DEFAULT_GAMES: dict[OfficialSplit, int] = {"train": 60, "valid_seen": 20, "valid_unseen": 20}
"""How many games of each split are made where there are no official ones."""


class AlfworldEnv(gym.Env[str, str]):
    """One household task at a time: find things, carry, clean, heat or cool them, and put them where they belong.

    ## Action space
    `Unicode()`, ALFWorld's commands: `go to X`, `open X`, `close X`, `take X from Y`, `move X to Y`, `examine X`,
    `use X`, `heat X with Y`, `clean X with Y`, `cool X with Y`, `slice X with Y`, `inventory`, `look`, `help`. The
    ALFWorld domain reads them, as in the dream, which forgives capitals and spaces and reads the older `put X in/on Y`
    as `move X to Y`. What is not possible now is answered with `Nothing happens.`

    ## Observation space
    `Unicode()`: ALFWorld's texts. The first one comes without its banner and without its task line.

    ## Starting state
    The middle of a room, in a game drawn uniformly from the split with the environment's generator, or
    `options={"task_id": "valid_unseen/pick_.../trial_..."}`, or `options={"task": Task(...)}` with such an id. A game
    always begins in the same way.

    ## Rewards
    1.0 with the step that reaches the goal, else 0.0.

    ## Episode end
    Terminated by success, which is the only end; truncated after `horizon` steps.

    ## Information
    `task` (types.Task), `instruction`, `available_actions` (ALFWorld's admissible commands, sorted; empty at the end),
    `success`, `end_reason` (None, "success" or "time_limit"), `score` (1.0 or 0.0), `possible` (False where the action
    did nothing), `task_type`, `alfworld_version` (texts differ between versions: 0.4 says `move X to Y`).

    ## Arguments
    `data_dir`: folder with `json_2.1.1/`; default ALFWORLD_DATA or where `alfworld-download` puts the official games,
    and where there are none, generated ones. `split`: "train", "held_out" (which is "valid_unseen"), "valid_seen" or
    "all". `task_types`: names or numbers 1 to 6; default all. `tasks`: a list of ids instead. `games`: how many
    generated games of each split are used (made when first needed); default 60 for training, 20 each for the others.
    `generator_seed`: which ones. `horizon`: steps, default 50. `render_mode`: None, "ansi" or "human".

    ## References
    Shridhar et al., ALFWorld: Aligning Text and Embodied Environments for Interactive Learning, arXiv:2010.03768.

    ## Version history
    v0: first version, on alfworld 0.4.2.
    """

    metadata = {  # noqa: RUF012 (as Gymnasium declares it)
        "render_modes": ["ansi", "human"],
        "render_fps": 4,
        "alfworld_version": ALFWORLD_VERSION,
    }

    def __init__(
        self,
        data_dir: str | None = None,
        split: SplitName = "train",
        task_types: Sequence[str | int] | None = None,
        tasks: Sequence[str] | None = None,
        games: int | None = None,
        generator_seed: int = 0,
        horizon: int = ALFWORLD.horizon,
        render_mode: str | None = None,
    ) -> None:
        one_of("split", split, get_args(SplitName))
        one_of("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        for name, value, unit in (("horizon", horizon, "step"), ("games", games, "game")):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be >= 1 {unit}, got {value}")
        kinds = _read_kinds(task_types)
        self.root = official_root(data_dir)
        self.generated = self.root is None
        found = self._made(split, kinds, games, generator_seed) if self.root is None else None
        self.horizon, self.render_mode = horizon, render_mode
        self._games = find_games(self.root, official_splits(split), kinds) if found is None else found  # type: ignore[arg-type]
        self._by_id = {game.task_id: game for game in self._games}
        if tasks is not None:
            self._games = tuple(self._game(task_id) for task_id in tasks)
        if not self._games:
            raise ValueError(
                f"`tasks`, `task_types` and `games` must leave at least one game, got {tasks}, {kinds}, {games}"
            )
        self.observation_space, self.action_space = Unicode(), Unicode()
        self._engine: Engine | None = None
        self.game: Game | None = None
        self.task: Task | None = None
        self.state, self.success = "", False
        self.transitions: list[Transition] = []

    @property
    def task_ids(self) -> list[str]:
        """The ids that `reset` draws from."""
        return [game.task_id for game in self._games]

    @property
    def step_count(self) -> int:
        return len(self.transitions)

    @property
    def engine(self) -> Engine:
        """The game as it stands, true facts included; a copied environment plays its episode up to here again.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
        """
        if self.game is None:
            raise gym.error.ResetNeeded("call reset() first")
        if self._engine is None:
            self._engine = Engine()
            self._engine.begin(self.game.path)
            for transition in self.transitions:
                self._engine.act(transition.action)
        return self._engine

    @property
    def goal(self) -> Goal:
        """What wins the present game, by types; observations never say it but in the instruction's words."""
        if self.game is None:
            raise gym.error.ResetNeeded("call reset() first")
        return self.game.goal

    def task_of(self, task_id: str) -> Task:
        """The task of that id, of any split.

        Raises:
            ValueError: there is no such game.
        """
        return _task(self._game(task_id))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        drawn = self._games[int(self.np_random.integers(len(self._games)))]
        asked = asked_task(options or {})
        self.game = self._game(asked) if asked else drawn
        self.task, self.transitions, self.success = _task(self.game), [], False
        if self._engine is None:
            self._engine = Engine()
        self.state, instruction = split_intro(self._engine.begin(self.game.path))
        self.task = replace(self.task, initial_state=self.state, instruction=instruction)  # as read from the file
        info, _, _ = self._described(possible=True)
        return self.state, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        engine = self.engine
        if self.success or self.step_count >= self.horizon:
            raise gym.error.ResetNeeded("the episode has ended; call reset() first")
        if not isinstance(action, str):
            raise TypeError(f"`action` must be a str such as 'go to fridge 1', got {type(action).__name__}")
        parsed = ALFWORLD.parse_action(self.state, action)
        command = parsed.text if parsed else action
        possible = command in engine.admissible
        before, self.state = self.state, engine.act(command)
        self.success = engine.won
        self.transitions.append(self._transition(before, command, possible))
        info, terminated, truncated = self._described(possible)
        return self.state, float(self.success), terminated, truncated, info

    def demonstrator(self, name: str, seed: int) -> Any:
        """A policy for offline data by name, see `demonstrators.demonstrator`."""
        from .demonstrators import demonstrator

        return demonstrator(name, seed)

    def annotator(self) -> Any:
        """Writes rule-based reasoning traces onto trajectories, see `annotator.AlfworldAnnotator`."""
        from .annotator import AlfworldAnnotator

        return AlfworldAnnotator()

    def referee(self) -> Any:
        """Judges dreamed episodes by their own texts, see `referee.AlfworldReferee`."""
        from .referee import AlfworldReferee

        return AlfworldReferee()

    def reader(self, slip: float, seed: int) -> Any:
        """A scripted agent that reads states only, see `reader.AlfworldReader`; it can act in a dream too."""
        from .reader import AlfworldReader

        return AlfworldReader(slip, seed)

    def render(self) -> str | None:  # type: ignore[override]
        """Instruction and state as text ("ansi"); "human" prints them at each step and returns None."""
        return self._text() if self.task is not None and self.render_mode == "ansi" else None

    def close(self) -> None:
        """Frees the engine; the environment can be reset again."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        super().close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_engine": None}

    def _made(self, split: SplitName, kinds: tuple[Kind, ...], games: int | None, seed: int) -> tuple[Game, ...]:
        """The generated games of a split, made now where they are not yet in the cache."""
        self.root = str(cache_folder(seed))
        found: list[Game] = []
        for each in official_splits(split):
            count = DEFAULT_GAMES[each] if games is None else games
            paths = generate(Path(self.root), each, count, seed)
            found += [read_game(path, each) for path in paths]
        return tuple(game for game in found if game.kind in kinds)

    def _game(self, task_id: str) -> Game:
        if task_id in self._by_id:
            return self._by_id[task_id]
        split, *rest = str(task_id).split("/")
        path = Path(str(self.root), "json_2.1.1", split, *rest, "game.tw-pddl")
        if split not in get_args(OfficialSplit) or len(rest) != 2 or ".." in rest or not path.exists():
            raise ValueError(f"a task id must be '<split>/<task>/<trial>' below {self.root}, got {task_id!r}")
        return read_game(path, split)  # type: ignore[arg-type]

    def _described(self, possible: bool) -> tuple[dict[str, Any], bool, bool]:
        """Info, terminated, truncated; the step is printed in render mode "human"."""
        task, game, engine = self.task, self.game, self._engine
        assert task is not None
        assert game is not None
        assert engine is not None
        truncated = not self.success and self.step_count >= self.horizon
        end_reason: EndReason | None = "success" if self.success else "time_limit" if truncated else None
        info = {
            "task": task,
            "instruction": task.instruction,
            "available_actions": [] if end_reason else list(engine.admissible),
            "success": self.success,
            "end_reason": end_reason,
            "score": float(self.success),
            "possible": possible,
            "task_type": game.kind,
            "alfworld_version": ALFWORLD_VERSION,
        }
        if self.render_mode == "human":
            print(self._text(), end="\n\n", flush=True)
        return info, self.success, truncated

    def _transition(self, before: str, command: str, possible: bool) -> Transition:
        assert self.task is not None
        reward = float(self.success)
        return Transition(
            self.task, self.step_count, before, command, self.state, reward, self.success, possible=possible
        )

    def _text(self) -> str:
        assert self.task is not None
        last = f"> {self.transitions[-1].action}\n" if self.transitions else ""
        return f"Instruction: {self.task.instruction}\n{last}{self.state}"


def _task(game: Game) -> Task:
    split = "train" if game.split == "train" else "held_out"
    return Task(game.task_id, ALFWORLD.name, game.instruction, game.initial_state, split=split)  # type: ignore[arg-type]
