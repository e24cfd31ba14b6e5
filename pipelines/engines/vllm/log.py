"""What vLLM and its processes print, kept in a file: silent when all is well, told when not."""

import logging
import multiprocessing.spawn
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The last line of a traceback, also behind the prefix that vLLM's logger puts before each line.
_ERROR = re.compile(r"^(?:\([^)]*\) ERROR .*?\] )?((?:\w+\.)*\w*(?:Error|Exception|Exit): .+)$")
_CONFIGURE = "VLLM_CONFIGURE_LOGGING"
# When this process is killed, vLLM's would live on and keep their memory. Linux ends a process with
# its parent on demand; setpriv (util-linux) asks for it.
_SCRIPT = """#!/bin/sh
exec >>{log} 2>&1
if setpriv --pdeathsig KILL true 2>/dev/null; then
  exec setpriv --pdeathsig KILL {python} "$@"
fi
exec {python} "$@"
"""
_LONGEST = 1_000  # characters of an error that are passed on


class VllmLog:
    """The output of one vLLM engine.

    While it is `taking` the output, processes that vLLM starts write into the file (their own
    processes too), and so do vLLM's messages in this process from then on.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="winnow-vllm-"))
        self.path = self.folder / "vllm.log"
        self.path.touch()

    @contextmanager
    def taking(self) -> Iterator[None]:
        """For the time in which vLLM is imported and starts its processes."""
        before = os.environ.get(_CONFIGURE)
        os.environ[_CONFIGURE] = "0"  # vLLM would send its messages to stdout
        self._take_messages()
        python = multiprocessing.spawn.get_executable()
        try:
            if (wrapper := self._wrapper(python)) is not None:
                multiprocessing.spawn.set_executable(wrapper)
            yield
        finally:
            multiprocessing.spawn.set_executable(python)
            os.environ.pop(_CONFIGURE) if before is None else os.environ.update(
                {_CONFIGURE: before}
            )

    def _take_messages(self) -> None:
        logger = logging.getLogger("vllm")
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        handler = logging.FileHandler(self.path, delay=True)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False

    def _wrapper(self, python: bytes | str) -> str | None:
        """A script that starts Python with its output in the file.

        vLLM starts its processes by Python's multiprocessing, which knows of no other way (vLLM
        binds processes to NUMA nodes like this). None where temporary files cannot be executed: the
        processes' warnings are seen then.
        """
        script = self.folder / "python"
        script.write_text(
            _SCRIPT.format(
                python=shlex.quote(os.fsdecode(python)), log=shlex.quote(str(self.path))
            ),
            encoding="utf-8",
        )
        script.chmod(0o700)
        return str(script) if os.access(script, os.X_OK) else None

    def reason(self) -> str | None:
        """The last error that was printed: of an engine that died, what it died of."""
        text = self.path.read_text(encoding="utf-8", errors="replace")
        lines = [match[1] for line in text.splitlines() if (match := _ERROR.match(line))]
        found = [line for line in lines if "EngineDeadError" not in line]  # that tells no reason
        return found[-1][:_LONGEST] if found else None

    def remove(self) -> None:
        for handler in list(logging.getLogger("vllm").handlers):
            if isinstance(handler, logging.FileHandler) and handler.baseFilename == str(self.path):
                logging.getLogger("vllm").removeHandler(handler)
                handler.close()
        shutil.rmtree(self.folder, ignore_errors=True)
