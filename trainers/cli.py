"""The `dreamgym` command: one subcommand per job; only the module of the job that is asked for gets imported."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import dreamgym_env
from dreamgym_env.types import DreamGymError

TRACEBACK = "DREAMGYM_TRACEBACK"
"""Environment variable: set to 1 it lets every error through with its traceback."""
TRAIN = ("torch", "transformers", "accelerate", "peft", "trl", "safetensors", "tokenizers", "tensorboard", "matplotlib")
EXTRA = dict.fromkeys(TRAIN, "train") | {"stable_baselines3": "sb3", "sb3_contrib": "sb3", "openenv": "openenv"}
"""Modules that only an extra brings, and which."""


@dataclass(frozen=True)
class Command:
    """One job: `module.run(config)` with `module.config` or one of `module.PRESETS` from the command line.

    `prints`: whether the job shows its own result; the command line prints what `run` returns otherwise.
    """

    summary: str
    module: str
    config: str
    run: str = "main"
    prints: bool = False


COMMANDS = {
    "demo": Command("train the bundled policy in the dream, show that it got better for real", "demo", "DemoConfig"),
    "new-world": Command("write the files of a world of your own, or check them", "new_world", "NewWorldConfig"),
    "collect": Command("run policies in a real environment, write offline trajectories", "collect", "CollectConfig"),
    "annotate": Command("add reasoning traces, by rule or with a teacher model", "annotate", "AnnotateConfig"),
    "train-base": Command("pretrain a small base model on micro-worlds", "base", "BaseConfig"),
    "fit-vocabulary": Command("give a small base model the words of a world", "vocabulary", "VocabularyConfig"),
    "train-experience": Command("fine-tune an experience model (Eq. 5)", "experience", "ExperienceTrainingConfig"),
    "measure": Command("single-step accuracy of an experience model", "measure", "MeasureConfig", prints=True),
    "audit": Command("hold a dream to account against reality", "audit", "AuditConfig", prints=True),
    "sft": Command("make a policy from demonstrations", "sft", "SFTConfig", "run"),
    "rejection-sampling": Command("make a policy better by its own dreamed successes", "rejection_sampling", ""),
    "dpo": Command("make a policy better from successes and failures", "dpo", "DPOConfig", "run"),
    "grpo": Command("train a policy with GRPO, in a dream or for real", "grpo", "", "train"),
    "ppo": Command("train a policy with PPO, in a dream or for real", "ppo", "", "train"),
    "sim-to-real": Command("train in the dream, then for real under a budget", "sim_to_real", "SimToRealConfig"),
    "table1": Command("fill the paper's Table 1 on a small scale", "table", "Table1Config"),
    "table2": Command("fill the paper's Table 2, the ablations", "table", "Table2Config"),
    "sb3": Command("train an agent of numbers with MaskablePPO of Stable-Baselines3", "sb3", "SB3Config"),
    "cleanrl-ppo": Command("PPO for an agent of numbers, in one file", "cleanrl_ppo", "CleanRLConfig", prints=True),
    "trl-grpo": Command("train a policy with TRL's GRPOTrainer", "trl_grpo", "TRLGRPOConfig", prints=True),
    "evaluate": Command("success of a policy, with its interval", "evaluate", "EvaluateConfig", "report"),
    "serve": Command("serve an environment to OpenEnv's clients", "serve", "ServeConfig"),
    "plot": Command("learning curves of several runs, dreamed and real", "plot", "PlotConfig"),
    "publish": Command("make a bundled asset of a checkpoint, with its card", "publish", "PublishConfig"),
    "bench": Command("speed as ratios, from one run", "bench", "BenchConfig", prints=True),
}
"""Every subcommand, in the order in which a full run uses them."""


def usage() -> str:
    """What `dreamgym --help` prints."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
    return (
        f"usage: dreamgym COMMAND [OPTIONS]\n\n{dreamgym_env.__doc__}\n\ncommands:\n{rows}\n\n"
        "`dreamgym COMMAND --help` lists a command's options. `dreamgym --version` tells the version.\n"
        f"An error is one line; {TRACEBACK}=1 shows where it came from."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status: 0, 1 where the job failed, 2 where the command line is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(dreamgym_env.__version__)
        return 0
    command = COMMANDS.get(words[0])
    if command is None:
        return _fail(f"`COMMAND` must be one of {', '.join(COMMANDS)}, got {words[0]!r}", 2)
    try:
        return run(words[0], command, words[1:])
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Exception as error:  # looked at, not swallowed: what is not ours goes on
        if os.environ.get(TRACEBACK) or (message := explain(words[0], error)) is None:
            raise
        return _fail(message, 1)


def run(name: str, command: Command, words: Sequence[str]) -> int:
    """Reads the command's options and does its job."""
    module = import_module(f".{command.module}", __package__)
    result = getattr(module, command.run)(read_config(name, command, module, words))
    if not command.prints and result is not None:
        print(as_text(result))
    return 0


def read_config(name: str, command: Command, module: ModuleType, words: Sequence[str]) -> Any:
    """The command's config from its options.

    Raises:
        SystemExit: an option is unknown, cannot be read or is out of range (status 2), or `--help` was asked for (0).
    """
    import tyro

    prog = f"dreamgym {name}"
    if command.config:
        kind = getattr(module, command.config)
        return tyro.cli(kind, prog=prog, args=words, description=module.__doc__)
    return tyro.extras.overridable_config_cli(dict(module.PRESETS), prog=prog, args=words, description=module.__doc__)


def as_text(result: Any) -> str:
    """What a job returned, as JSON where it is data."""
    if is_dataclass(result) and not isinstance(result, type):
        result = asdict(result)
    return json.dumps(result, indent=2, default=str) if isinstance(result, dict) else str(result)


def explain(name: str, error: Exception) -> str | None:
    """One line for an error that a user can do something about; None for what must be a fault of ours."""
    import gymnasium as gym

    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            return None
        return f"`dreamgym {name}` needs {missing}: pip install 'dreamgym-env[{EXTRA[missing]}]'"
    if isinstance(error, DreamGymError | OSError | gym.error.Error) or _raised_here(error):
        return str(error) or type(error).__name__
    return None


def _raised_here(error: Exception) -> bool:
    """Whether it is a ValueError that our own code raised on purpose, not one from the depths of a library."""
    if not isinstance(error, ValueError):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__", "")).startswith("dreamgym_env")


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
