"""One request and its response on a connection, and what can go wrong with the bytes."""

import asyncio
import socket
import struct
import time
from dataclasses import dataclass

from tests.servers.faults import Draw, Fault
from tests.servers.seen import Request
from tests.servers.spoiling import Reply

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 429: "Too Many Requests"}
_FOREVER_S = 600.0


@dataclass
class Exchange:
    """drip_s: between two bytes of a response that drips."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    drip_s: float

    async def respond(self, reply: Reply, draw: Draw | None) -> bool:
        """Whether the connection can be used again."""
        match draw.fault if draw else None:
            case Fault.RESET:
                return await self._reset(reply, in_the_middle=draw.variant % 2 == 1)
            case Fault.SILENT:
                return await self._silent(reply, after_the_status=draw.variant % 2 == 1)
            case Fault.TRUNCATED:
                return self._truncated(reply, draw.variant)
            case Fault.DRIP:
                return await self._drip(reply, from_the_status=draw.variant % 2 == 1)
        return await self.send(reply)

    async def send(self, reply: Reply) -> bool:
        self.writer.write(_head(reply) + reply.content)
        self._ends(reply.status)
        await self.writer.drain()
        return True

    async def client_leaves(self, within_s: float) -> bool:
        """Wait so long, unless the client leaves before. It sends nothing while it waits."""
        if not within_s:
            return self.reader.at_eof()
        try:
            await asyncio.wait_for(self.reader.read(1), within_s)
        except TimeoutError:
            return False
        return True

    def _ends(self, status: int) -> None:
        self.request.status, self.request.ended = status, time.monotonic()

    async def _reset(self, reply: Reply, *, in_the_middle: bool) -> bool:
        if in_the_middle:
            self.writer.write(_head(reply) + reply.content[: len(reply.content) // 2])
            await self.writer.drain()
        self._ends(0)
        # With no time to linger, closing sends RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()
        return False

    async def _silent(self, reply: Reply, *, after_the_status: bool) -> bool:
        if after_the_status:
            self.writer.write(_head(reply))
        await self.client_leaves(_FOREVER_S)
        return False

    def _truncated(self, reply: Reply, variant: int) -> bool:
        whole = _head(reply) + reply.content
        self.writer.write((whole[:-1], whole[: -len(reply.content) // 2], b"")[variant % 3])
        self._ends(0)
        return False

    async def _drip(self, reply: Reply, *, from_the_status: bool) -> bool:
        whole = _head(reply) + reply.content
        start = 0 if from_the_status else len(whole) - len(reply.content)
        self.writer.write(whole[:start])
        for at in range(start, len(whole)):
            if await self.client_leaves(self.drip_s):
                return False
            self.writer.write(whole[at : at + 1])
        self._ends(reply.status)
        return True


def parsed(head: bytes) -> tuple[str, dict[str, str]]:
    """Path and headers, their names in small letters."""
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    fields = (line.split(":", 1) for line in lines)
    return first.split(" ")[1], {name.strip().lower(): value.strip() for name, value in fields}


def _head(reply: Reply) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Unwell')}"]
    headers = {**reply.headers, "content-length": str(len(reply.content))}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
