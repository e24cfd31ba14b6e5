"""A server of OpenAI's protocol with seeded faults, in a thread of this process.

    with FaultyServer(faults=Faults(seed=7)) as server:
        client = OpenAI(base_url=server.base_url("judge"), api_key="none")
    server.seen.under("/judge/").most_in_flight()

or by itself, until Ctrl-C:  python -m tests.servers.faulty_server --seed 7 --rate 0.2 --port 8111
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

from tests.servers.answers import chat_answer, completion_answer, embedding_answer, texts_of
from tests.servers.faults import NO_FAULTS, Draw, Fault, Faults
from tests.servers.seen import Request, Seen
from tests.servers.spoiling import Reply, error_reply, json_reply, spoiled
from tests.servers.traits import Refusal, Traits, check_chat, check_key, check_texts
from tests.servers.wire import Exchange, parsed


@dataclass
class FaultyServer:
    """latency_s   before each answer
    drip_s      between two bytes of a dripping one
    dies_after  so many requests, then it is gone as if killed, until `revive`

    seen, authorizations   what came: the requests, and the headers with their keys
    """

    traits: Traits = field(default_factory=Traits)
    faults: Faults = NO_FAULTS
    latency_s: float = 0.0
    drip_s: float = 0.05
    dies_after: int | None = None
    port: int = 0
    seen: Seen = field(default_factory=Seen)

    def __post_init__(self) -> None:
        self.authorizations: set[str] = set()
        self._asked: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty server")
        self._thread.start()
        self.revive()
        return self

    def __exit__(self, *raised: object) -> None:
        self.die()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def base_url(self, name: str = "") -> str:
        """For each name the same server, under a path of its own: `seen.under` tells them apart."""
        return f"http://127.0.0.1:{self.port}{'/' + name if name else ''}/v1"

    def revive(self) -> None:
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def die(self) -> None:
        """Connections are cut, new ones refused."""
        asyncio.run_coroutine_threadsafe(self._die(), self._loop).result()

    async def _listen(self) -> None:
        self._listening = await asyncio.start_server(
            self._connection, "127.0.0.1", self.port, backlog=512
        )
        self.port = self._listening.sockets[0].getsockname()[1]

    async def _die(self) -> None:
        if self._listening is not None:
            self._listening.close()
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # A client that leaves in the middle is no error of ours.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its response; False where the connection ends."""
        first = await reader.read(1)
        if not first:
            return False
        request = Request(began=time.monotonic())
        self.seen.requests.append(request)
        try:
            path, headers = parsed(first + await reader.readuntil(b"\r\n\r\n"))
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            exchange = Exchange(request, reader, writer, self.drip_s)
            if path == "/seen":
                self.seen.requests.remove(request)
                return await exchange.send(json_reply(200, _told(self.seen)))
            await self._die_in_time()
            request.path, request.content = path, content.decode()
            return await self._respond(exchange, headers.get("authorization", ""))
        finally:
            if request.ended is None:
                request.ended, request.abandoned = time.monotonic(), True

    async def _respond(self, exchange: Exchange, authorization: str) -> bool:
        request = exchange.request
        self.authorizations.add(authorization)
        asked = f"{request.path} {request.content}".encode()
        request.digest = hashlib.sha256(asked).hexdigest()
        draw = self.faults.draw(request.digest, self._asked[request.digest])
        self._asked[request.digest] += 1
        reply, draw = self._reply(request, authorization, draw)
        request.fault = draw.fault if draw else None
        if reply.wait_s is not None:
            request.not_before = time.monotonic() + reply.wait_s
        if await exchange.client_leaves(self.latency_s):
            return False
        return await exchange.respond(reply, draw)

    async def _die_in_time(self) -> None:
        if self.dies_after is not None and len(self.seen.requests) > self.dies_after:
            self.dies_after = None
            self._dying = asyncio.ensure_future(self._die())
            await asyncio.sleep(60)  # until it is cut, as all others are

    def _reply(
        self, request: Request, authorization: str, draw: Draw | None
    ) -> tuple[Reply, Draw | None]:
        """What is said, and the fault that stays: what is refused meets none."""
        echoed = authorization if self.traits.echo == "completion" else ""
        try:
            check_key(authorization, self.traits)
            if self.traits.echo in ("400", "500"):
                raise Refusal(int(self.traits.echo), f"cannot serve {authorization}")
            if request.path.endswith("/models"):
                model = {"id": "judge", "object": "model", "max_model_len": self.traits.context}
                return json_reply(200, {"object": "list", "data": [model]}), None
            answer = self._answer(request, echoed)
        except Refusal as refusal:
            return json_reply(refusal.status, refusal.body()), None
        except (KeyError, TypeError, ValueError) as error:
            return error_reply(400, f"not understood: {error!r}"), None
        if self.traits.echo == "reset":
            return json_reply(200, {"said": authorization}), Draw(Fault.RESET, 1)
        if draw is None:
            return json_reply(200, answer), None
        return spoiled(answer, draw), draw

    def _answer(self, request: Request, echoed: str) -> dict[str, Any]:
        body = json.loads(request.content)
        if request.path.endswith("/chat/completions"):
            check_chat(body, self.traits)
            answer = chat_answer(body, self.traits, echoed)
        elif request.path.endswith("/completions"):
            check_chat(body, self.traits)
            answer = completion_answer(body, self.traits, echoed)
        elif request.path.endswith("/embeddings"):
            check_texts(texts_of(body), self.traits)
            answer = embedding_answer(body, self.traits)
        else:
            raise Refusal(404, f"there is no {request.path}")
        counts = answer.get("usage", {})
        request.read = counts.get("prompt_tokens", 0)
        request.written = counts.get("completion_tokens", 0)
        return answer


def _told(seen: Seen) -> dict[str, Any]:
    return {
        "requests": len(seen.requests),
        "faults": dict(seen.faults()),
        "asked_again": len(seen.asked_again()),
        "most_in_flight": seen.most_in_flight(),
        "tokens": seen.tokens(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, metavar="S")
    given = parser.parse_args()
    faults = Faults(seed=given.seed, rate=given.rate)
    with FaultyServer(faults=faults, latency_s=given.latency, port=given.port) as server:
        print(f"{server.base_url()}  (what it saw: http://127.0.0.1:{server.port}/seen)")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
