"""A real HTTP server on loopback that speaks the OpenAI chat protocol and misbehaves on request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint(ThreadingHTTPServer):
    """Answers with `say(messages)`, by default the last message in capitals, after the faults that are queued."""

    daemon_threads = True

    def __init__(self, say: Callable[[list[dict[str, str]]], str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.say = say or (lambda messages: messages[-1]["content"].upper())
        self.faults: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.active = self.most_active = 0
        self.lock = threading.Lock()
        self.delay = 0.0
        self.tells_usage = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    """POST /v1/chat/completions."""

    server: Endpoint

    def log_message(self, *_: Any) -> None:
        return

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(body)
            self.server.keys.append(self.headers.get("Authorization"))
            fault = self.server.faults.pop(0) if self.server.faults else ""
            self.server.active += 1
            self.server.most_active = max(self.server.most_active, self.server.active)
        time.sleep(self.server.delay)
        with self.server.lock:
            self.server.active -= 1
        getattr(self, f"fault_{fault}", lambda: self.answer(body))()

    def reply(self, status: int, payload: Any, headers: dict[str, str] | None = None) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, body: dict[str, Any], reason: str = "stop") -> None:
        text = self.server.say(body["messages"])
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        usage_with_cache = {**usage, "prompt_tokens_details": {"cached_tokens": 4}}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        self.reply(
            200,
            {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"]}
            | {"choices": [choice]}
            | ({"usage": usage_with_cache} if self.server.tells_usage else {}),
        )

    def fault_429(self) -> None:
        self.reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.2"})

    def fault_500(self) -> None:
        self.reply(500, {"error": {"message": "oops"}})

    def fault_400(self) -> None:
        self.reply(400, {"error": {"message": f"bad request with key {self.headers['Authorization']}"}})

    def fault_long(self) -> None:
        said = "This model's maximum context length is 64 tokens. However, you requested 90 tokens."
        self.reply(400, {"object": "error", "message": said, "type": "BadRequestError", "code": 400})

    def fault_code(self) -> None:
        self.reply(400, {"error": {"message": "Shorten your messages.", "code": "context_length_exceeded"}})

    def fault_drop(self) -> None:
        self.connection.close()

    def fault_slow(self) -> None:
        time.sleep(1.0)

    def fault_garbage(self) -> None:
        self.reply(200, b'{"choices": [{"mess')

    def fault_empty(self) -> None:
        self.reply(200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []})

    def fault_filter(self) -> None:
        self.answer({"model": "m", "messages": [{"content": ""}]}, "content_filter")

    def fault_length(self) -> None:
        self.answer({"model": "m", "messages": [{"content": "cut"}]}, "length")


@contextmanager
def serving(say: Callable[[list[dict[str, str]]], str] | None = None) -> Iterator[Endpoint]:
    """The server while it runs in a thread of its own."""
    server = Endpoint(say)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
