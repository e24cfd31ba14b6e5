"""The `openai` client as it is used here: one try at a time, and no key from the environment.

Proxies and certificates are those of the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE), as
with other programs: in many a network nothing is reached without them.
"""

import asyncio
import os
from typing import Any, Final

import httpx2
import openai

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.config import OpenAiEmbedder, OpenAiModel
from pipelines.engines.server.faults import Fault

# 64 texts' vectors of 8,192 numbers take 12 MB of JSON. Compressed, a few KB can be gigabytes.
MOST_BYTES: Final = 64_000_000
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


class TooLarge(Exception):
    """An answer of more than MOST_BYTES."""


class _Client(openai.AsyncOpenAI):
    """Without what the library takes from the environment and tells of this machine."""

    @property
    def default_headers(self) -> dict[str, str | openai.Omit]:
        return {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "winnow",
        }


class _Limited(openai.DefaultAsyncHttpxClient):
    """Reads no more of an answer than MOST_BYTES, counted after decompression."""

    async def send(
        self, request: httpx2.Request, *, stream: bool = False, **options: Any
    ) -> httpx2.Response:
        response = await super().send(request, stream=True, **options)
        whole = bytearray()
        try:
            async for part in response.aiter_bytes():
                whole += part
                if len(whole) > MOST_BYTES:
                    raise TooLarge(f"it has more than {MOST_BYTES:,} bytes")
        finally:
            await response.aclose()
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        return httpx2.Response(
            response.status_code, headers=headers, content=bytes(whole), request=request
        )


def client_of(config: OpenAiModel | OpenAiEmbedder, key: str | None) -> openai.AsyncOpenAI:
    """Sends nothing yet. `key`: None where the server asks for none.

    Raises ModelUnavailable for proxies and certificates of the environment that cannot be used.
    """
    try:
        wire = _Limited(
            # Elsewhere the key would go along, or a POST would become a GET.
            follow_redirects=False,
            timeout=httpx2.Timeout(config.timeout_s),
            limits=httpx2.Limits(
                max_connections=config.concurrency,
                max_keepalive_connections=config.concurrency,
            ),
        )
    except OSError as error:  # that of ssl is one too
        names = _named(_CERTIFICATES)
        raise ModelUnavailable(
            f"the certificates that {names} names cannot be read: {error.strerror or 'no reason'}"
        ) from None
    except (ImportError, ValueError, httpx2.InvalidURL):
        # What the library says shows the proxy's user.
        raise ModelUnavailable(
            f"the proxy that {_named(_PROXIES)} names cannot be used: it is no http:// or https:// "
            "address (socks:// takes more than is installed here)"
        ) from None
    return _Client(
        api_key=key or "none",
        base_url=config.base_url,
        max_retries=0,
        timeout=config.timeout_s,
        http_client=wire,
    )


async def sent_to(
    client: openai.AsyncOpenAI, path: str, content: bytes | None, timeout_s: float
) -> httpx2.Response | Fault:
    """One request over the wire, whatever its status. content: None for a GET.

    The fault's message is not redacted. Holds on to no exception: the library's carry the request's
    headers.
    """
    try:
        async with asyncio.timeout(timeout_s):
            if content is None:
                return await client.get(path, cast_to=httpx2.Response)
            return await client.post(path, cast_to=httpx2.Response, content=content)
    except openai.APIStatusError as error:
        return error.response
    except TooLarge as error:
        return Fault(f"its answer cannot be used: {error}", answered=True)
    except (TimeoutError, openai.APITimeoutError):
        # Whether it is there at all, a plain request tells.
        return Fault(f"no whole answer within timeout_s, {timeout_s:g} s", answered=True)
    except openai.APIConnectionError as error:
        cause = error.__cause__
        return Fault(f"{type(cause).__name__}: {cause}" if cause else "no connection")


def _named(names: tuple[str, ...]) -> str:
    found = [one for name in names for one in (name, name.lower()) if os.environ.get(one)]
    return f"the environment variable {' or '.join(found) or names[0]}"
