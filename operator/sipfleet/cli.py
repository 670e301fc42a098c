"""The command `sipfleet`. Each subcommand is imported only when it is used: a command line must start quickly."""

from __future__ import annotations

import sys

import click

from sipfleet.lazygroup import LazyGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("sipfleet.local.up:up_command", "Run a cluster on this machine until Ctrl-C."),
    "apply": ("sipfleet.local.commands:apply_command", "Give manifests to the running cluster."),
    "get": (
        "sipfleet.local.getting:get_command",
        "List clusters, mediapools, pods, calls, cdrs, srv, events or releases.",
    ),
    "describe": ("sipfleet.local.getting:describe_command", "Tell all about one cluster, mediapool or pod."),
    "delete": ("sipfleet.local.commands:delete_command", "Drain and remove a cluster or a mediapool."),
    "scale": ("sipfleet.local.commands:scale_command", "Set the number of pods."),
    "drain": ("sipfleet.local.commands:drain_command", "Drain a pod and put a new one in its place."),
    "down": ("sipfleet.local.commands:down_command", "End a running cluster."),
    "logs": ("sipfleet.local.logs:logs_command", "Print the log of a pod or of the store."),
    "release": ("sipfleet.local.commands:release_group", "Install and list versions of the programs."),
    "operator": ("sipfleet.kubernetes.main:operator_command", "Run the Kubernetes operator."),
    "store": ("sipfleet.plugin.storecommand:store_group", "Calls and CDRs in a store on Kubernetes (runs there)."),
    "call": ("sipfleet.calls.cli:call_command", "Make calls with audio and judge them."),
    "demo": ("sipfleet.demo.cli:demo_command", "Kill, scale and roll a cluster under calls."),
    "crd": ("sipfleet.local.commands:crd_command", "Print the CustomResourceDefinitions."),
    "version": ("sipfleet.local.commands:version_command", "Print the version."),
}


class _Commands(LazyGroup):
    table = COMMANDS


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A VoIP cluster that keeps every call."""


def main() -> None:
    """Entry point: an error that says what to do is printed as it is, exit status 1."""
    from sipfleet.local.errors import LocalError

    try:
        cli(prog_name="sipfleet")
    except LocalError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}" if line else "", err=True)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(0)
