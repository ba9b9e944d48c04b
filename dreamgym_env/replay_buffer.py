"""The replay buffer: transitions in Chroma, top-k by cosine of phi(s, a) (Section 4.1.1, arXiv:2511.03773)."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dreamgym_env.buffer_rows import Added, Row, choose, metadata_of, row_of, transition_of
from dreamgym_env.chroma_store import ChromaStore
from dreamgym_env.curriculum import reward_entropy
from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.encoders import Encoder, load_encoder, state_action_text
from dreamgym_env.exact_index import ExactIndex, Vectors
from dreamgym_env.prompts import in_words
from dreamgym_env.trajectories import OnBroken, read_trajectories
from dreamgym_env.types import Demonstration, StepContext, Trajectory, Transition

_CHUNK = 2_000


class ReplayBuffer:
    """Transitions with their embeddings, in memory, in a folder or on a Chroma server.

    Held-out tasks never enter. Demonstrations of one context never include a trajectory or task that is excluded for
    it, never repeat the same (state, action, next state), and at least ceil(k * real_quota) of them are real where that
    many real ones can be had.

    In memory and in a folder the neighbours are found by an exact scan of the embeddings kept in this process (1 KiB a
    transition at dimension 256): Chroma's own HNSW search is approximate and gives other neighbours each time the same
    rows are added, so that no dream could be repeated. On a server, whose rows others may change, Chroma searches.

    Over its capacity the buffer drops dreamed transitions: those of the lowest priority (the reward entropy of the
    group that they came from) first and among equals the oldest first. Real demonstrations are never dropped, so that
    more real ones than `capacity` stay. In a folder only one process at a time. Not safe to share between threads.

    Args:
        uri: "memory", a folder, or "http://host:port".
        encoder: phi, an object or a name for `load_encoder`. A store opened again needs the same one.
        domain: the domain, or its name. A store holds one domain.
        capacity: transitions to keep, >= 1.
        real_quota: share of each top-k that is real, in [0, 1].
        name: of the collection, 3 to 400 characters of letters, digits, `.`, `_`, `-`.
        include_impossible: whether transitions whose action was impossible may be retrieved. They teach nothing where
            the domain's rules answer such actions.
        search: "exact" or "chroma" for the other way to search; None chooses as above.
        cache_size: transitions kept as objects, >= 0; others are read from Chroma.

    Raises:
        ValueError: an argument is not so.
        DataError: the store cannot be used; the message names the place and what to do.
    """

    def __init__(
        self,
        uri: str | Path = "memory",
        encoder: Encoder | str = "embedded",
        domain: Domain | str = "webshop",
        *,
        capacity: int = 100_000,
        real_quota: float = 0.5,
        name: str = "replay-buffer",
        include_impossible: bool = False,
        search: Literal["exact", "chroma"] | None = None,
        cache_size: int = 20_000,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"`capacity` must be >= 1, got {capacity}")
        if not 0 <= real_quota <= 1:
            raise ValueError(f"`real_quota` must be in [0, 1], got {real_quota}")
        if search not in (None, "exact", "chroma"):
            raise ValueError(f"`search` must be 'exact', 'chroma' or None, got {search!r}")
        self.capacity, self.real_quota, self.include_impossible = capacity, real_quota, include_impossible
        self.encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
        self._world = load_domain(domain) if isinstance(domain, str) else domain
        self.domain = domain if isinstance(domain, str) else domain.name
        self._cache_size = cache_size
        encoding = self.encoder.name + ("-in-words" if hasattr(self._world, "in_words") else "")  # vectors differ
        queried = None if search is None else search == "chroma"
        self._store = ChromaStore(str(uri), name, {"domain": self.domain, "encoder": encoding}, queried=queried)
        # One for dreamed [0], one for real [1] transitions, so that a quota of real ones is found in one search.
        self._indexes = None if self._store.queried else (ExactIndex(), ExactIndex())
        self._rows: dict[str, Row] = {}
        self._cache: OrderedDict[str, Transition] = OrderedDict()
        self._changes, self._counted = 0, (-1, 0)
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """Transitions in the buffer."""
        return len(self._rows)

    def __enter__(self) -> ReplayBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back the folder; a buffer in memory is lost. Closing twice does nothing."""
        self._store.close()

    def counts(self) -> dict[str, int]:
        """Transitions by source: {"real": ..., "dream": ...}."""
        real = sum(row.real for row in self._rows.values())
        return {"real": real, "dream": len(self._rows) - real}

    def add(
        self,
        trajectories: Iterable[Trajectory],
        *,
        priority: float = 0.0,
        held_out: Literal["raise", "skip"] = "raise",
    ) -> Added:
        """Adds every transition under the id `trajectory_id:step_index`; ids that are there already are left alone, so
        that a seeding that was interrupted can be repeated. Prunes when over capacity.

        Args:
            trajectories: of this buffer's domain, each with a `trajectory_id`.
            priority: how informative they are, in [0, 1]; the reward entropy of their group.
            held_out: whether a trajectory of the held-out split is an error or left out and counted.

        Raises:
            ValueError: no id, another domain, or a held-out task; those before it have been added.
        """
        total, pending = Added(), list[tuple[str, Transition]]()
        for trajectory in trajectories:
            if self._refused(trajectory, held_out):
                total += Added(held_out=len(trajectory.transitions))
                continue
            pending += [(f"{trajectory.trajectory_id}:{one.step_index}", one) for one in trajectory.transitions]
            if len(pending) >= _CHUNK:
                total += self._add(pending, priority)
                pending = []
        total += self._add(pending, priority)
        return total + Added(pruned=self.prune())

    def add_informative(self, groups: Sequence[Sequence[Trajectory]], rewards: Sequence[Sequence[float]]) -> Added:
        """Adds the groups whose reward entropy is above 0, with it as their priority; groups that ended all alike,
        episodes that ended in a model error and held-out tasks are left out and counted.

        Args:
            groups: the trajectories of each group.
            rewards: the outcome reward of each trajectory, in the same shape.

        Raises:
            ValueError: the shapes differ, or see `add`.
        """
        if [len(group) for group in groups] != [len(one) for one in rewards]:
            raise ValueError("`rewards` must have one reward for each trajectory of each group")
        total = Added()
        for group, outcomes in zip(groups, rewards, strict=True):
            whole = [(one, reward) for one, reward in zip(group, outcomes, strict=True) if not one.broken]
            kept = [one for one, _ in whole]
            value = reward_entropy([reward for _, reward in whole]) if whole else 0.0
            total += Added(broken=_steps(group) - _steps(kept))
            total += self.add(kept, priority=value, held_out="skip") if value > 0 else Added(uninformative=_steps(kept))
        return total

    def seed_from(
        self, path: str | Path, on_error: Literal["raise", "skip"] = "raise", on_broken: OnBroken | None = None
    ) -> Added:
        """Adds the trajectories of a file (see `trajectories.read_trajectories`); held-out ones are left out and
        counted.

        Raises:
            FileNotFoundError, DataError: see `read_trajectories`.
            ValueError: see `add`.
        """
        return self.add(read_trajectories(path, on_error, on_broken), held_out="skip")

    def retrieve(
        self,
        contexts: Sequence[StepContext],
        k: int,
        exclude_trajectory_ids: Sequence[str | None] = (),
        exclude_same_task: bool = False,
    ) -> list[list[Demonstration]]:
        """For each context up to k demonstrations, the nearest first.

        Args:
            contexts: any number; one batched search serves all.
            k: >= 0.
            exclude_trajectory_ids: for each context the trajectory that it is part of, or None; empty for none at all.
            exclude_same_task: whether to leave out each context's own task, as when training on stored transitions.

        Raises:
            ValueError: k < 0, or not one excluded id for each context.
        """
        if k < 0:
            raise ValueError(f"`k` must be >= 0, got {k}")
        excluded = list(exclude_trajectory_ids) or [None] * len(contexts)
        if len(excluded) != len(contexts):
            raise ValueError(f"`exclude_trajectory_ids` must have {len(contexts)} entries or none, got {len(excluded)}")
        if k == 0 or not contexts or not len(self):
            return [[] for _ in contexts]
        tasks = [context.task.task_id if exclude_same_task else None for context in contexts]
        chosen = self._search(self._vectors(contexts), k, list(zip(excluded, tasks, strict=True)))
        transitions = self._transitions({one: None for row in chosen for one, _ in row})
        return [
            [Demonstration(one, transitions[one], similarity) for one, similarity in row if one in transitions]
            for row in chosen
        ]

    def prune(self) -> int:
        """Drops dreamed transitions down to `capacity` by the rule above, and gives how many."""
        surplus = len(self._rows) - self.capacity
        if surplus <= 0:
            return 0
        dreamed = sorted((row.priority, row.order, one) for one, row in self._rows.items() if not row.real)
        dropped = [one for _, _, one in dreamed[:surplus]]
        self._store.delete(dropped)
        if self._indexes is not None:
            self._indexes[0].delete(dropped)
        for one in dropped:
            del self._rows[one]
            self._cache.pop(one, None)
        self._changes += 1
        return len(dropped)

    def _vectors(self, steps: Iterable[StepContext | Transition]) -> Vectors:
        pairs = [(one.state, one.action) for one in steps]
        rows = {pair: row for row, pair in enumerate(dict.fromkeys(pairs))}  # any encoder reads each of them once
        texts = [state_action_text(state, in_words(self._world, state, action)) for state, action in rows]
        return self.encoder.encode(texts)[[rows[pair] for pair in pairs]]

    def _load(self) -> None:
        found: list[tuple[str, Row, Any]] = []
        exact = self._indexes is not None
        for ids, metadatas, vectors in self._store.scan(with_vectors=exact):
            rows = [row_of(one, metadata, self._store.uri) for one, metadata in zip(ids, metadatas, strict=True)]
            found += zip(ids, rows, vectors if exact else [None] * len(ids), strict=True)
        found.sort(key=lambda one: one[1].order)  # as it was, so that ties fall as they did
        self._rows = {one: row for one, row, _ in found}
        if exact and found:
            self._index(list(self._rows), np.stack([vector for _, _, vector in found]))

    def _index(self, ids: Sequence[str], vectors: Vectors) -> None:
        for real, index in enumerate(self._indexes or ()):
            chosen = [position for position, one in enumerate(ids) if self._rows[one].real == bool(real)]
            index.add([ids[position] for position in chosen], vectors[chosen])

    def _refused(self, trajectory: Trajectory, held_out: str) -> bool:
        where = f"trajectory {trajectory.trajectory_id!r}"
        if not trajectory.trajectory_id:
            raise ValueError(f"a trajectory of task {trajectory.task.task_id!r} must have a `trajectory_id`, got ''")
        if trajectory.task.domain != self.domain:
            raise ValueError(f"{where} must be of domain {self.domain!r}, got {trajectory.task.domain!r}")
        if trajectory.task.split != "held_out":
            return False
        if held_out == "raise":
            raise ValueError(f"{where} must not be of the held-out task {trajectory.task.task_id!r}; it would leak")
        return True

    def _add(self, pending: Sequence[tuple[str, Transition]], priority: float) -> Added:
        fresh = {one: transition for one, transition in pending if one not in self._rows}
        if not fresh:
            return Added(duplicates=len(pending))
        order = 1 + max((row.order for row in self._rows.values()), default=-1)
        metadatas = [
            metadata_of(one.rpartition(":")[0], transition, priority, order + position)
            for position, (one, transition) in enumerate(fresh.items())
        ]
        vectors = self._vectors(fresh.values())
        self._store.add(list(fresh), vectors, metadatas)
        for (one, transition), metadata in zip(fresh.items(), metadatas, strict=True):
            self._rows[one] = row_of(one, metadata, self._store.uri)
            self._remember(one, replace(transition, prompt=""))
        self._changes += len(fresh)
        self._index(list(fresh), vectors)
        return Added(added=len(fresh), duplicates=len(pending) - len(fresh))

    def _search(
        self, vectors: Vectors, k: int, excluded: Sequence[tuple[str | None, str | None]]
    ) -> list[list[tuple[str, float]]]:
        """The chosen (id, cosine) for each vector. Most are served by the first search; for those whose neighbours are
        mostly left out, it is widened."""
        chosen: list[list[tuple[str, float]]] = [[] for _ in excluded]
        quota = min(math.ceil(k * self.real_quota), self._real_contents())
        waiting, width = list(range(len(excluded))), 3 * k + 8
        while waiting:
            whole = width >= len(self._rows)
            found = self._nearest(vectors[waiting], width)
            short = []
            for position, neighbours in zip(waiting, found, strict=True):
                allowed = self._allowed(neighbours, *excluded[position])
                chosen[position], enough = choose(allowed, k, quota)
                if not enough and not whole:
                    short.append(position)
            waiting, width = short, 8 * width
        return chosen

    def _nearest(self, vectors: Vectors, width: int) -> list[list[tuple[str, float]]]:
        if self._indexes is not None:
            both = [index.query(vectors, width) for index in reversed(self._indexes)]
            return [sorted(real + dreamed, key=lambda pair: -pair[1]) for real, dreamed in zip(*both, strict=True)]
        found = self._store.query(vectors, width)
        unknown = list({one for row in found for one, _ in row if one not in self._rows})
        for one, metadata in self._store.rows(unknown).items():  # written by another process
            self._rows[one] = row_of(one, metadata, self._store.uri)
            self._changes += 1
        return found

    def _allowed(
        self, neighbours: Sequence[tuple[str, float]], trajectory_id: str | None, task_id: str | None
    ) -> Iterator[tuple[str, float, bool]]:
        """(id, cosine, real) of those neighbours that may be shown, each content once."""
        seen: set[str] = set()
        for one, similarity in neighbours:
            row = self._rows.get(one)
            if row is None or row.content in seen or row.trajectory_id == trajectory_id or row.task_id == task_id:
                continue
            if row.possible or self.include_impossible:
                seen.add(row.content)
                yield one, similarity, row.real

    def _real_contents(self) -> int:
        """How many different real transitions can be had; counted anew when the rows have changed."""
        if self._counted[0] != self._changes:
            rows = (row for row in self._rows.values() if row.real and (row.possible or self.include_impossible))
            self._counted = (self._changes, len({row.content for row in rows}))
        return self._counted[1]

    def _transitions(self, ids: Iterable[str]) -> dict[str, Transition]:
        ids = list(ids)
        missing = [one for one in ids if one not in self._cache]
        rows = self._store.rows(missing)
        read = {one: transition_of(one, metadata, self._store.uri) for one, metadata in rows.items()}
        cached = {one: self._cache[one] for one in ids if one in self._cache}
        for one, transition in (cached | read).items():
            self._remember(one, transition)
        return cached | read

    def _remember(self, transition_id: str, transition: Transition) -> None:
        self._cache[transition_id] = transition
        self._cache.move_to_end(transition_id)
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)


def _steps(trajectories: Sequence[Trajectory]) -> int:
    return sum(len(one.transitions) for one in trajectories)
