"""Commands that change a running cluster, and the small ones."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from sipfleet.local.client import connect, running
from sipfleet.local.errors import LocalError, NotRunningError
from sipfleet.local.names import resource_name
from sipfleet.local.state import StateDirectory, clusters

cluster_option = click.option("--cluster", metavar="NAME", help="Which running cluster; needed when there are several.")

SETS = ("sipclusters", "mediapools")


def read_texts(files: tuple[str, ...]) -> list[dict[str, str]]:
    """Name and text of manifest files; `-` is standard input.

    Raises `LocalError` with all that cannot be read.
    """
    found, errors = [], []
    for name in files:
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text()
            found.append({"name": "standard input" if name == "-" else name, "text": text})
        except (OSError, UnicodeDecodeError) as error:
            errors.append(f"{name}: {getattr(error, 'strerror', None) or error}")
    if errors:
        raise LocalError("\n".join(errors))
    return found


def say(answer: dict[str, Any]) -> None:
    click.echo(f"{answer['kind'].lower()}/{answer['name']} {answer['result']}")


@click.command("apply")
@click.option(
    "-f", "--filename", "files", multiple=True, required=True, metavar="FILE", help="Manifests; `-` is standard input."
)
@cluster_option
def apply_command(files: tuple[str, ...], cluster: str | None) -> None:
    """Give manifests to the running cluster.

    Routing is loaded in place; capacity, ports, interfaces and version are rolled out without losing a call.
    """
    texts = read_texts(files)
    for answer in connect(cluster).request("PUT", "/v1/manifests", {"files": texts}):
        say(answer)


@click.command("scale")
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME")
@click.option("--replicas", type=int, required=True, metavar="N", help="The new number of pods.")
@cluster_option
def scale_command(what: tuple[str, ...], replicas: int, cluster: str | None) -> None:
    """Set the number of pods: sipfleet scale mediapool/media --replicas 3.

    Pods that are too many are drained first; no call is cut.
    """
    kind, name = resource_name(what, SETS)
    say(connect(cluster).request("POST", f"/v1/{kind}/{name}/scale", {"replicas": replicas}))


@click.command("delete")
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME")
@cluster_option
@click.option("--wait", is_flag=True, help="Return when it is gone.")
def delete_command(what: tuple[str, ...], cluster: str | None, wait: bool) -> None:
    """Drain and remove a cluster or a mediapool: sipfleet delete mediapool/media."""
    kind, name = resource_name(what, SETS)
    client = connect(cluster)
    say(client.request("DELETE", f"/v1/{kind}/{name}"))
    while wait:
        try:
            if not any(one["metadata"]["name"] == name for one in client.get(f"/v1/{kind}")):
                return
        except NotRunningError:
            return
        time.sleep(0.2)


@click.command("drain")
@click.argument("pod")
@cluster_option
def drain_command(pod: str, cluster: str | None) -> None:
    """Drain a pod and put a new one in its place; its calls go on."""
    say(connect(cluster).request("POST", f"/v1/pods/{pod.removeprefix('pod/').removeprefix('pods/')}/drain"))


@click.command("down")
@cluster_option
def down_command(cluster: str | None) -> None:
    """End a running cluster, as Ctrl-C does where it runs."""
    client = connect(cluster)
    client.request("POST", "/v1/stop")
    while client.cluster in running():
        time.sleep(0.05)
    click.echo(f"cluster {client.cluster} has ended")


@click.group("release")
def release_group() -> None:
    """Install and list versions of the programs; `spec.version` names one of them."""


def state_of(cluster: str | None) -> StateDirectory:
    """The state directory of a cluster, whether it runs or not.

    Raises `NotRunningError` when there is no telling which.
    """
    if cluster is not None:
        return StateDirectory(cluster)
    known = clusters()
    if len(running()) != 1 and len(known) == 1:
        return StateDirectory(known[0])
    return connect().state


@release_group.command("install")
@click.argument("wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@cluster_option
def install_command(wheel: Path, cluster: str | None) -> None:
    """Install a wheel of sipfleet as a release of the cluster."""
    from sipfleet.local.releases import install

    state = state_of(cluster)
    state.make()
    version = install(state, wheel.resolve())
    click.echo(f"release/{version} installed; to roll it out, set spec.version: {version} and sipfleet apply -f FILE")


@release_group.command("list")
@cluster_option
def list_command(cluster: str | None) -> None:
    """List the installed releases."""
    from sipfleet.local.releases import installed

    for version, path in installed(state_of(cluster)).items():
        click.echo(f"{version}\t{path}")


@click.command("crd")
def crd_command() -> None:
    """Print the CustomResourceDefinitions of SipCluster and MediaPool."""
    from sipfleet.api.crd import render

    click.echo("---\n".join(render().values()), nl=False)


@click.command("version")
def version_command() -> None:
    """Print the version."""
    import sipcore

    click.echo(f"sipfleet {sipcore.__version__}")
