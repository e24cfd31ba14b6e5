"""What a recipe may say of a server."""

import pytest
from pydantic import ValidationError

from pipelines.engines.server.config import Budget, OpenAiModel, Price


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("HTTP://GPU-Box:8000/V1/", "http://gpu-box:8000/V1"),
        ("http://gpu-box:8000/v1", "http://gpu-box:8000/v1"),
        ("https://[::1]/v1", "https://[::1]/v1"),
    ],
)
def test_a_server_is_known_by_one_address(written: str, meant: str) -> None:
    config = OpenAiModel(model="m", base_url=written)
    assert config.base_url == meant
    assert config.known()["base_url"] == meant


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://gpu box/v1", "holds a space"),
        (" http://gpu-box/v1", "holds a space"),
        ("http://gpu-box\t/v1", "holds a space"),
        ("http://gpu-box:99999/v1", "Port out of range"),
        ("http://gpu-box:abc/v1", "Port could not be cast"),
        ("http://gpu-box:0/v1", "names port 0"),
        ("http://[::1/v1", "Invalid IPv6 URL"),
        ("gpu-box:8000/v1", "is no http"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_sent(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        OpenAiModel(model="m", base_url=url)


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_no_price_limit_or_deadline_is_endless(number: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Price(prompt_per_million=number)
    with pytest.raises(ValidationError, match="finite number"):
        Budget(max_cost=number)
    with pytest.raises(ValidationError, match="finite number"):
        OpenAiModel(model="m", base_url="http://gpu-box/v1", timeout_s=number)
