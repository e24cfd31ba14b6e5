"""A server whose answers a test writes down: a function from what was asked to a reply.

with ScriptedServer(lambda asked: Reply({"choices": ...})) as server:
    OpenAiModel(model="m", base_url=server.base_url)
server.asked
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Asked:
    """One request. `path` without /v1, names of headers in lower case, `body` {} for a GET."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """The last message's content."""
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Reply:
    """`body`: anything that JSON can hold, or bytes that are sent as they are."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def chat_reply(*texts: str | None, prompt: int = 5, finish: str = "stop") -> Reply:
    """Choices with these contents, of two tokens each."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text},
            "finish_reason": finish,
        }
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": prompt, "completion_tokens": 2 * len(texts)}
    return Reply({"choices": choices, "usage": usage})


def refusal(status: int, message: str, code: str | None = None) -> Reply:
    return Reply({"error": {"message": message, "code": code}}, status)


class ScriptedServer:
    """Answers with what `reply` gives. `asked`: all requests so far, in order."""

    def __init__(self, reply: Callable[[Asked], Reply]) -> None:
        self.asked: list[Asked] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer({})

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def answer(self, body: dict[str, Any]) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.path.removeprefix("/v1"), headers, body)
                script.asked.append(asked)
                found = reply(asked)
                content = found.body
                if not isinstance(content, bytes):
                    content = json.dumps(content).encode()
                self.send_response(found.status)
                for name, value in found.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
