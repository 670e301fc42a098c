"""The program `kubectl-sipfleet`. Each command is imported only when it is used."""

from __future__ import annotations

import sys

import click

from sipfleet.lazygroup import LazyGroup

from .errors import PluginError

COMMANDS: dict[str, tuple[str, str]] = {
    "status": ("sipfleet.plugin.status:status_command", "What stands, what is wrong, what to do next."),
    "calls": ("sipfleet.plugin.records:calls_command", "The calls that are up."),
    "cdr": ("sipfleet.plugin.records:cdr_command", "Call detail records."),
    "drain": ("sipfleet.plugin.drain:drain_command", "Drain a pod and put a new one in its place."),
    "call": ("sipfleet.plugin.call:call_command", "Make calls with audio through a SipCluster and judge them."),
}


class _Commands(LazyGroup):
    table = COMMANDS


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """SipClusters and MediaPools: how they stand, their calls, and a test call."""


def main() -> None:
    """Entry point: an error that says what to do is printed as it is, exit status 1."""
    try:
        cli(prog_name="kubectl sipfleet")
    except PluginError as error:
        _fail(str(error))
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:  # only ApiError is for people; it is imported here, because --help must be quick
        from sipfleet.kubernetes.client import ApiError

        if not isinstance(error, ApiError):
            raise
        _fail(f"the API server: {error}" if error.status else str(error))


def _fail(text: str) -> None:
    click.echo(f"error: {text}", err=True)
    sys.exit(1)
