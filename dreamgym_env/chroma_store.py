"""One Chroma collection as a store of rows: opened by URI, locked, checked; embeddings are always given by us."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from dreamgym_env.locks import lock_exclusively
from dreamgym_env.types import DataError

Metadata = Mapping[str, Any]
Vectors = NDArray[np.float32]
FORMAT = "dreamgym-buffer-1"
_LOCK = "dreamgym.lock"
_PAGE = 5_000
_UNQUERIED = {"ef_construction": 10, "max_neighbors": 4}
_HEADER_NAME = "header.bin"
_HEADER = struct.Struct("=iQQQQQQiIQQQdQ")
"""The header of an index: version, an offset, the rows there is room for, the rows there are, the bytes of each, ..."""


class ChromaStore:
    """Rows of (id, unit vector, metadata) in a cosine collection.

    Args:
        uri: "memory", a folder, or "http://host:port" of a running `chroma run`.
        name: the collection's name, 3 to 512 characters of letters, digits, `.`, `_` and `-`.
        identity: what the collection was made for (domain, encoder); an existing one must agree.
        queried: whether `query` will be called; None for a server alone. Where it will not, a collection in memory gets
            a sparse graph of neighbours, which is made sooner.

    Raises:
        DataError: the folder is in use, half-written, damaged or somebody else's, the server does not answer, or the
            collection was made for something else. The message names the place and what to do.
    """

    _client: Any = None

    def __init__(self, uri: str, name: str, identity: Mapping[str, str], *, queried: bool | None = None) -> None:
        self.uri, self.is_server = uri, uri.startswith(("http://", "https://"))
        self.queried = self.is_server if queried is None else queried
        self._lock: IO[str] | None = None
        # All in-memory clients of a process share one store; the suffix keeps the buffers apart.
        self._temporary = f"{name}-{uuid.uuid4().hex}" if uri == "memory" else None
        try:
            with self._explained():
                self._open(name)
                graph = _UNQUERIED if self._temporary and not self.queried else {}
                self._collection = _collection(
                    self._client, self._temporary or name, uri, {"format": FORMAT, **identity}, graph
                )
                self._batch: int = self._client.get_max_batch_size()
        except BaseException:
            self.close()
            raise
        # A buffer in memory that is only dropped, not closed, must free its memory as well.
        weakref.finalize(self, _release, self._client, self._temporary).atexit = False

    def _open(self, name: str) -> None:
        if self.uri == "memory":
            self._client = _memory_client()
        elif self.is_server:
            self._client = _server_client(self.uri)
        else:
            self._open_folder(Path(self.uri), name)

    def _open_folder(self, folder: Path, name: str) -> None:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"the replay buffer's place must be a folder, got the file {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder)
        content = sorted(path.name for path in folder.iterdir() if path.name != _LOCK)
        if content and "chroma.sqlite3" not in content:
            raise DataError(f"{folder} holds {content[:3]} and no replay buffer; choose an empty folder")
        if content:
            _check_database(folder)
            _check_indexes(folder)
        try:
            self._client = _chromadb().PersistentClient(str(folder), settings=_settings())
        except (AttributeError, ValueError) as error:  # what Chroma raises after an earlier failure in this process
            raise DataError(
                f"the replay buffer in {folder} could not be opened ({error}); close other Chroma clients of this "
                "process; if it is damaged, delete the folder and seed it again in a new process"
            ) from error
        names = [one.name for one in self._client.list_collections()]
        if content and name not in names:
            raise DataError(
                f"{folder} holds a Chroma store without the collection {name!r} (it has {names}): it was made by "
                "something else or never finished; choose another folder, or delete this one and seed it again"
            )

    def add(self, ids: Sequence[str], vectors: Vectors, metadatas: Sequence[dict[str, Any]]) -> None:
        """Writes rows; ids that are there already are overwritten."""
        with self._explained():
            for start in range(0, len(ids), self._batch):
                part = slice(start, start + self._batch)
                self._collection.upsert(ids=list(ids[part]), embeddings=vectors[part], metadatas=list(metadatas[part]))

    def delete(self, ids: Sequence[str]) -> None:
        """Removes rows; ids that are not there do not matter."""
        with self._explained():
            for start in range(0, len(ids), self._batch):
                self._collection.delete(ids=list(ids[start : start + self._batch]))

    def rows(self, ids: Sequence[str]) -> dict[str, Metadata]:
        """The metadata of those of the ids that are there."""
        if not ids:
            return {}
        with self._explained():
            got = self._collection.get(ids=list(ids), include=["metadatas"])
        return dict(zip(got["ids"], got["metadatas"], strict=True))

    def scan(self, with_vectors: bool) -> Iterator[tuple[list[str], list[Metadata], Vectors]]:
        """All rows, some thousands at a time: ids, metadatas and (empty unless asked for) vectors [n, d]."""
        include = ["metadatas", "embeddings"] if with_vectors else ["metadatas"]
        with self._explained():
            total = self._collection.count()
        for offset in range(0, total, _PAGE):
            with self._explained():
                got = self._collection.get(limit=_PAGE, offset=offset, include=include)
            vectors = np.asarray(got["embeddings"], dtype=np.float32) if with_vectors else np.empty((0, 0), np.float32)
            yield got["ids"], got["metadatas"], vectors

    def query(self, vectors: Vectors, n: int) -> list[list[tuple[str, float]]]:
        """For each vector the n nearest (id, cosine), best first. Approximate (HNSW), and not repeatable between
        two stores of the same rows."""
        with self._explained():
            got = self._collection.query(query_embeddings=vectors, n_results=n, include=["distances"])
        return [
            [(one, 1.0 - distance) for one, distance in zip(ids, distances, strict=True)]
            for ids, distances in zip(got["ids"], got["distances"], strict=True)
        ]

    def close(self) -> None:
        """Gives back the folder; a store in memory is lost. Closing twice does nothing."""
        if self._client is not None:
            _release(self._client, self._temporary)
            self._client = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Chroma's errors as ours, with the place and the remedy."""
        import httpx
        from chromadb.errors import ChromaError

        try:
            yield
        except (ChromaError, httpx.HTTPError, ConnectionError, TimeoutError) as error:
            reason = f"{type(error).__name__}: {str(error)[:300]}"
            if self.is_server:
                raise DataError(f"the Chroma server at {self.uri} failed ({reason}); is `chroma run` up?") from error
            raise DataError(
                f"the replay buffer in {self.uri} cannot be used ({reason}); if it is half-written or damaged, delete "
                "the folder and seed it again from the trajectories"
            ) from error


def _chromadb() -> Any:
    import chromadb

    return chromadb


def _settings() -> Any:
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False)


def _memory_client() -> Any:
    try:
        return _chromadb().EphemeralClient(settings=_settings())
    except ValueError as error:  # Chroma allows one kind of settings for all in-memory clients of a process
        raise DataError(
            f"a replay buffer in memory cannot be made beside another in-memory Chroma client ({error}); give that one "
            "Settings(anonymized_telemetry=False), or give the buffer a folder"
        ) from error


def _server_client(uri: str) -> Any:
    url = urlsplit(uri)
    if not url.hostname or url.path.strip("/"):
        raise ValueError(f"the URI of a Chroma server must be 'http://host:port', got {uri!r}")
    ssl = url.scheme == "https"
    try:
        return _chromadb().HttpClient(
            host=url.hostname, port=url.port or (443 if ssl else 8000), ssl=ssl, settings=_settings()
        )
    except ValueError as error:  # Chroma's way to say that nobody answers
        raise DataError(f"no Chroma server answers at {uri} ({error}); start one with `chroma run`") from error


def _collection(client: Any, name: str, uri: str, identity: dict[str, str], graph: dict[str, int]) -> Any:
    """The collection, made where it is absent and checked where it is not."""
    collection = client.get_or_create_collection(
        name, embedding_function=None, configuration={"hnsw": {"space": "cosine", **graph}}, metadata=identity
    )
    found = {key: (collection.metadata or {}).get(key) for key in identity}
    if found != identity:
        raise DataError(
            f"the collection {name!r} in {uri} was made for {json.dumps(found)}, but {json.dumps(identity)} is asked "
            "for; use the same settings, or another name or place"
        )
    return collection


def _check_database(folder: Path) -> None:
    """Finds a cut-off or foreign database before Chroma does, whose failed start would spoil every later one.

    Raises:
        DataError: `chroma.sqlite3` is not a whole SQLite file.
    """
    file = folder / "chroma.sqlite3"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)) as database:
            pages, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        cut = pages * size > file.stat().st_size
        reason = f"it should have {pages * size} bytes and has {file.stat().st_size}" if cut else ""
    except sqlite3.DatabaseError as error:
        reason = str(error)
    if reason:
        raise _damaged(folder, f"chroma.sqlite3: {reason}")


def _check_indexes(folder: Path) -> None:
    """Finds cut-off index files, which Chroma reads as far as they go: the vectors of the rest would be whatever was in
    memory. What `header.bin` tells of the others' sizes is hnswlib's; another version of it is left to Chroma.

    Raises:
        DataError: a file is shorter than it was written.
    """
    for header in folder.glob(f"*/{_HEADER_NAME}"):
        written, expected = header.read_bytes(), {_HEADER_NAME: _HEADER.size}
        if len(written) >= _HEADER.size:
            version, _, _, rows, row_bytes, *_ = _HEADER.unpack(written[: _HEADER.size])
            if version != 1:
                continue
            if rows:  # none have been written before the first time that the index is
                expected |= {"data_level0.bin": rows * row_bytes, "length.bin": 4 * rows}
        for name, size in expected.items():
            file = header.parent / name
            has = file.stat().st_size if file.exists() else 0
            if has < size:
                raise _damaged(folder, f"{header.parent.name}/{name}: it should have {size} bytes and has {has}")


def _damaged(folder: Path, reason: str) -> DataError:
    return DataError(
        f"the replay buffer in {folder} is damaged ({reason}); delete the folder and seed it again from the "
        "trajectories"
    )


def _locked(folder: Path) -> IO[str]:
    """The open lock file; the system frees it when this process ends, however it ends.

    Raises:
        DataError: another buffer, here or in another process, has the folder open.
    """
    file = (folder / _LOCK).open("a+", encoding="utf-8")
    try:
        lock_exclusively(file)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise DataError(
            f"the replay buffer in {folder} is in use by process {holder}; close that buffer, share the object, or run "
            "`chroma run` and give both 'http://host:port'"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _release(client: Any, temporary: str | None) -> None:
    """Deletes a collection in memory and closes the client; harmless the second time."""
    from chromadb.errors import NotFoundError

    if temporary is not None and not client._closed:
        with suppress(NotFoundError):  # the store could not be made
            client.delete_collection(temporary)
    client.close()
