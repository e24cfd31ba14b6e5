"""Keeps a server's key out of everything that is printed, logged or stored."""

import html
import logging
import os
import re

from pipelines.engines.errors import ModelUnavailable

HIDDEN = "***"
# Servers without keys are often given a word ("EMPTY", "ollama"). Taking it out of answers would
# spoil them, and it is no secret. No vendor's keys are shorter than this.
_SECRET = 12
_LOGGERS = (
    "openai",
    "openai._base_client",
    "openai._response",
    "httpx2",
    "httpcore2.connection",
    "httpcore2.http11",
    "httpcore2.http2",
    "httpcore2.proxy",
    "httpcore2.socks",
)


def key_of(api_key_env: str | None) -> str | None:
    """The key in the environment variable of that name. Raises ModelUnavailable."""
    if api_key_env is None:
        return None
    key = os.environ.get(api_key_env, "").strip()
    if not key:
        raise ModelUnavailable(
            f"the environment variable {api_key_env}, which the recipe names in api_key_env, is "
            "not set: put the server's key there"
        )
    if not (key.isascii() and key.isprintable()):
        raise ModelUnavailable(
            f"the environment variable {api_key_env} holds characters that no key can have"
        )
    return key


class Redactor:
    """Replaces a key by ***, however it is spelled."""

    def __init__(self, key: str | None) -> None:
        self.__spellings = _spellings(key) if key else None
        self.__is_secret = key is not None and len(key) >= _SECRET
        self.__filter = _Filter(self) if key else None

    def message(self, text: str) -> str:
        """A text for the user, such as a server's complaint, without the key."""
        return text if self.__spellings is None else self.__spellings.sub(HIDDEN, text)

    def answer(self, text: str) -> str:
        """A text that the model wrote, without the key, unless that is just a word."""
        return self.message(text) if self.__is_secret else text

    def watch_logs(self) -> None:
        """From now on the HTTP libraries' own log lines are redacted, at every level."""
        if self.__filter is not None:
            for name in _LOGGERS:
                logging.getLogger(name).addFilter(self.__filter)

    def leave_logs(self) -> None:
        if self.__filter is not None:
            for name in _LOGGERS:
                logging.getLogger(name).removeFilter(self.__filter)


class _Filter(logging.Filter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = self._redactor.message(record.getMessage())
        record.args = None
        return True


def _spellings(key: str) -> re.Pattern[str]:
    """The key as it stands, and as JSON, URLs, HTML and Python's repr write its signs."""
    return re.compile("".join(map(_spellings_of_one, key)))


def _spellings_of_one(sign: str) -> str:
    if sign.isalnum():
        return sign
    code, plain = ord(sign), re.escape(sign)
    entities = rf"&#0*{code};|&#x0*{code:x};|{re.escape(html.escape(sign))}"
    return rf"(?:\\*{plain}|(?i:\\+u{code:04x}|%{code:02x}|{entities}))"
