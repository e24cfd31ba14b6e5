"""Settings of Prefect that winnow stands for: it sends nothing to anyone.

To be applied before prefect is imported.
"""

import os
from collections.abc import Mapping
from typing import Final

OFF: Final[Mapping[str, str]] = {
    # The client's usage events (Amplitude), whatever server it talks to.
    "DO_NOT_TRACK": "1",
    # The server's heartbeat (sens-o-matic.prefect.io), which the embedded server sends as well.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
READABLE: Final[Mapping[str, str]] = {
    "PREFECT_LOGGING_COLORS": "false",
    # A fresh machine creates the embedded server's database first: 20 s, the default limit.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}


def quiet_prefect() -> None:
    """No usage data, readable logs, time enough for the embedded server to start."""
    os.environ.update(OFF)
    for name, value in READABLE.items():
        os.environ.setdefault(name, value)
