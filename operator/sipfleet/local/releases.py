"""Releases: versions of the programs, installed side by side under the state directory (docs/decisions/0003).

A release is what `pip install --no-deps --target` makes of a wheel. A pod of that version runs with the directory first
in PYTHONPATH; its dependencies come from the environment of `sipfleet up`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from email.parser import HeaderParser
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from sipfleet.local.errors import ReleaseError
from sipfleet.local.state import StateDirectory

DISTRIBUTION = "sipfleet"


def wheel_version(wheel: Path) -> str:
    """The version that a wheel of sipfleet holds.

    Raises `ReleaseError` for any other file.
    """
    try:
        with ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
            text = archive.read(names[0]).decode() if names else ""
    except (OSError, BadZipFile) as error:
        raise ReleaseError(f"{wheel}: {error}; a wheel of {DISTRIBUTION} expected (pip wheel --no-deps .)") from None
    metadata = HeaderParser().parsestr(text)
    if metadata.get("Name") != DISTRIBUTION or not metadata.get("Version"):
        raise ReleaseError(f"{wheel}: a wheel of {metadata.get('Name') or 'nothing'}, one of {DISTRIBUTION} expected")
    return str(metadata["Version"])


def installed(state: StateDirectory) -> dict[str, Path]:
    """Version -> directory of every installed release."""
    top = state / "releases"
    if not top.is_dir():
        return {}
    return {p.name: p for p in sorted(top.iterdir()) if p.is_dir() and not p.name.startswith(".")}


def install(state: StateDirectory, wheel: Path) -> str:
    """Install a wheel as a release; -> its version. A release that is there already is left as it is.

    Raises `ReleaseError`.
    """
    version = wheel_version(wheel)
    target = state / "releases" / version
    if target.is_dir():
        return version
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=state / "releases"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--no-index", "--target", str(part), str(wheel)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ReleaseError(f"{wheel}: pip could not install it:\n{done.stderr.strip()}")
        os.replace(part, target)
    except OSError as error:
        if not target.is_dir():  # another installation was faster
            raise ReleaseError(f"{wheel}: {error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return version


def environment(state: StateDirectory, version: str | None) -> dict[str, str]:
    """The environment of a pod of this version; None is what `sipfleet up` itself runs.

    Raises `ReleaseError` when the version is not installed.
    """
    variables = dict(os.environ)
    if version is None:
        return variables
    found = installed(state)
    if version not in found:
        raise ReleaseError(missing_text(version, list(found)))
    before = variables.get("PYTHONPATH")
    variables["PYTHONPATH"] = str(found[version]) + (os.pathsep + before if before else "")
    return variables


def missing_text(version: str, found: list[str]) -> str:
    """What is said about a version that is not installed."""
    have = f"installed: {', '.join(found)}" if found else "none is installed"
    return f"spec.version: {version} given, {have}; install it with: sipfleet release install WHEEL"
