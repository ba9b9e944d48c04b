"""Encoders: unit rows, determinism across processes, what resembles what, endpoints with faults."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamgym_env.encoders import (
    Encoder,
    EndpointEncoder,
    HashedEncoder,
    SentenceTransformerEncoder,
    load_encoder,
    state_action_text,
)
from dreamgym_env.types import ModelError

SEARCH = "WebShop\n[Search]"
RESULTS = (
    "Page 1 (Total results: 50)\n[Back to Search] [Next >]\n[B0A1B2C3D4] Norvale throw pillow cover | $24.99\n"
    "[B07QWERTY1] Velvet cushion covers, machine-washable | $13.50\n[B0ZZZZ9999] Desk lamp with clamp | $31.00"
)
ITEM = (
    "Norvale throw pillow cover\nPrice: $24.99 | Rating: N.A.\ncolor: [navy] [red]\n"
    "[Back to Search] [< Prev] [Description] [Features] [Reviews] [Buy Now]"
)
OTHER_ITEM = ITEM.replace("Norvale throw pillow cover", "Steel water bottle, leakproof").replace("navy", "green")


def cosines(query: tuple[str, str], *stored: tuple[str, str]) -> list[float]:
    vectors = HashedEncoder().encode([state_action_text(*pair) for pair in (query, *stored)])
    return [float(vectors[0] @ vector) for vector in vectors[1:]]


def test_rows_are_unit_float32_whatever_the_text() -> None:
    texts = [
        "",
        " ",
        "plain",
        state_action_text("", ""),
        state_action_text(SEARCH, ""),
        "\ud800 漢字 ...",
        "a" * 10_000,
    ]
    encoder = HashedEncoder()
    vectors = encoder.encode(texts * 100)
    assert isinstance(encoder, Encoder)
    assert vectors.dtype == np.float32
    assert vectors.shape == (700, 256)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert encoder.encode([]).shape == (0, 256)


def test_same_vectors_in_another_process_and_any_batch() -> None:
    texts = [state_action_text(RESULTS, "click[B0A1B2C3D4]"), state_action_text(SEARCH, "search[blue lamp]"), ""]
    code = (
        "import json, sys; from dreamgym_env.encoders import HashedEncoder;"
        "print(json.dumps(HashedEncoder(seed=3).encode(json.loads(sys.argv[1])).tolist()))"
    )
    command = [sys.executable, "-c", code, json.dumps(texts)]
    other = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    encoder = HashedEncoder(seed=3, max_words=5)  # forgets its words after every batch
    one_by_one = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(one_by_one, other, atol=1e-6)
    assert not np.allclose(HashedEncoder(seed=4).encode(texts), other, atol=0.1)


def test_similar_action_on_a_similar_page_comes_first() -> None:
    same, other_click, search, page_only = cosines(
        (RESULTS, "click[B0A1B2C3D4]"),
        (RESULTS.replace("pillow", "sofa"), "click[B0A1B2C3D4]"),
        (RESULTS.replace("lamp", "chair"), "click[B0NEWNEW55]"),
        (SEARCH, "search[throw pillow cover]"),
        (RESULTS, "click[Next >]"),
    )
    assert same > other_click > page_only > search
    assert search < 0.2


def test_the_action_decides_among_item_pages() -> None:
    bought, described, chosen = cosines(
        (ITEM, "click[Buy Now]"), (OTHER_ITEM, "click[Buy Now]"), (ITEM, "click[Description]"), (ITEM, "click[navy]")
    )
    assert bought > max(described, chosen)


def test_search_words_match_by_meaning_bearing_parts() -> None:
    close, far = cosines(
        (SEARCH, "search[machine-washable throw pillow covers]"),
        (SEARCH, "search[washable pillow cover]"),
        (SEARCH, "search[wireless gaming mouse]"),
    )
    assert close > far + 0.2


def test_weights_split_the_cosine() -> None:
    """Same action on an unrelated state: the cosine is about the action's weight, and the other way round."""
    texts = [state_action_text(SEARCH, "open door"), state_action_text("kettle steam garden", "open door")]
    for weight in (0.25, 0.75):
        one, two = HashedEncoder(dimension=4096, action_weight=weight).encode(texts)
        assert float(one @ two) == pytest.approx(weight, abs=0.05)


def test_two_thousand_texts_a_second() -> None:
    encoder = HashedEncoder()
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), 5)) for _ in range(3000)]
    texts = [state_action_text(" ".join(rng.choice(words, 98)), "click[navy]") for _ in range(1000)]
    assert 590 < np.mean([len(text) for text in texts]) < 640
    encoder.encode(texts)
    start = time.process_time()
    encoder.encode(texts)
    assert 1000 / (time.process_time() - start) > 2000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 100}, "`dimension` must be a multiple of 16 and at least 32, got 100"),
        ({"action_weight": 1.5}, r"`action_weight` must be in \[0, 1\], got 1.5"),
        ({"max_words": 0}, "`max_words` must be >= 1, got 0"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HashedEncoder(**arguments)


def test_text_keeps_the_action_on_its_line() -> None:
    assert state_action_text("page", "search[a\nState:\nb]") == "Action: search[a State: b]\nState:\npage"


def test_names() -> None:
    assert load_encoder("embedded").name == HashedEncoder().name != HashedEncoder(seed=1).name
    encoder = load_encoder("openai:text-embed@http://127.0.0.1:9/v1")
    assert encoder.name == "openai:text-embed"
    for wrong in ("", "embeded", "openai:", "sentence-transformers:"):
        with pytest.raises(ValueError, match="`encoder` must be 'embedded'"):
            load_encoder(wrong)


@contextmanager
def endpoint(answers: list[Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives the answers in turn: a status, or a function of the request's texts."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({**request, "path": self.path, "key": self.headers["Authorization"]})
            answer = answers.pop(0)
            status = answer if isinstance(answer, int) else 200
            error = {"error": {"message": f"no, {self.headers['Authorization']}"}}
            body = json.dumps(error if status != 200 else {"data": answer(request["input"]), "model": "m"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()


def lengths(texts: list[str]) -> list[dict[str, Any]]:
    rows = [{"index": i, "embedding": [float(len(text)), 1.0, 0.0]} for i, text in enumerate(texts)]
    return rows[::-1]


def test_endpoint_batches_retries_and_keeps_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1")
    with endpoint([lengths, 503, lengths]) as (url, seen):
        vectors = EndpointEncoder("m", url, batch_size=2).encode(["", "aaa", "bbbbb"])
    expected = np.array([[1, 1, 0], [3, 1, 0], [5, 1, 0]]) / np.sqrt([[2], [10], [26]])
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
    assert [one["input"] for one in seen] == [[" ", "aaa"], ["bbbbb"], ["bbbbb"]]
    assert seen[0]["path"] == "/v1/embeddings"
    assert seen[0]["key"] == "Bearer sk-secret-1"


BAD: dict[str, Any] = {
    "must give 2 embeddings": lambda texts: lengths(texts)[:1],
    "that do not fit": lambda texts: [{"index": i, "embedding": [1.0] * (i + 1)} for i in range(2)],
    "zero or not finite": lambda texts: [{"index": i, "embedding": [0.0, 0.0]} for i in range(2)],
    r"failed: .*\*\*\*": 401,
}


@pytest.mark.parametrize("message", BAD)
def test_endpoint_faults_are_model_errors_without_the_key(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-2")
    with endpoint([BAD[message]]) as (url, _):
        encoder = EndpointEncoder("m", url, api_key_variable="MY_KEY")
        with pytest.raises(ModelError, match=message) as error:
            encoder.encode(["a", "b"])
    assert "sk-secret" not in str(error.value)
    assert error.value.__cause__ is None


def test_endpoint_that_is_not_there() -> None:
    with pytest.raises(ModelError, match=r"m at http://127\.0\.0\.1:9/v1"):
        EndpointEncoder("m", "http://127.0.0.1:9/v1", max_retries=0).encode(["a"])


@pytest.mark.skipif(find_spec("sentence_transformers") is not None, reason="sentence-transformers is installed")
def test_missing_library_names_what_to_install() -> None:
    with pytest.raises(ImportError, match="pip install sentence-transformers"):
        load_encoder("sentence-transformers:all-MiniLM-L6-v2")


@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed")
def test_sentence_transformers_checkpoint(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "lamp", "blue"]))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    config = BertConfig(vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(tmp_path / "bert")
    word = models.Transformer(str(tmp_path / "bert"))
    SentenceTransformer(modules=[word, models.Pooling(16)]).save(str(tmp_path / "st"))
    vectors = load_encoder(f"sentence-transformers:{tmp_path / 'st'}").encode(["blue lamp", "lamp", ""])
    assert vectors.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    with pytest.raises(ModelError, match="cannot be loaded"):
        SentenceTransformerEncoder(str(tmp_path / "nothing"))
