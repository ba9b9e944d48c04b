"""TextWorld's PDDL engine without its repeated work: the same texts and commands, several times faster.

At every step the stock engine parses the text template of every applicable action with a grammar parser, copies deep
contexts for each, and translates the whole PDDL problem twice per load and twice per reset. Here the classes below
stand in for `PddlEnv`, `PddlState` and the grammar; each keeps what cannot change. Nothing of TextWorld is patched, so
stock engines in the same process stay stock. Unlike the stock engine this one runs no Python code that a game file may
hold. Not offered: `policy_commands` (the planner's plan), `moves` and the raw lists of stock states (`_facts` etc.).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fast_downward
from alfworld.agents.utils.misc import Demangler
from textworld.core import EnvInfos, Environment, GameState
from textworld.envs import PddlEnv
from textworld.envs.pddl import logic as pddl_logic
from textworld.envs.pddl import textgen
from textworld.logic import Placeholder, Proposition, Type, Variable

from .grammar import Context, FastLogic, query, symbols
from .translation import Translation, translate

_FREE: list[Any] = []
"""Copies of Fast Downward's library that nobody uses; unloading one makes a later load crash."""


class FastState(pddl_logic.PddlState):  # type: ignore[misc]
    """A game's facts, begun from a kept translation."""

    def __init__(self, downward_lib: Any, translation: Translation, logic: FastLogic) -> None:
        self._facts: dict[Any, set[Proposition]] = defaultdict(set)
        self._vars_by_type: dict[str, set[Variable]] = defaultdict(set)
        self._vars_by_name: dict[str, Variable] = {}
        self._var_counts: Counter[str] = Counter()
        self._logic, self.downward_lib, self.translation = logic, downward_lib, translation
        self.name2type = translation.name_to_type
        for name, parents in translation.types:
            if name not in logic.types._types:
                logic.types.add(Type(name, list(parents)))
        downward_lib.load_sas(translation.sas)
        self.add_facts(translation.facts)
        atoms = (pddl_logic.Atom * downward_lib.get_state_size())()
        downward_lib.get_state(atoms)
        facts = (atom.get_fact(self.name2type) for atom in atoms)
        self.add_facts([fact for fact in facts if not fact.is_negation])

    def operators(self) -> list[Any]:
        """What can be done now: Fast Downward's operators, the first of each name."""
        count = self.downward_lib.get_applicable_operators_count()
        found = (fast_downward.Operator * count)()
        self.downward_lib.get_applicable_operators(found)
        self._operators = {each.id: each for each in found}
        return list({each.name: each for each in reversed(found)}.values())[::-1]

    def replan(self, infos: Any) -> Any:
        raise NotImplementedError("the fast engine keeps no planner; use textworld.envs.PddlEnv for `policy_commands`")


@dataclass(frozen=True)
class Operator:
    """One applicable action: its id in Fast Downward, its command, its feedback rule and what its variables mean."""

    id: int
    command: str
    feedback: str
    mapping: Mapping[Placeholder, Variable]
    variables: Mapping[str, Any]


class FastPddlEnv(PddlEnv):  # type: ignore[misc]
    """`textworld.envs.PddlEnv` under `AlfredDemangler`, with the same states for what ALFWorld asks of them.

    States carry `feedback`, `raw`, `won`, `lost`, `admissible_commands`, `command_templates`, `last_command`, and
    where `infos` asks for them `facts`; after a step `score` and `done`.
    """

    def __init__(self, infos: EnvInfos | None = None) -> None:
        Environment.__init__(self, infos)  # not PddlEnv's, which loads another copy of the library each time
        self.downward_lib = _FREE.pop() if _FREE else fast_downward.load_lib()
        self._begun = False

    def load(self, filename_or_data: str | Mapping[str, Any]) -> None:
        """Loads a `game.tw-pddl` file, or what such a file holds."""
        data = filename_or_data
        if isinstance(data, str):
            with open(data, encoding="utf-8") as file:
                data = json.load(file)
        self._game_data, self.walkthrough = data, data.get("walkthrough")
        self._logic = FastLogic(data["pddl_domain"], data["grammar"])
        self._translation = translate(data["pddl_domain"], data["pddl_problem"])
        self._pddl_state = FastState(self.downward_lib, self._translation, self._logic)
        self._begun = True
        self._entity_infos = self._get_entity_infos()
        names = Demangler(game_infos=self._entity_infos)
        for info in self._entity_infos.values():
            info.name = names.demangle_alfred_name(info.id)
        self._known: dict[int, Operator] = {}
        self._templates = sorted({action.template for action in self._logic.actions.values()})
        self._static = {name: self._is_static(action.template) for name, action in self._logic.actions.items()}

    def reset(self) -> GameState:
        if not self._begun:
            self._pddl_state = FastState(self.downward_lib, self._translation, self._logic)
        self._begun = False
        self.state = GameState()
        self.state.feedback = self.state.raw = self._logic.grammar.derive("#intro#", self._context({}, {}))
        self._gather_infos()
        return self.state

    def step(self, command: str) -> tuple[GameState, int, bool]:
        command = command.strip()
        chosen = self._by_command.get(command)
        self.state = GameState()
        self.state.last_command = command
        if chosen is None:
            self.state.feedback = "Nothing happens."
        else:
            self._pddl_state.apply(chosen)
            context = self._context(chosen.mapping, chosen.variables)
            self.state.feedback = self._logic.grammar.derive(chosen.feedback, context)
        self.state.raw = self.state.feedback
        self._gather_infos()
        self.state["score"] = 1 if self.state["won"] else 0
        self.state["done"] = self.state["won"]
        return self.state, self.state["score"], self.state["done"]

    def close(self) -> None:
        """Hands on this environment's own copy of the planner's library; it cannot be used afterwards."""
        if self.downward_lib is not None:
            _FREE.append(self.downward_lib)
            self.downward_lib = None

    def _gather_infos(self) -> None:
        self.state["command_templates"] = self._templates
        self.state["won"], self.state["lost"] = self._pddl_state.check_goal(), False
        if self.request_infos.facts:
            self.state["facts"] = [self._get_human_readable_fact(fact) for fact in self._pddl_state.facts]
        self._by_command: dict[str, Operator] = {}
        for found in self._pddl_state.operators():
            operator = self._operator(found)
            self._by_command.setdefault(operator.command, operator)
        self.state["admissible_commands"] = sorted(self._by_command)

    def _operator(self, found: Any) -> Operator:
        if found.id in self._known:
            return self._known[found.id]
        action, *arguments = found.name.split()
        holes = self._translation.parameters[action]
        mapping = {hole: Variable(argument, hole.type) for hole, argument in zip(holes, arguments, strict=False)}
        variables = {hole.name: self._entity_infos[var.name] for hole, var in mapping.items()}
        rule = self._logic.actions[action]
        command = self._logic.grammar.derive(rule.template, self._context(mapping, variables))
        command = command.format(**{key: info.name for key, info in self._entity_infos.items()})
        operator = Operator(found.id, command, rule.feedback_rule, mapping, variables)
        if self._static[action]:
            self._known[found.id] = operator
        return operator

    def _is_static(self, template: str) -> bool:
        """Whether a command's text depends on nothing that an action can change."""
        parts = [part.symbol if isinstance(part, textgen.ListSymbol) else part for part in symbols(template)]
        given = filter(None, (getattr(part, "given", None) for part in parts))
        asked = {predicate.name for text in given for predicate in query(text).preconditions}
        return not asked & self._translation.fluents and not any(
            isinstance(part, textgen.NonterminalSymbol) for part in parts
        )

    def _context(self, mapping: Mapping[Any, Any], variables: Mapping[str, Any]) -> Context:
        return {
            "state": self._pddl_state,
            "variables": dict(variables),
            "mapping": mapping,
            "entity_infos": self._entity_infos,
        }
