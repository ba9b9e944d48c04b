"""TextWorld's text grammar, parsed once: the same texts as the stock `ContextSensitiveGrammar`, from kept symbols."""

from __future__ import annotations

import ast
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from textworld.envs.pddl import logic as pddl_logic
from textworld.envs.pddl import textgen
from textworld.logic import Rule, TypeHierarchy

_TASK_RULE = re.compile(r'"rhs": ("Your task is to: (?:[^"\\\n]|\\.)*")')
PARSING = threading.RLock()
"""TextWorld's parsers are one per process and cannot be entered twice; the translator's options are global."""

Context = dict[str, Any]


@lru_cache(maxsize=4096)
def symbols(text: str) -> tuple[Any, ...]:
    """A grammar text, parsed; the symbols are only read."""
    with PARSING:
        return tuple(textgen._parse_and_convert(text, rule_name="symbols"))


@lru_cache(maxsize=4096)
def query(expression: str) -> Rule:
    with PARSING:
        return Rule.parse_conjunctive_query(expression)


@lru_cache(maxsize=1024)
def _expression(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def _value(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    """The value of an expression in a game's grammar: names, their plain attributes, strings, `+` and `or`.

    The stock engine runs any Python that a game file holds.

    Raises:
        ValueError: the expression is anything else.
    """
    match node:
        case ast.Name(id=name) if name in variables:
            return variables[name]
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if attribute in (
            "name",
            "id",
            "indefinite",
            "definite",
        ):
            return getattr(variables[name], attribute)
        case ast.Constant(value=str(text)):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _value(left, variables) + _value(right, variables)
        case ast.BoolOp(op=ast.Or(), values=values):
            return next((found for found in (_value(each, variables) for each in values) if found), "")
    raise ValueError(f"a grammar's expression may add names and strings, got {ast.unparse(node)!r}")


class FastGrammar(textgen.ContextSensitiveGrammar):  # type: ignore[misc]
    """Derives by recursion over symbols that are parsed once; a symbol is never changed, so none needs a copy."""

    def derive(self, start: str, context: Context | None = None) -> str:
        return "".join(self._expand(symbol, context or {}) for symbol in symbols(start))

    def _expand(self, symbol: Any, context: Context) -> str:
        match symbol:
            case textgen.TerminalSymbol():
                return str(symbol.symbol)
            case textgen.NonterminalSymbol():
                return "".join(self._expand(each, context) for each in self._right_side(symbol, context))
            case textgen.EvalSymbol():
                return str(_value(_expression(symbol.expression), context["variables"]))
            case textgen.ConditionalSymbol():
                return "".join(self._each(symbol, context))
            case textgen.ListSymbol():
                return self._listed(list(self._each(symbol.symbol, context)), context)
        raise NotImplementedError(f"unknown symbol: {type(symbol)}")

    def _right_side(self, symbol: Any, context: Context) -> Sequence[Any]:
        """The first rule whose condition holds, as in the stock grammar."""
        rules = self._rules.get(str(symbol))
        if not rules:
            raise textgen.CSGUnknownSymbolError(symbol)
        applicable = (rule for rule in rules if not rule.condition or any(True for _ in _matches(rule, context)))
        return next(applicable).rhs  # type: ignore[no-any-return]

    def _each(self, symbol: Any, context: Context) -> Iterator[str]:
        """The symbol's expression in every context that its query finds."""
        if not symbol.given:
            yield self._expand(symbol.expression, context)
            return
        infos = context["entity_infos"]
        for mapping in context["state"].all_assignments(query(symbol.given), context["mapping"]):
            variables = context["variables"] | {hole.name: infos[var.name] for hole, var in mapping.items()}
            found = {**context, "variables": variables, "mapping": {**context["mapping"], **mapping}}
            yield self._expand(symbol.expression, found)

    def _listed(self, items: list[str], context: Context) -> str:
        def word(name: str) -> str:
            return self._expand(textgen.NonterminalSymbol(name), context)

        if len(items) < 2:
            return items[0] if items else word("list_empty")
        return word("list_separator").join(items[:-1]) + word("list_last_separator") + items[-1]


def _matches(rule: Any, context: Context) -> Iterator[Any]:
    yield from context["state"].all_assignments(query(rule.condition), context["mapping"])


@lru_cache(maxsize=32)
def _parsed_logic(grammar: str) -> tuple[Mapping[str, Any], Mapping[str, list[Any]]]:
    """Actions and production rules of a game's grammar file."""
    with PARSING:
        actions, rules = pddl_logic._parse_and_convert(grammar, rule_name="pddlStart")
    return actions, dict(rules._rules)


class FastLogic(pddl_logic.GameLogic):  # type: ignore[misc]
    """A game's actions and grammar. Games differ in one sentence, the task, so the rest is parsed once for all."""

    def __init__(self, domain: str, grammar: str) -> None:
        self.domain, self.types, self.grammar = domain, TypeHierarchy(), FastGrammar()
        found = _TASK_RULE.findall(grammar)
        shared = _TASK_RULE.sub('"rhs": "Your task is to: UNKNOWN GOAL."', grammar) if len(found) == 1 else grammar
        self.actions, rules = _parsed_logic(shared)
        self.grammar._rules.update(rules)
        if len(found) == 1:
            sentence = symbols(json.loads(found[0]))
            self.grammar._rules["task"] = [textgen.ProductionRule("task", list(sentence), 1, "")]
