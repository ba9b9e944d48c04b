"""The `dreamgym` command: what it lists, how it fails, and that it does the jobs."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest

import dreamgym_env
from dreamgym_env.trainers import cli
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import DataError, ModelError

HEAVY = ("torch", "transformers", "chromadb", "tyro", "rich", "openai")


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from dreamgym_env.trainers.cli import main; status = main(['--help']); "
        f"print([name for name in {HEAVY} if name in sys.modules], status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "[] 0"
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(cli.COMMANDS)


def module_of(command: cli.Command) -> ModuleType:
    """A command's module; skips the test where the extra that it needs is not installed."""
    try:
        return import_module(f"dreamgym_env.trainers.{command.module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in cli.EXTRA:
            raise
        pytest.skip(str(error))


def test_every_command_names_what_its_module_has() -> None:
    pytest.importorskip("torch")
    for command in cli.COMMANDS.values():
        module = module_of(command)
        assert callable(getattr(module, command.run))
        assert hasattr(module, command.config or "PRESETS")


def test_every_module_that_is_a_command_is_listed() -> None:
    folder = Path(cli.__file__).parent
    jobs = {path.stem for path in folder.glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8")}
    assert jobs - {"cli"} == {command.module for command in cli.COMMANDS.values()}


def test_help_of_a_command_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["collect", "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert "usage: dreamgym collect" in shown
    assert "--distinct-tasks" in shown


def documented(config: type) -> set[str]:
    """The fields of a config that have a docstring, which is what `--help` says of their options."""
    found: set[str] = set()
    for kind in config.__mro__[:-1]:
        (body,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(body, ast.ClassDef)
        for line, behind in zip(body.body, body.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(behind, ast.Expr):
                found.add(line.target.id)
    return found


def unexplained(config: type) -> list[str]:
    """The options of a config, those of configs in it with their prefix, of which `--help` says nothing."""
    told, hints, missing = documented(config), get_type_hints(config), list[str]()
    for field in fields(config):
        kind = hints[field.name]
        if isinstance(kind, type) and is_dataclass(kind):
            missing += [f"{field.name}.{name}" for name in unexplained(kind)]
        elif field.name not in told:
            missing.append(field.name)
    return missing


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    pytest.importorskip("torch")
    command = cli.COMMANDS[name]
    module = module_of(command)
    kinds = [getattr(module, command.config)] if command.config else {type(one) for _, one in module.PRESETS.values()}
    assert {option for kind in kinds for option in unexplained(kind)} == set()


@pytest.mark.parametrize(("words", "status"), [([], 2), (["--help"], 0), (["--version"], 0), (["colect"], 2)])
def test_statuses(words: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == status
    shown = capsys.readouterr()
    assert words != ["--version"] or shown.out.strip() == dreamgym_env.__version__
    assert words != ["colect"] or shown.err.startswith("error: `COMMAND` must be one of demo, new-world, collect,")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["collect", "--episodes", "0"], "`episodes` must be >= 1, got 0"),
        (["collect", "--episodes", "many"], "many"),
        (["collect", "--epsodes", "3"], "--episodes"),
        (["annotate"], "--data"),
    ],
)
def test_a_wrong_command_line_is_status_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in shown
    assert "Traceback" not in shown


def test_errors_of_a_job_are_one_line_and_status_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "x.jsonl")
    assert cli.main(["collect", "--out", out, "--policies", "oracle"]) == 1
    assert capsys.readouterr().err == (
        "error: `policies` must be entries like 'oracle:0.3' with a share > 0, got 'oracle'\n"
    )
    assert cli.main(["collect", "--out", out, "--env", "Nope-v0"]) == 1
    assert capsys.readouterr().err.startswith("error: no environment 'Nope-v0'; there are DreamGym-ALFWorld-v0, ")
    assert cli.main(["annotate", "--data", str(tmp_path / "none.jsonl"), "--out", out]) == 1
    assert "none.jsonl" in capsys.readouterr().err
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n", encoding="utf-8")
    assert cli.main(["annotate", "--data", str(broken), "--out", out]) == 1
    assert "broken.jsonl, line 1" in capsys.readouterr().err


def test_collect_does_its_job(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "demos.jsonl"
    assert cli.main(["collect", "--out", str(out), "--episodes", "2", "--policies", "oracle:1"]) == 0
    assert json.loads(capsys.readouterr().out)["oracle/success"] == 2  # progress is told on stderr
    assert [one.success for one in read_trajectories(out)] == [True, True]


@dataclass(frozen=True)
class Config:
    """Settings of a job that fails as `kind` says."""

    kind: str = "none"


def job(config: Config) -> dict[str, str] | None:
    """Fails in many ways."""
    if config.kind == "library":
        json.loads("{")
    errors = {
        "missing": ModuleNotFoundError("No module named 'torch.cuda'", name="torch.cuda"),
        "ours": ModuleNotFoundError("No module named 'lost'", name="lost"),
        "data": DataError("a.jsonl, line 3: broken"),
        "model": ModelError("no answer"),
        "bug": KeyError("x"),
        "stop": KeyboardInterrupt(),
    }
    if config.kind in errors:
        raise errors[config.kind]
    return {"done": "yes"}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("dreamgym_env.trainers.failing")
    vars(module).update(Config=Config, job=job)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.COMMANDS, "fail", cli.Command("fails", "failing", "Config", "job"))


@pytest.mark.usefixtures("failing")
def test_what_users_can_mend_is_told_and_what_is_our_fault_is_not_hidden(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["fail"]) == 0
    assert json.loads(capsys.readouterr().out) == {"done": "yes"}
    told = {
        "missing": "error: `dreamgym fail` needs torch: pip install 'dreamgym-env[train]'\n",
        "data": "error: a.jsonl, line 3: broken\n",
        "model": "error: no answer\n",
    }
    for kind, message in told.items():
        assert cli.main(["fail", "--kind", kind]) == 1
        assert capsys.readouterr().err == message
    assert cli.main(["fail", "--kind", "stop"]) == 130
    for kind, error in {"bug": KeyError, "ours": ModuleNotFoundError, "library": json.JSONDecodeError}.items():
        with pytest.raises(error):
            cli.main(["fail", "--kind", kind])
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(DataError):
        cli.main(["fail", "--kind", "data"])


ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def commands_in(page: Path) -> list[list[str]]:
    """The words of every `dreamgym` or `python -m dreamgym_env.trainers` command in a page's code blocks."""
    blocks = page.read_text(encoding="utf-8").split("```")[1::2]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if re.match(r"dreamgym [a-z]", line)]
    modules = {command.module: name for name, command in cli.COMMANDS.items()}
    for line in lines:
        if match := re.match(r"(?:python|accelerate launch) -m dreamgym_env\.trainers\.(\w+) (.*)", line):
            found.append(["dreamgym", modules[match[1]], *shlex.split(match[2], comments=True)])
    return [words[1:] for words in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_in_the_pages_are_understood(page: Path) -> None:
    pytest.importorskip("torch")
    for name, *words in commands_in(page):
        command = cli.COMMANDS[name]
        module = module_of(command)
        assert cli.read_config(name, command, module, words) is not None


def test_the_readme_has_commands_to_understand() -> None:
    assert {"collect", "train-experience", "sft", "audit", "grpo", "evaluate"} <= {
        words[0] for words in commands_in(ROOT / "README.md")
    }


def test_a_grpo_preset_can_be_overridden() -> None:
    pytest.importorskip("torch")
    module = import_module("dreamgym_env.trainers.grpo")
    config = cli.read_config("grpo", cli.COMMANDS["grpo"], module, ["small", "--updates", "3", "--lam", "0.25"])
    assert (config.updates, config.lam) == (3, 0.25)
    assert config.learning_rate == module.PRESETS["small"][1].learning_rate
