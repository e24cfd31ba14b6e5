"""What comes over the wire, and what the environment says of the way there."""

import gzip

import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.client import MOST_BYTES
from pipelines.engines.server.config import OpenAiModel
from pipelines.engines.server.engine import ServerEngine
from stages.engines import Refused, Sampling
from tests.servers.scripted_server import Reply, ScriptedServer, chat_reply

HI = [{"role": "user", "content": "Hi"}]
PROXY = "user:hunter2@127.0.0.1:9"


def asked_once(reply, **options):
    """The result of one chat that gets this reply; any other is answered."""
    with ScriptedServer(lambda asked: reply if asked.text == "Hi" else chat_reply("ok")) as server:
        engine = ServerEngine(OpenAiModel(model="m", base_url=server.base_url, **options))
        try:
            (found,) = engine.generate([HI], Sampling(max_tokens=9), [b"k"])
        finally:
            engine.close()
    return found


def test_an_answer_that_unpacks_to_more_than_the_limit_is_given_up():
    packed = gzip.compress(b" " * 3 * MOST_BYTES, compresslevel=1)
    found = asked_once(Reply(packed, 200, {"Content-Encoding": "gzip"}), max_tries=1)
    assert isinstance(found, Refused)
    assert "its answer cannot be used: it has more than 64,000,000 bytes" in found.reason


def test_a_compressed_answer_is_read():
    whole = b'{"choices": [{"index": 0, "message": {"content": "yes"}}]}'
    (answer,) = asked_once(Reply(gzip.compress(whole), 200, {"Content-Encoding": "gzip"}))
    assert answer.text == "yes"


def open_engine():
    ServerEngine(OpenAiModel(model="m", base_url="https://127.0.0.1:9/v1"))


def test_certificates_that_are_not_there_are_told_by_the_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ModelUnavailable, match="the environment variable SSL_CERT_FILE names"):
        open_engine()


@pytest.mark.parametrize("scheme", ["socks5", "ftp"])
@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
def test_a_proxy_that_cannot_be_used_is_told_by_the_variable_alone(monkeypatch, scheme, name):
    for other in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.lower(), raising=False)
    monkeypatch.setenv(name, f"{scheme}://{PROXY}")
    with pytest.raises(ModelUnavailable) as raised:
        open_engine()
    assert f"the environment variable {name} names cannot be used" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert "user" not in str(raised.value)
    assert raised.value.__cause__ is None
