"""Entry point: run a command, turn every expected failure into one sentence and a status."""

from __future__ import annotations

import errno
import logging
import sys
import warnings

from adaqat_hw.errors import AdaqatHwError

STOPPED = (129, 130, 143)  # by SIGHUP, SIGINT, SIGTERM


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit: 0 ok, 1 a stage failed, 2 bad input, 3 a tool is missing."""
    warnings.filterwarnings("ignore")  # third-party deprecations are not the user's business
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    from adaqat_hw.cli.app import app
    from adaqat_hw.cli.console import error

    try:
        app(args=argv, standalone_mode=True)
    except AdaqatHwError as exc:
        error(str(exc))
        sys.exit(exc.exit_code)
    except SystemExit as exc:  # typer ends an interrupted command this way, without a word
        if exc.code in STOPPED:
            error("Stopped. The same command goes on where this one ended.")
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        where = f" at {exc.filename!r}" if exc.filename else ""
        error(
            f"The file system refused to write{where} ({exc.strerror}); free space or choose "
            "another folder, then run the same command again."
        )
        sys.exit(2)
