"""Names that are exchanged at random in training sequences, so that a small model learns to look up and copy what it
reads, not the few names of its data."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dreamgym_env.types import Trajectory

from .experience_config import Names
from .scratch import is_name, number_of, pieces_of
from .supervised import Example

_CLASSES = ("id", "capital", "plain", "title", "letter", "initial")
_TITLE = re.compile(r" [A-Z][\w-]*(?: [A-Z][\w-]*)+")


def permuted(example: Example, classes: Sequence[Sequence[tuple[int, ...]]], size: int, rng: random.Random) -> Example:
    """The example with the names of each class, all ids of each, exchanged by one random bijection throughout."""
    table = np.arange(size, dtype=np.int32)
    for members in classes:
        table[np.asarray(members)] = rng.sample(list(members), len(members))
    return Example(table[example.ids], example.weights)


def said_in(trajectory: Trajectory) -> str:
    """All that the agent thought and did."""
    return "\n".join(f"{step.thought}\n{step.action}" for step in trajectory.transitions)


def read_in(trajectory: Trajectory) -> str:
    """All that the agent read."""
    return "\n".join(step.state for step in trajectory.transitions)


def exchange_classes(
    tokenizer: Any,
    examples: Sequence[Example],
    instructions: Sequence[str],
    said: Sequence[str],
    read: Sequence[str],
    names: Names,
) -> list[list[tuple[int, ...]]]:
    """The classes of names that `permuted` exchanges.

    Args:
        instructions: of the episodes.
        said: what the agent said in each.
        read: what it read in each, its states.
        names: which single words are names: all "rare" ones, or those "copied" from instructions.
    """
    keep = format_words(tokenizer, examples, instructions)
    if names == "rare":
        return name_classes(tokenizer, keep)
    copied = copied_names(tokenizer.tokenize, instructions, said) - unread_words(said, read)
    copied -= common_pieces(tokenizer, examples, share=0.4)
    words = frozenset(token for token in tokenizer.get_vocab() if is_name(token))
    return name_classes(tokenizer, (keep | words) - copied)


def exchange_labels(
    tokenizer: Any,
    instructions: Sequence[str],
    said: Sequence[str],
    read: Sequence[str],
    classes: Sequence[Sequence[tuple[int, ...]]],
) -> list[list[tuple[int, ...]]]:
    """These classes with one more: words with a form with and one without a capital, both together; names among them
    are left out elsewhere. Words that a fifth of the instructions say stay as they are, and those that are no labels.

    Args:
        instructions: of the episodes.
        said: what the agent said in each.
        read: what it read in each, its states.
    """
    common = common_pieces(tokenizer, [_asked(tokenizer, text) for text in sorted(set(instructions))], share=0.2)
    labels = label_class(tokenizer, common | no_labels(instructions, said, read))
    taken = {index for one in labels for index in one}
    rest = [[one for one in members if taken.isdisjoint(one)] for members in classes]
    return [members for members in (labels, *rest) if members]


def no_labels(
    instructions: Sequence[str], said: Sequence[str], read: Sequence[str], share: float = 0.5
) -> frozenset[str]:
    """Words, without capitals, that are no labels of pages, by what is so in most episodes (more than `share`): their
    instruction says it and the agent does not repeat it (`Which`), or the agent says it and has not read it (`It is`).
    """
    wanted, told, seen = ([text.lower() for text in texts] for texts in (instructions, said, read))
    return lone_words(wanted, told, share) | lone_words(told, seen, share)


def lone_words(texts: Sequence[str], others: Sequence[str], share: float) -> frozenset[str]:
    """Words that the other text of the pair does not have, in more than this share of the pairs whose text has them."""
    present, alone = Counter[str](), Counter[str]()
    for text, other in zip(texts, others, strict=True):
        words = set(pieces_of(f" {text}"))
        present.update(words)
        alone.update(words.difference(pieces_of(f" {other}")))
    return frozenset(word for word in present if alone[word] > share * present[word])


def unread_words(said: Sequence[str], read: Sequence[str], share: float = 0.2) -> frozenset[str]:
    """Words that the agent says without having read them in more than this share of the episodes in which it says them:
    it answers `It is` and `On`, though in some task these are copied from a title."""
    return lone_words(said, read, share)


def name_classes(tokenizer: Any, keep: Mapping[str, int] | frozenset[str]) -> list[list[tuple[int, ...]]]:
    """Names that may be exchanged for one another, each as its token ids: words (ids, capitalised, plain), phrases of
    capitalised words, and letters.

    A letter with a token of its own for the beginning of a word has two ids. What is in `keep` is left out.
    """
    vocabulary = tokenizer.get_vocab()
    classes: dict[str, list[tuple[int, ...]]] = {name: [] for name in _CLASSES}
    for token, index in vocabulary.items():
        if token in keep or f" {token}" in keep:
            continue
        word = token.strip()
        if len(token) == 1 and token.isalpha():
            initial = [vocabulary[f" {token}"]] if f" {token}" in vocabulary else []
            classes["initial" if initial else "letter"].append((index, *initial))
        elif is_name(token) and len(word) > 1:
            kind = "id" if word.isupper() and len(word) >= 4 else "capital" if word[0].isupper() else "plain"
            classes[kind].append((index,))
        elif _TITLE.fullmatch(token):
            classes["title"].append((index,))
    return [sorted(members) for members in classes.values() if len(members) > 1]


def label_class(tokenizer: Any, keep: Mapping[str, int] | frozenset[str]) -> list[tuple[int, ...]]:
    """Words that the vocabulary has with and without a capital, as (capitalised, plain) token ids: `Phone` of a label
    and `phone` of a task. What is in `keep` in either form is left out."""
    vocabulary = tokenizer.get_vocab()
    return sorted(
        (index, vocabulary[token.lower()])
        for token, index in vocabulary.items()
        if is_name(token)
        and token[1:].istitle()
        and token.lower() in vocabulary
        and token not in keep
        and token.lower() not in keep
    )


def number_classes(tokenizer: Any) -> list[list[tuple[int, ...]]]:
    """Whole numbers, numbers with a point, and the digits that spell a number which has no token of its own.

    A number that has a token with and one without a dollar sign is both, together: a form takes `44.80` where the page
    says `$44.80`.
    """
    vocabulary = tokenizer.get_vocab()
    numbers = [token for token in vocabulary if number_of(token) is not None]
    whole, pointed, digits = list[tuple[int, ...]](), list[tuple[int, ...]](), list[tuple[int, ...]]()
    for token in numbers:
        plain = token.replace("$", "")
        if len(token) == 1:
            digits.append((vocabulary[token],))
        elif token.startswith(" ") and (token == plain or plain not in vocabulary):
            both = [one for one in (token, token.replace(" ", " $")) if one in vocabulary]
            (pointed if "." in token else whole).append(tuple(vocabulary[one] for one in both))
    classes = [*_by_size(whole), *_by_size(pointed), digits]
    return [sorted(members) for members in classes if len(members) > 1]


def _by_size(members: Iterable[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """The members of one length together: only such can be exchanged for one another."""
    found: dict[int, list[tuple[int, ...]]] = {}
    for one in members:
        found.setdefault(len(one), []).append(one)
    return list(found.values())


def copied_names(
    split: Callable[[str], Iterable[str]], instructions: Sequence[str], said: Sequence[str], share: float = 0.8
) -> frozenset[str]:
    """Pieces of instructions that the agent repeats, letter by letter, in at least this share of the episodes whose
    instruction has them: names, not what tasks are told in.

    Args:
        split: a text as its pieces.
        said: all that the agent said in the episode of each instruction.
    """
    asked: Counter[str] = Counter()
    copied: Counter[str] = Counter()
    for instruction, text in zip(instructions, said, strict=True):
        wanted = set(split(f" {instruction}"))
        asked.update(wanted)
        copied.update(wanted.intersection(split(f" {text}")))
    return frozenset(piece for piece in asked if copied[piece] >= share * asked[piece])


def copied_words(trajectories: Sequence[Trajectory]) -> frozenset[str]:
    """The names of `copied_names` as words with the blank before them, from the episodes that succeeded; without what
    most texts say."""
    won = [one for one in trajectories if one.success]
    said = [said_in(one) for one in won]
    found = copied_names(pieces_of, [one.task.instruction for one in won], said)
    counts = Counter(word for text in said for word in set(pieces_of(text)))
    return frozenset(word for word in found if is_name(word) and counts[word] < 0.4 * len(won))


def format_words(tokenizer: Any, examples: Iterable[Example], instructions: Sequence[str]) -> frozenset[str]:
    """Pieces that keep their meaning when names are exchanged: those common in the examples but not what tasks ask for.

    A word that some instructions say and some do not (`kosher`) is a name, however many pages it stands on.
    """
    asked = [_asked(tokenizer, text) for text in instructions]
    names = common_pieces(tokenizer, asked, share=0.0) - common_pieces(tokenizer, asked, share=0.5)
    return common_pieces(tokenizer, examples) - names


def common_pieces(tokenizer: Any, examples: Iterable[Example], share: float = 0.15) -> frozenset[str]:
    """Pieces that stand in at least this share of the examples: the words of the format, which keep their meaning."""
    counts: Counter[int] = Counter()
    total = 0
    for example in examples:
        counts.update(set(example.ids.tolist()))
        total += 1
    common = [index for index, count in counts.items() if count >= share * total]
    return frozenset(tokenizer.convert_ids_to_tokens(common))


def _asked(tokenizer: Any, instruction: str) -> Example:
    """An instruction as an example with nothing to learn."""
    ids = tokenizer(instruction, add_special_tokens=False)["input_ids"]
    return Example(np.asarray(ids, np.int32), np.zeros(len(ids), np.float32))
