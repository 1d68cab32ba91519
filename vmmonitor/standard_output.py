# SPDX-License-Identifier: Apache-2.0
"""End a command whose standard output may be a pipe, for example to ``head``."""

import os
import sys
from collections.abc import Callable

#: Exit code of a command whose reader closed the pipe, as after SIGPIPE.
BROKEN_PIPE = 141


def run_command(command: Callable[[], int]) -> int:
    """Run a command and flush its output; return its exit code.

    The output of a pipe is buffered. Without the flush here, the interpreter prints an error at
    its end if the reader has closed the pipe.

    :param command: returns an exit code, or raises SystemExit, as argparse does.
    :returns: the exit code; ``BROKEN_PIPE`` if the reader has closed the pipe.
    """
    try:
        code = _exit_code(command)
        sys.stdout.flush()
    except BrokenPipeError:
        code = BROKEN_PIPE
    if code == BROKEN_PIPE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _exit_code(command: Callable[[], int]) -> int:
    try:
        return command()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
