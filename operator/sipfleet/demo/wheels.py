"""Two wheels of different version, made from the source tree that runs, so that there is something to roll between."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path

import sipfleet

from .errors import DemoError

_PARTS = ("pyproject.toml", "README.md", "LICENSE", "operator", "images")
_VERSION_FILE = "images/sipcore/__init__.py"
_VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)


def source_tree() -> Path:
    """The checkout that this package is run from.

    Raises `DemoError` when it was installed from a wheel: then there is nothing to build from.
    """
    top = Path(sipfleet.__file__).resolve().parents[2]
    missing = [part for part in (*_PARTS, _VERSION_FILE) if not (top / part).exists()]
    if missing:
        raise DemoError(f"the demo builds releases from a checkout of the repository; {top} lacks {', '.join(missing)}")
    return top


def versions() -> tuple[str, str]:
    """The version before the roll and the one after it."""
    found = _VERSION.search((source_tree() / _VERSION_FILE).read_text())
    if found is None:
        raise DemoError(f"{_VERSION_FILE} sets no __version__")
    return f"{found[1]}.post1", f"{found[1]}.post2"


async def build(version: str, work: Path) -> Path:
    """A wheel of that version, made by hatchling without build isolation.

    Raises `DemoError` with hatchling's output.
    """
    source, top = work / f"source-{version}", source_tree()
    source.mkdir(parents=True)
    for part in _PARTS:
        if (top / part).is_dir():
            shutil.copytree(top / part, source / part, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy2(top / part, source / part)
    text = (source / _VERSION_FILE).read_text()
    (source / _VERSION_FILE).write_text(_VERSION.sub(f'__version__ = "{version}"', text))
    wheels = work / "wheels"
    wheels.mkdir(exist_ok=True)  # hatchling makes it where it is missing, which two at a time cannot both do
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)),
        cwd=source,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    found = list(wheels.glob(f"sipfleet-{version}-*.whl"))
    if process.returncode or not found:
        raise DemoError(f"hatchling built no wheel of {version}:\n{output.decode(errors='replace').strip()}")
    shutil.rmtree(source)
    return found[0]
