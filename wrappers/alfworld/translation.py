"""What Fast Downward makes of a game's PDDL problem, kept in memory and on disk: by far the most costly part of loading
one."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fast_downward
from textworld.logic import Placeholder, Proposition, Variable

from .grammar import PARSING

FORMAT = 1
"""Raised with every change of what a kept file holds."""


@dataclass(frozen=True)
class Translation:
    """What Fast Downward makes of one problem, as far as playing it needs."""

    sas: bytes
    types: tuple[tuple[str, tuple[str, ...]], ...]
    name_to_type: Mapping[str, str]
    facts: tuple[Proposition, ...]
    """What is true at the start, static relations included."""
    parameters: Mapping[str, tuple[Placeholder, ...]]
    """Of each action of the PDDL domain."""
    fluents: frozenset[str]
    """Predicates that some action changes."""


@lru_cache(maxsize=256)
def translate(domain: str, problem: str) -> Translation:
    """The translation of a PDDL problem: the kept one, else a new one, which is then kept."""
    file = kept_file(domain, problem)
    with suppress(OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError):  # none, or damaged
        return from_json(json.loads(gzip.decompress(file.read_bytes())))
    made = translate_anew(domain, problem)
    with suppress(OSError):  # no room or no right to write costs time alone
        _keep(file, made)
    return made


def cache_root() -> Path:
    """Where what is made once for ALFWorld is kept: below DREAMGYM_CACHE, or ~/.cache/dreamgym."""
    return Path(os.environ.get("DREAMGYM_CACHE") or Path.home() / ".cache" / "dreamgym") / "alfworld"


def kept_file(domain: str, problem: str) -> Path:
    """Where the translation of this problem is kept, by this format and this Fast Downward."""
    name = hashlib.sha256("\0".join((domain, problem)).encode("utf-8")).hexdigest()
    return cache_root() / "translations" / f"{FORMAT}-{version('fast-downward-textworld')}" / f"{name}.json.gz"


def translate_anew(domain: str, problem: str) -> Translation:
    """Parses and grounds a PDDL problem."""
    with PARSING:
        argv = sys.argv  # the translator overwrites it
        try:
            task, sas = fast_downward.pddl2sas(domain, problem)
        finally:
            sys.argv = argv
    types = {thing.name: thing.type_name for thing in task.objects}
    return Translation(
        sas=sas.encode("utf-8"),
        types=tuple((kind.name, tuple(kind.supertype_names)) for kind in task.types),
        name_to_type=types,
        facts=tuple(fact for fact in (_fact(atom, types) for atom in task.init) if fact is not None),
        parameters={
            action.name: tuple(Placeholder(each.name.strip("?"), each.type_name) for each in action.parameters)
            for action in task.actions
        },
        fluents=frozenset(effect.literal.predicate for action in task.actions for effect in action.effects),
    )


def as_json(made: Translation) -> dict[str, Any]:
    """A translation as JSON values."""
    return {
        "sas": made.sas.decode("utf-8"),
        "types": made.types,
        "name_to_type": made.name_to_type,
        "facts": [[fact.name, [one.name for one in fact.arguments]] for fact in made.facts],
        "parameters": {name: [[one.name, one.type] for one in each] for name, each in made.parameters.items()},
        "fluents": sorted(made.fluents),
    }


def from_json(kept: Mapping[str, Any]) -> Translation:
    """What `as_json` told."""
    types = dict(kept["name_to_type"])
    return Translation(
        sas=kept["sas"].encode("utf-8"),
        types=tuple((name, tuple(parents)) for name, parents in kept["types"]),
        name_to_type=types,
        facts=tuple(
            Proposition(name, [Variable(argument, types[argument]) for argument in arguments])
            for name, arguments in kept["facts"]
        ),
        parameters={name: tuple(Placeholder(*one) for one in each) for name, each in kept["parameters"].items()},
        fluents=frozenset(kept["fluents"]),
    )


def _keep(file: Path, made: Translation) -> None:
    """Writes the file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = gzip.compress(json.dumps(as_json(made)).encode("utf-8"), 6, mtime=0)
    handle, partial = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as writer:
            writer.write(content)
        os.replace(partial, file)
    except OSError:
        Path(partial).unlink(missing_ok=True)
        raise


def _fact(atom: Any, types: Mapping[str, str]) -> Proposition | None:
    """An initial atom as a proposition; None for equalities, and for costs and distances, which are no atoms."""
    if not isinstance(atom, fast_downward.translate.pddl.conditions.Atom) or atom.predicate == "=":
        return None
    return Proposition(atom.predicate, [Variable(name, types[name]) for name in atom.args])
