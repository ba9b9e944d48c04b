"""The replay buffer on real Chroma: what enters, what comes out, restart, damage, locks, a server."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamgym_env.buffer_rows import Added, choose
from dreamgym_env.encoders import HashedEncoder
from dreamgym_env.exact_index import ExactIndex
from dreamgym_env.replay_buffer import ReplayBuffer
from dreamgym_env.trajectories import write_trajectories
from dreamgym_env.types import DataError, Demonstration, StepContext, Task, Trajectory, Transition

WORDS = ["lamp", "sofa", "bottle", "mouse", "kettle", "shirt", "brush", "cable"]
WORDS += ["towel", "jar", "wallet", "drill", "pillow", "clock", "mug", "tent"]


def trajectory(name: str, word: str, source: Any = "real", split: Any = "train", end: Any = "success") -> Trajectory:
    """Search a word, then click a product: two transitions, all texts made of the names."""
    task = Task(f"task-{name}", "webshop", f"find a {word}", "WebShop\n[Search]", split=split)
    page = f"Page 1 (Total results: 1)\n[B0{name.upper():0>8}] {word} by {name} | $5.00"
    first = Transition(task, 0, task.initial_state, f"search[{word}]", page, source=source)
    second = Transition(task, 1, page, f"click[B0{name}]", f"{word}\nPrice: $5.00", 1.0, True, "why", source)
    return Trajectory(task, (first, second), end, "oracle", name)


def search(word: str) -> StepContext:
    task = Task("query", "webshop", f"find a {word}", "WebShop\n[Search]")
    return StepContext(task, (), task.initial_state, f"search[{word}]")


def ids(found: Sequence[Sequence[Demonstration]]) -> list[list[str]]:
    return [[one.transition_id for one in row] for row in found]


@pytest.fixture
def buffer() -> Iterator[ReplayBuffer]:
    with ReplayBuffer(real_quota=0) as made:
        yield made


def test_choose_by_hand() -> None:
    near = [("a", 0.9, False), ("b", 0.8, False), ("c", 0.7, True), ("d", 0.6, False), ("e", 0.5, True)]
    assert choose(near, 2, 0) == ([("a", 0.9), ("b", 0.8)], True)
    assert choose(near, 2, 1) == ([("a", 0.9), ("c", 0.7)], True)
    assert choose(near, 3, 2) == ([("a", 0.9), ("c", 0.7), ("e", 0.5)], True)
    assert choose(near, 5, 1) == ([(one, value) for one, value, _ in near], True)
    assert choose(near[:2], 2, 1) == ([("a", 0.9), ("b", 0.8)], False)  # no real one: dreamed ones fill the place
    assert choose(near[2:3] + near[4:], 2, 1) == ([("c", 0.7), ("e", 0.5)], True)


def test_exact_index_is_exact_and_keeps_order_in_ties() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 32)).astype(np.float32)
    vectors[200:] = vectors[100:200]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = ExactIndex()
    assert index.query(vectors[:2], 3) == [[], []]
    for start in range(0, 300, 50):
        index.add([str(row) for row in range(start, start + 50)], vectors[start : start + 50])
    found = index.query(vectors[100:110], 6)
    for row, neighbours in zip(range(100, 110), found, strict=True):
        assert [one for one, _ in neighbours[:2]] == [str(row), str(row + 100)]
        expected = np.sort(vectors @ vectors[row])[::-1][:6]
        np.testing.assert_allclose([value for _, value in neighbours], expected, atol=2e-6)
    index.delete(["100", "none"])
    assert index.query(vectors[100:101], 1)[0][0][0] == "200"
    assert len(index) == 299
    assert len(index.query(vectors[:1], 1000)[0]) == 299


def test_nearest_transition_comes_back_whole(buffer: ReplayBuffer) -> None:
    assert ids(buffer.retrieve([search("lamp")], 3)) == [[]]
    stored = [trajectory(f"t{i}", word) for i, word in enumerate(WORDS)]
    assert buffer.add(stored) == Added(added=32)
    found = buffer.retrieve([search("kettle"), search("mug")], 2)
    assert [row[0].transition for row in found] == [stored[4].transitions[0], stored[14].transitions[0]]
    assert found[0][0].transition_id == "t4:0"
    assert found[0][0].similarity == pytest.approx(1, abs=1e-5)
    assert found[0][1].similarity < 0.99
    assert buffer.retrieve([search("mug")], 0) == [[]]
    assert buffer.retrieve([], 3) == []


@pytest.mark.parametrize("cache_size", [0, 3])
def test_without_the_cache_it_is_the_same(buffer: ReplayBuffer, cache_size: int) -> None:
    with ReplayBuffer(real_quota=0, cache_size=cache_size) as small:
        for one in (buffer, small):
            one.add(trajectory(f"t{i}", word) for i, word in enumerate(WORDS))
        contexts = [search(word) for word in WORDS]
        assert small.retrieve(contexts, 4) == buffer.retrieve(contexts, 4)


def test_prompt_is_not_kept(buffer: ReplayBuffer) -> None:
    plain = trajectory("a", "lamp")
    buffer.add([replace(plain, transitions=tuple(replace(one, prompt="said") for one in plain.transitions))])
    assert buffer.retrieve([search("lamp")], 1)[0][0].transition == plain.transitions[0]


def test_adding_again_changes_nothing(buffer: ReplayBuffer) -> None:
    one = trajectory("a", "lamp")
    buffer.add([one])
    assert buffer.add([one, trajectory("b", "sofa")]) == Added(added=2, duplicates=2)
    assert len(buffer) == 4


def test_what_cannot_enter(buffer: ReplayBuffer) -> None:
    held_out = trajectory("h", "lamp", split="held_out")
    with pytest.raises(ValueError, match="must not be of the held-out task 'task-h'"):
        buffer.add([held_out])
    assert buffer.add([held_out], held_out="skip") == Added(held_out=2)
    with pytest.raises(ValueError, match="must have a `trajectory_id`"):
        buffer.add([replace(held_out, trajectory_id="")])
    other = replace(held_out, task=replace(held_out.task, domain="alfworld"))
    with pytest.raises(ValueError, match="must be of domain 'webshop', got 'alfworld'"):
        buffer.add([other])
    assert len(buffer) == 0


def test_seeding_skips_held_out_and_reports_broken_lines(buffer: ReplayBuffer, tmp_path: Path) -> None:
    path = tmp_path / "offline.jsonl"
    write_trajectories(path, [trajectory("a", "lamp"), trajectory("h", "sofa", split="held_out")])
    with path.open("a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match="line 3"):
        buffer.seed_from(path)
    broken: list[int] = []
    assert buffer.seed_from(path, "skip", lambda number, _: broken.append(number)).held_out == 2
    assert broken == [3]
    assert len(buffer) == 2


@pytest.mark.parametrize("way", ["exact", "chroma"])
def test_exclusions(way: Any) -> None:
    with ReplayBuffer(real_quota=0, search=way) as buffer:
        same = trajectory("a", "lamp")
        again = replace(trajectory("b", "lamp"), task=same.task)
        again = replace(again, transitions=tuple(replace(one, task=same.task) for one in again.transitions))
        buffer.add([same, again, trajectory("c", "lamp"), trajectory("d", "lamp")])
        assert set(ids(buffer.retrieve([search("lamp")], 4))[0]) == {"a:0", "b:0", "c:0", "d:0"}
        contexts = [search("lamp"), search("lamp")]
        first, second = ids(buffer.retrieve(contexts, 3, exclude_trajectory_ids=["a", None]))
        assert set(first) == {"b:0", "c:0", "d:0"}
        assert set(second) < {"a:0", "b:0", "c:0", "d:0"}
        own = StepContext(same.task, (), same.task.initial_state, "search[lamp]")
        assert set(ids(buffer.retrieve([own], 2, exclude_same_task=True))[0]) == {"c:0", "d:0"}
        with pytest.raises(ValueError, match="must have 2 entries or none, got 1"):
            buffer.retrieve(contexts, 1, exclude_trajectory_ids=["a"])


def test_exclusion_reaches_past_a_long_trajectory(buffer: ReplayBuffer) -> None:
    """All of the first neighbours belong to the excluded trajectory: the search must widen."""
    task = trajectory("a", "lamp").task
    steps = [Transition(task, i, task.initial_state, "search[lamp]", f"page {i}") for i in range(60)]
    buffer.add([Trajectory(task, tuple(steps), "time_limit", "x", "long"), trajectory("b", "tent")])
    found = buffer.retrieve([search("lamp")], 2, exclude_trajectory_ids=["long"])
    assert ids(found) == [["b:0", "b:1"]]


def test_impossible_transitions_and_copies_are_not_shown() -> None:
    one = trajectory("a", "lamp")
    stuck = replace(one.transitions[0], possible=False, next_state=one.task.initial_state)
    copies = [replace(one, trajectory_id=name) for name in ("b", "c")]
    blocked = Trajectory(one.task, (stuck,), "time_limit", "x", "stuck")
    for include, expected in ((False, {"a:0", "a:1"}), (True, {"a:0", "stuck:0", "a:1"})):
        with ReplayBuffer(include_impossible=include) as buffer:
            buffer.add([one, *copies, blocked])
            assert len(buffer) == 7
            assert set(ids(buffer.retrieve([search("lamp")], 5))[0]) == expected


@pytest.mark.parametrize("way", ["exact", "chroma"])
@pytest.mark.parametrize(("quota", "k", "real"), [(0.0, 3, 0), (0.5, 3, 2), (0.1, 4, 1), (1.0, 3, 3), (1.0, 9, 4)])
def test_quota_of_real_ones(way: Any, quota: float, k: int, real: int) -> None:
    """The dreamed ones are all nearer; 4 real ones exist (2 trajectories of 2)."""
    with ReplayBuffer(real_quota=quota, search=way) as buffer:
        buffer.add([trajectory("r1", "sofa"), trajectory("r2", "tent")])
        buffer.add(trajectory(f"d{i}", "lamp", "dream") for i in range(30))
        assert buffer.counts() == {"real": 4, "dream": 60}
        (found,) = buffer.retrieve([search("lamp")], k)
        assert len(found) == k
        assert sum(one.transition.source == "real" for one in found) == real
        assert [one.similarity for one in found] == sorted((one.similarity for one in found), reverse=True)


def test_pruning_rule() -> None:
    with ReplayBuffer(capacity=8) as buffer:
        buffer.add([trajectory("real", "sofa")])
        for name, priority in (("a", 0.2), ("b", 0.1), ("c", 0.2), ("d", 0.0)):
            report = buffer.add([trajectory(name, "lamp", "dream")], priority=priority)
        assert report == Added(added=2, pruned=2)
        assert {one.partition(":")[0] for one in buffer._rows} == {"real", "a", "b", "c"}
        buffer.add([trajectory("e", "lamp", "dream")], priority=0.2)
        buffer.add([trajectory("f", "lamp", "dream")], priority=0.2)
        assert {one.partition(":")[0] for one in buffer._rows} == {"real", "c", "e", "f"}
        found = buffer.retrieve([search("lamp")], 8)[0]
        assert {one.transition_id.partition(":")[0] for one in found} <= {"real", "c", "e", "f"}
        buffer.add(trajectory(f"r{i}", "mug") for i in range(5))
        assert buffer.counts() == {"real": 12, "dream": 0}


def test_only_informative_groups_enter(buffer: ReplayBuffer) -> None:
    groups = [[trajectory(f"{group}{i}", WORDS[i], "dream") for i in range(4)] for group in "abc"]
    groups[2][0] = replace(groups[2][0], end_reason="model_error")
    report = buffer.add_informative(groups, [[1, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]])
    assert report == Added(added=8, uninformative=8 + 6, broken=2)
    assert {row.priority for row in buffer._rows.values()} == {0.1875}
    with pytest.raises(ValueError, match="one reward for each trajectory"):
        buffer.add_informative(groups, [[1.0]] * 3)


def test_two_buffers_in_memory_are_apart(buffer: ReplayBuffer) -> None:
    with ReplayBuffer() as other:
        other.add([trajectory("a", "lamp")])
        assert len(buffer) == 0
        assert len(other) == 2


REOPEN = """
import json, sys
from dreamgym_env.replay_buffer import ReplayBuffer
from dreamgym_env.types import StepContext, Task
task = Task("query", "webshop", "find", "WebShop\\n[Search]")
with ReplayBuffer(sys.argv[1], real_quota=0) as buffer:
    found = buffer.retrieve([StepContext(task, (), task.initial_state, f"search[{word}]") for word in sys.argv[2:]], 3)
    rows = [[(d.transition_id, round(d.similarity, 4), d.transition.next_state) for d in row] for row in found]
    print(json.dumps(rows))
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_restart_in_another_process(tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    with ReplayBuffer(folder, real_quota=0) as buffer:
        buffer.add(trajectory(f"t{i}", word) for i, word in enumerate(WORDS))
        found = buffer.retrieve([search("mug"), search("tent")], 3)
        blocked = python(REOPEN, str(folder), "mug")
        assert f"the replay buffer in {folder} is in use by process" in blocked.stderr
    after = python(REOPEN, str(folder), "mug", "tent")
    expected = [[[d.transition_id, round(d.similarity, 4), d.transition.next_state] for d in row] for row in found]
    assert json.loads(after.stdout) == expected, after.stderr
    with ReplayBuffer(folder, real_quota=0) as again:
        assert again.add([trajectory("t3", "mouse"), trajectory("new", "mouse")]) == Added(added=2, duplicates=2)


@pytest.mark.slow
def test_a_killed_writer_leaves_a_store_that_can_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_replay_buffer import *\n"
        "buffer = ReplayBuffer(sys.argv[1])\n"
        "for i in range(10_000):\n"
        "    buffer.add([trajectory(f't{i}', WORDS[i % 16])]); print(i, flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 30:
                process.send_signal(signal.SIGKILL)
                break
    with ReplayBuffer(folder) as buffer:
        assert len(buffer) >= 2 * 31
        assert len(buffer.retrieve([search("mug")], 3)[0]) == 3
        assert buffer.add([trajectory("t0", "lamp"), trajectory("new", "lamp")]).added == 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "buffer"
    with ReplayBuffer(folder) as buffer:
        # More than Chroma keeps in its log, so that the vectors lie in the files of its index.
        buffer.add(trajectory(f"t{i}", WORDS[i % 16]) for i in range(700))
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, Any] = {
    "database cut": lambda folder: cut(folder / "chroma.sqlite3"),
    "database emptied": lambda folder: (folder / "chroma.sqlite3").write_bytes(b""),
    "no database": lambda folder: (folder / "chroma.sqlite3").unlink(),
    "junk": lambda folder: (folder / "chroma.sqlite3").write_bytes(b"hello " * 999),
    "index cut": lambda folder: [cut(path) for path in folder.glob("*/*.bin")],
    "vectors cut": lambda folder: [cut(path) for path in folder.glob("*/data_level0.bin")],
    "lengths cut": lambda folder: [cut(path) for path in folder.glob("*/length.bin")],
    "header cut": lambda folder: [cut(path) for path in folder.glob("*/header.bin")],
    "index gone": lambda folder: [shutil.rmtree(path.parent) for path in folder.glob("*/header.bin")],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_a_data_error_that_names_the_folder(kind: str, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    DAMAGE[kind](folder)
    for _ in range(2):  # the first failure must free the lock
        with pytest.raises(DataError, match=r"choose|delete the folder and seed it again") as error:
            ReplayBuffer(folder)
        assert str(folder) in str(error.value)


def test_foreign_places_are_left_alone(finished: Path, tmp_path: Path) -> None:
    import chromadb

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds \['notes\.txt'\] and no replay buffer; choose an empty folder"):
        ReplayBuffer(tmp_path)
    with pytest.raises(DataError, match="must be a folder, got the file"):
        ReplayBuffer(tmp_path / "notes.txt")
    client = chromadb.PersistentClient(str(tmp_path / "other"))
    client.create_collection("theirs", embedding_function=None)
    client.create_collection("replay-buffer", embedding_function=None)
    client.close()
    with pytest.raises(DataError, match=r"without the collection 'mine' \(it has \["):
        ReplayBuffer(tmp_path / "other", name="mine")
    with pytest.raises(DataError, match=r'was made for \{"format": null'):
        ReplayBuffer(tmp_path / "other")
    with pytest.raises(DataError, match="use the same settings"):
        ReplayBuffer(finished, domain="alfworld")
    with pytest.raises(DataError, match=r"embedded-1-256-0\.6-1"):
        ReplayBuffer(finished, encoder=HashedEncoder(seed=1))


def test_a_folder_is_locked_within_a_process_too(tmp_path: Path) -> None:
    with ReplayBuffer(tmp_path / "b"), pytest.raises(DataError, match="share the object, or run `chroma run`"):
        ReplayBuffer(tmp_path / "b")
    ReplayBuffer(tmp_path / "b").close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"capacity": 0}, "`capacity` must be >= 1, got 0"),
        ({"real_quota": 1.5}, r"`real_quota` must be in \[0, 1\], got 1.5"),
        ({"search": "fast"}, "`search` must be 'exact', 'chroma' or None, got 'fast'"),
        ({"uri": "http://localhost:80/path"}, "must be 'http://host:port', got 'http://localhost:80/path'"),
        ({"encoder": "nothing"}, "`encoder` must be"),
    ],
)
def test_arguments_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReplayBuffer(**settings)


def test_nothing_is_downloaded_and_no_model_loaded() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_replay_buffer import *\n"
        "import chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 as default\n"
        "default.ONNXMiniLM_L6_V2._download_model_if_not_exists = lambda self: sys.exit('download')\n"
        "with ReplayBuffer() as buffer:\n"
        "    buffer.add([trajectory('a', 'lamp')]); buffer.retrieve([search('lamp')], 1)\n"
        "assert not {'onnxruntime', 'torch', 'transformers'} & set(sys.modules), 'heavy'\n"
    )
    result = python(code, str(Path(__file__).parent))
    assert result.returncode == 0, result.stderr


def test_no_server() -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9 .*`chroma run`"):
        ReplayBuffer("http://127.0.0.1:9")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    command = shutil.which("chroma", path=str(Path(sys.executable).parent)) or shutil.which("chroma")
    if command is None:
        pytest.skip("the `chroma` command is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [command, "run", "--path", str(tmp_path / "server"), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def test_server_shared_by_two(server: str) -> None:
    with ReplayBuffer(server, real_quota=0.5) as one, ReplayBuffer(server, real_quota=0.5) as two:
        one.add([trajectory("a", "lamp"), trajectory("b", "sofa", "dream")])
        assert ids(two.retrieve([search("sofa")], 1)) == [["b:0"]] or len(two) == 0
        two.add([trajectory("c", "tent")])
        assert ids(one.retrieve([search("tent")], 1)) == [["c:0"]]
        found = one.retrieve([search("lamp"), search("sofa")], 2)
        assert [row[0].transition_id for row in found] == ["a:0", "b:0"]
        assert found[0][0].transition == trajectory("a", "lamp").transitions[0]
    with ReplayBuffer(server) as again:
        assert again.counts() == {"real": 4, "dream": 2}
    with pytest.raises(DataError, match="use the same settings"):
        ReplayBuffer(server, domain="alfworld")
