"""Settings of `dreamgym table1` and `dreamgym table2`, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .worlds import WORLDS, World, WorldName

Algorithm = Literal["grpo", "ppo"]


@dataclass(frozen=True)
class TableConfig:
    """What both tables are filled with. `docs/tables.md` tells what each row does."""

    world: WorldName = "webshop"
    """Which bundled world."""
    rows: tuple[str, ...] = ()
    """The rows to fill now, by name; () for all. What earlier runs have filled stays in the table."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """The seeds to fill now."""
    output: Path = Path("runs/tables")
    """Everything goes into the folder WORLD in it; a run over the same folder goes on with what is there."""
    policy: str = "embedded"
    """Where every row starts: "embedded" (the bundled policy), a checkpoint folder or a hub name (ORG/NAME or
    hf:ORG/NAME)."""
    preset: str | None = None
    """The preset of GRPO and PPO; None is laptop/WORLD."""
    dream_settings: tuple[str, ...] = ()
    """Keywords of `gym.make` for the dream, as name=value, over those of the preset."""
    real_settings: tuple[str, ...] = ()
    """Keywords of `gym.make` for the real environment, as name=value, over those of the world and, for episodes to
    learn from, over the preset's `horizon`, where it has one."""

    tasks_per_update: int = 16
    """Groups in each update of GRPO, >= 1; PPO plays as many episodes, one a task."""
    group_size: int = 8
    """Episodes of each task in GRPO, >= 2."""
    dream_updates: int = 12
    """Updates in the dream, >= 1."""
    lam: float = 0.25
    """Largest share of generated tasks in a dreamed update, in [0, 1]; 0 generates none."""
    variations: int = 8
    """Task variations asked for after each dreamed update where `lam` > 0."""
    grow_buffer: bool = True
    """Whether the dream's replay buffer takes in dreams."""

    eval_episodes: int = 300
    """Held-out episodes in the real environment for each row and seed, >= 1."""
    eval_num_envs: int = 32
    """Environments played at once in these."""

    def __post_init__(self) -> None:
        from .grpo_config import PRESETS as GRPO
        from .ppo_config import PRESETS as PPO

        if self.world not in WORLDS:
            raise ValueError(f"`world` must be one of {list(WORLDS)}, got {self.world!r}")
        if self.rl_preset not in (both := sorted(GRPO.keys() & PPO.keys())):
            raise ValueError(f"`preset` must be one of {both}, got {self.rl_preset!r}")
        if unknown := [row for row in self.rows if row not in self.all_rows]:
            raise ValueError(f"`rows` must be among {', '.join(self.all_rows)}, got {', '.join(unknown)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"`seeds` must be different numbers, at least one, got {self.seeds}")
        for name in ("tasks_per_update", "dream_updates", "eval_episodes", "eval_num_envs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}")
        if self.group_size < 2:
            raise ValueError(f"`group_size` must be >= 2, got {self.group_size}")

    @property
    def all_rows(self) -> tuple[str, ...]:
        """The table's rows, from top to bottom."""
        raise NotImplementedError

    @property
    def chosen_rows(self) -> tuple[str, ...]:
        """The rows to fill now, in the table's order."""
        return tuple(row for row in self.all_rows if not self.rows or row in self.rows)

    @property
    def rl_preset(self) -> str:
        """The preset's name."""
        return self.preset or f"laptop/{self.place.domain}"

    @property
    def place(self) -> World:
        """Dream and real environment."""
        return WORLDS[self.world]

    @property
    def folder(self) -> Path:
        """Where the table and its cells are."""
        return self.output / self.world

    @property
    def all_real_settings(self) -> tuple[str, ...]:
        """Those of the world, then those given: the last of one name counts."""
        return (*self.place.real_settings, *self.real_settings)


@dataclass(frozen=True)
class Table1Config(TableConfig):
    """Settings of `dreamgym table1`: SFT, DPO and RL on N real transitions, RL in the dream, sim-to-real."""

    real_transitions: int = 16_000
    """N: real transitions that each of the rows sft, dpo, grpo-real and ppo-real may use, >= 1."""
    real_share: float = 0.1
    """Share of N that sim-to-real may use after its dream phase, in (0, 1]."""
    real_tasks_per_update: int = 8
    """Groups in each update of sim-to-real's real phase, >= 1: smaller rounds make more of few transitions."""
    demonstrators: tuple[str, ...] = ()
    """Whose real episodes SFT and DPO learn from: () for the starting policy's own, else demonstrators of the real
    environment as name:share, as in `dreamgym collect` (`oracle:0.5 random:0.5`)."""
    sft_epochs: float = 3.0
    """Passes of SFT over the successful episodes, > 0."""
    sft_learning_rate: float = 2e-4
    """Peak rate of SFT."""
    dpo_epochs: float = 1.0
    """Passes of DPO over its pairs, > 0."""
    dpo_learning_rate: float = 5e-5
    """Peak rate of DPO."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("real_transitions", "real_tasks_per_update"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}")
        if not 0 < self.real_share <= 1:
            raise ValueError(f"`real_share` must be in (0, 1], got {self.real_share}")

    @property
    def all_rows(self) -> tuple[str, ...]:
        learned = ("grpo", "ppo")
        ways = ("real", "dream", "sim-to-real")
        return ("start", "sft", "dpo", *(f"{algorithm}-{way}" for way in ways for algorithm in learned))

    @property
    def sim_to_real_budget(self) -> int:
        """Real transitions of sim-to-real."""
        return int(self.real_share * self.real_transitions)


@dataclass(frozen=True)
class Table2Config(TableConfig):
    """Settings of `dreamgym table2`: the dream, and the dream without one of its parts."""

    algorithm: Algorithm = "grpo"
    """What learns in the dream."""
    no_reasoning_model: str | None = None
    """The experience model of the row no-reasoning: a checkpoint trained without reasoning traces (`dreamgym
    train-experience --trace-share 0`), on as much data and for as long as the one with them."""

    @property
    def all_rows(self) -> tuple[str, ...]:
        return ("start", f"{self.algorithm}-dream", "no-replay", "no-reasoning", "no-task-generation")
