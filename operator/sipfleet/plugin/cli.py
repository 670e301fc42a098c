"""The program `kubectl-sipfleet`. Each command is imported only when it is used."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from .errors import PluginError

COMMANDS: dict[str, tuple[str, str]] = {
    "status": ("status:status_command", "What stands, what is wrong, what to do next."),
    "calls": ("records:calls_command", "The calls that are up."),
    "cdr": ("records:cdr_command", "Call detail records."),
    "drain": ("drain:drain_command", "Drain a pod and put a new one in its place."),
    "call": ("call:call_command", "Make calls with audio through a SipCluster and judge them."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(f"{__package__}.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
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
    except Exception as error:
        from sipfleet.kubernetes.client import ApiError

        if not isinstance(error, ApiError):
            raise
        _fail(f"the API server: {error}" if error.status else str(error))


def _fail(text: str) -> None:
    click.echo(f"error: {text}", err=True)
    sys.exit(1)
