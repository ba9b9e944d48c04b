"""Training sequences of the experience model, pool after pool; worker processes can draw them ahead for a GPU."""

from __future__ import annotations

import random
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from dreamgym_env.types import DataError

from .corpus import Corpus, corpora_of
from .experience_config import ExperienceTrainingConfig
from .names import permuted
from .supervised import Example

_POOL = 128  # conversations
_AHEAD = 2  # pools that each worker has in hand


class CorpusSupply:
    """As many conversations of each corpus, in `permute_share` of which the names of each class are exchanged.

    A pool depends on its number and the seed alone, so that it does not matter who draws it.
    """

    def __init__(self, corpora: Sequence[Corpus], tokenizer: Any, classes: Sequence[Sequence[tuple[int, ...]]]) -> None:
        self.corpora, self.tokenizer, self.classes = corpora, tokenizer, classes
        self.number = 0
        """Pools drawn so far."""

    def draw(self, tokens: int) -> list[Example]:
        """The next pool."""
        self.number += 1
        return self.pool(self.number - 1)

    def pool(self, number: int) -> list[Example]:
        """The pool of this number, from 0."""
        config, count = self.corpora[0].config, _POOL // len(self.corpora)
        rng = random.Random(f"{config.seed} exchange {number}")

        def exchange(example: Example) -> Example:
            chosen = rng.random() < config.permute_share
            return permuted(example, self.classes, len(self.tokenizer), rng) if chosen else example

        for one in self.corpora:
            one.begin(number, count)
        return [example for one in self.corpora for example in one.examples(self.tokenizer, count, exchange)]

    def state(self) -> Any:
        """How many pools were drawn, and of what."""
        return {"of": [len(one.trajectories) for one in self.corpora], "number": self.number}

    def restore(self, state: Any) -> None:
        """Does nothing where the run goes on with other data, which is drawn anew."""
        if state["of"] == self.state()["of"]:
            self.number = state["number"]


class AheadSupply:
    """The pools of a `CorpusSupply`, drawn by worker processes while the model trains on those before."""

    def __init__(self, supply: CorpusSupply, ask: Callable[[int], Future[list[Example]]], ahead: int) -> None:
        self.supply, self.ask, self.ahead = supply, ask, ahead
        self.asked: deque[Future[list[Example]]] = deque()

    def draw(self, tokens: int) -> list[Example]:
        """The next pool; waits for it where the workers are slower than the training."""
        number = self.supply.number
        self.asked.extend(self.ask(wanted) for wanted in range(number + len(self.asked), number + self.ahead))
        found = self.asked.popleft().result()
        self.supply.number += 1
        return found

    def state(self) -> Any:
        return self.supply.state()

    def restore(self, state: Any) -> None:
        self.supply.restore(state)
        self.asked.clear()


@contextmanager
def open_supply(
    config: ExperienceTrainingConfig,
    corpora: Sequence[Corpus],
    tokenizer: Any,
    classes: Sequence[Sequence[tuple[int, ...]]],
) -> Iterator[CorpusSupply | AheadSupply]:
    """The supply of a training run: with `config.workers`, drawn ahead by that many processes, stopped at the end.

    Raises:
        DataError: a worker process was ended.
    """
    supply = CorpusSupply(corpora, tokenizer, classes)
    if not config.workers:
        yield supply
        return
    context = get_context("spawn")  # a fork would copy Chroma's threads and the GPU's state
    workers = ProcessPoolExecutor(config.workers, context, _begin_worker, (config, tokenizer, classes))
    try:
        yield AheadSupply(supply, lambda number: workers.submit(_pool, number), _AHEAD * config.workers)
    except BrokenProcessPool as error:
        raise DataError(
            f"`workers` = {config.workers} processes drew sequences, and one of them was ended (no memory left, say; "
            "what it wrote stands above); with fewer, and `--resume`, training goes on from the newest checkpoint"
        ) from error
    finally:
        workers.shutdown(wait=True, cancel_futures=True)


_SUPPLY: list[CorpusSupply] = []  # of this worker process


def _begin_worker(
    config: ExperienceTrainingConfig, tokenizer: Any, classes: Sequence[Sequence[tuple[int, ...]]]
) -> None:
    from .experience import read_training_data

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains, which stops this one
    _SUPPLY.append(CorpusSupply(corpora_of(config, read_training_data(config)), tokenizer, classes))


def _pool(number: int) -> list[Example]:
    return _SUPPLY[0].pool(number)
