"""Runs a Pulumi program: the child process of the language host, under the project's own interpreter.

Arguments: the settings as JSON, the program (a folder or file), and the program's own arguments. The configuration is
in PULUMI_CONFIG and PULUMI_CONFIG_SECRET_KEYS. Exit status 32: the error has already been shown.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

try:
    import pulumi
    import pulumi.runtime
except ImportError as error:
    sys.exit(f"the Pulumi SDK can't be imported from '{sys.prefix}': {error}; to reinstall it, run: tools/setup engine")

ERROR_WAS_SHOWN = 32
THREADS_PER_OPERATION = 4
PARENT_POLL_SECONDS = 0.2


def exit_with(parent: int) -> None:
    """Exits when the language host is gone: if killed, it can't stop this process itself."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(1)


def main(settings_json: str, program: str) -> int:
    """Runs the program against the engine and returns the exit status."""
    threading.Thread(target=exit_with, args=(os.getppid(),), daemon=True).start()
    settings = pulumi.runtime.Settings(**json.loads(settings_json))
    pulumi.runtime.set_all_config(pulumi.runtime.get_config_env(), pulumi.runtime.get_config_secret_keys_env())
    pulumi.runtime.configure(settings)
    # A failing program leaves futures that are never awaited; asyncio's warnings about them explain nothing.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    executor = ThreadPoolExecutor(max_workers=max(settings.parallel or 1, 1) * THREADS_PER_OPERATION)
    loop.set_default_executor(executor)
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: run(program)))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return 1
    except Exception as error:
        pulumi.log.error(f"Program failed with an unhandled exception:\n{program_traceback(error, program)}")
        return ERROR_WAS_SHOWN
    finally:
        executor.shutdown()
        loop.close()
    return 0


def run(program: str) -> None:
    """Runs the program as Python would."""
    path = Path(program)
    if path.is_dir() and not (path / "__main__.py").is_file():
        raise pulumi.RunError(f"unable to find main python program `__main__.py` in `{program}`")
    runpy.run_path(program, run_name="__main__")


def program_traceback(error: Exception, program: str) -> str:
    """Returns the traceback from the program's first line on, or all of it if the program was never reached."""
    path = Path(program).resolve()
    entry = path / "__main__.py" if path.is_dir() else path
    trace: TracebackType | None = error.__traceback__
    while trace and Path(trace.tb_frame.f_code.co_filename).resolve() != entry:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))


if __name__ == "__main__":
    _, settings_json, program, *arguments = sys.argv
    sys.argv = [program, *arguments]
    # The program's imports come from its own folder, not from this file's.
    sys.path.pop(0)
    sys.exit(main(settings_json, program))
