"""The house's walls: which packages ship, who may import whom, and how large files and functions may grow."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WINGS = {"dreamgym_env": "dreamgym_env", "wrappers": "dreamgym_env.wrappers", "trainers": "dreamgym_env.trainers"}
HEAVY = {
    "torch",
    "transformers",
    "chromadb",
    "openai",
    "accelerate",
    "peft",
    "trl",
    "datasets",
    "spacy",
    "stable_baselines3",
    "sb3_contrib",
    "openenv",
    "alfworld",
    "textworld",
    "playwright",
    "browsergym",
    "webarena",
}
SOURCES = sorted(path for wing in WINGS for path in (ROOT / wing).rglob("*.py"))


def module_of(path: Path) -> str:
    """`wrappers/webshop/env.py` is `dreamgym_env.wrappers.webshop.env`."""
    wing, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([WINGS[wing], *(part for part in rest if part != "__init__")])


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """The absolute names of all modules that a file imports; those under `if TYPE_CHECKING:` are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in walk(tree, top_level_only):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def walk(node: ast.AST, top_level_only: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if top_level_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield child
        yield from walk(child, top_level_only)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def setup_values(section: str, key: str) -> list[str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return [line.strip() for line in parser[section][key].strip().splitlines()]


def test_listed_packages_are_the_folders_with_an_init_file() -> None:
    found = {module_of(path) for path in SOURCES if path.name == "__init__.py"}
    listed = setup_values("options", "packages")
    assert set(listed) == found
    assert len(listed) == len(found)
    folders = {path.parent for path in SOURCES}
    assert {module_of(folder / "__init__.py") for folder in folders} == found


def test_the_wings_are_mapped_into_the_package() -> None:
    pairs = dict(line.split(" = ") for line in setup_values("options", "package_dir"))
    assert pairs == {module: folder for folder, module in WINGS.items()}


def test_commands_lead_somewhere() -> None:
    for line in setup_values("options.entry_points", "console_scripts"):
        module, _, function = line.partition(" = ")[2].partition(":")
        path = next((path for path in SOURCES if module_of(path) == module), None)
        assert path is not None, f"{module} does not exist"
        assert re.search(rf"^def {function}\(", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_imports_are_seen() -> None:
    found = set(imports(ROOT / "wrappers" / "webshop" / "annotator.py"))
    assert {"dreamgym_env.wrappers.webshop.goals", "dreamgym_env.domains.webshop", "dataclasses"} <= found
    training = ROOT / "trainers" / "supervised.py"
    assert "torch" in set(imports(training)) - set(imports(training, top_level_only=True))


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.is_relative_to(ROOT / "dreamgym_env")], ids=module_of
)
def test_the_core_imports_neither_other_wing_nor_heavy_libraries_at_the_top(path: Path) -> None:
    everything = set(imports(path))
    assert not [
        one for one in everything if within(one, "dreamgym_env.wrappers") or within(one, "dreamgym_env.trainers")
    ]
    top = {name.partition(".")[0] for name in imports(path, top_level_only=True)}
    assert not top & HEAVY


@pytest.mark.parametrize("path", [p for p in SOURCES if not p.is_relative_to(ROOT / "dreamgym_env")], ids=module_of)
def test_wrappers_and_trainers_meet_only_through_gym_make(path: Path) -> None:
    wing = path.relative_to(ROOT).parts[0]
    other = {"wrappers": "dreamgym_env.trainers", "trainers": "dreamgym_env.wrappers"}[wing]
    assert not [one for one in imports(path) if within(one, other)]
    bare = [one for one in imports(path) if one.partition(".")[0] in ("wrappers", "trainers")]
    assert not bare, "installed, the wings have no top-level name"


def test_import_loads_nothing_heavy_and_registers() -> None:
    code = (
        "import sys, gymnasium, dreamgym_env; loaded = {name.partition('.')[0] for name in sys.modules};"
        f"print(sorted(loaded & {HEAVY!r}));"
        "print([name for name in sys.modules if name.startswith(('dreamgym_env.wrappers', 'dreamgym_env.trainers'))]);"
        "print(sorted(name for name in gymnasium.registry if name.startswith(('DreamGym-', 'Real-'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    heavy, wings, ids = done.stdout.splitlines()
    assert (heavy, wings) == ("[]", "[]")
    assert "'DreamGym-WebShop-v0'" in ids
    assert "'DreamGym-v0'" in ids
    assert "'Real-WebShop-v0'" in ids
    assert "'DreamGym-ALFWorld-v0'" in ids
    assert "'Real-ALFWorld-v0'" in ids
    assert "'Real-MiniWoB-v0'" in ids
    assert "'Real-WebArena-v0'" in ids


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_nothing_grows_beyond_reading(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            is_main = node.name == "main" and path.is_relative_to(ROOT / "trainers")
            assert length <= (150 if is_main else 80), f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_nothing_runs_code_that_comes_with_data(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set(imports(path))
    assert not names & {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"torch.load", "torch.save", "eval", "exec", "builtins.eval", "builtins.exec"}, called
            trusting = [word for word in node.keywords if word.arg == "trust_remote_code"]
            assert not any(isinstance(word.value, ast.Constant) and word.value.value for word in trusting)
        if isinstance(node, ast.arguments):
            pairs = [*zip(reversed(node.args), reversed(node.defaults), strict=False)]
            pairs += [(one, value) for one, value in zip(node.kwonlyargs, node.kw_defaults, strict=True) if value]
            for argument, default in pairs:
                assert not (argument.arg == "trust_remote_code" and ast.unparse(default) == "True")


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_each_file_says_what_it_holds(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_nothing_but_the_fixed_names_lies_at_the_root() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    fixed = {"setup.cfg", "pyproject.toml", "dreamgym_env", "wrappers", "trainers", "tests", "docs", "README.md"}
    assert top <= fixed | {"LICENSE", "constraints.txt", ".ci", ".gitignore"}
    assert not (ROOT / "tests" / "__init__.py").exists()
    assert not (ROOT / "conftest.py").exists()
