"""The command line. A subcommand's module in ccnet.commands is imported when the command is run."""

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any

from ccnet import Restart, __version__, launcher
from ccnet.arguments import COMMANDS
from ccnet.failures import explain_command
from ccnet.parser import Command
from ccnet.progress import UnbreakableStream

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns 0 on success, 1 on failure, 130 if interrupted; usage errors exit with 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = vars(build_parser().parse_args(arguments))
    if threading.current_thread() is threading.main_thread():  # the only one that may set handlers
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # schedulers send SIGTERM: treat it as Ctrl-C
    with redirect_stderr(UnbreakableStream(sys.stderr)):  # type: ignore[type-var]
        return _run(arguments, options.pop("command"), options.pop("debug"), options)


def _run(arguments: Sequence[str], command: str, debug: bool, options: dict[str, Any]) -> int:
    try:
        devices = options.pop("devices", 1)
        if devices != 1 and not launcher.inside():
            launcher.launch(devices, arguments)
        importlib.import_module(f"ccnet.commands.{command.replace('-', '_')}").run(**options)
    except Restart:
        if launcher.inside():
            return launcher.AGAIN
        # exec, so that whoever waits for this process still does
        os.execv(sys.executable, [sys.executable, "-m", "ccnet", *sys.argv[1:]])
    except KeyboardInterrupt:
        print(f"ccnet {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has exited (ccnet … | head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        print(f"ccnet {command}: error: {explain_command(command, error)}", file=sys.stderr)
        return 1
    return 0


DESCRIPTION = """Criss-cross attention semantic segmentation: each stage of the pipeline by hand.

The whole of it runs with `snakemake --cores 8 --resources gpu=1`; a stage's help has an example."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; a parse yields `command`, `debug` and the keyword arguments of its `run`."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="ccnet", description=DESCRIPTION, formatter_class=style)
    parser.add_argument("--version", action="version", version=f"ccnet {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Command)
    for name, (summary, add, example) in COMMANDS.items():
        command = subparsers.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", formatter_class=style,
            epilog=f"example:\n  ccnet {name} {example}\n\n",
        )  # fmt: skip
        add(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser
