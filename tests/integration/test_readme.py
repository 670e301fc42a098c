"""The README is executed: its manifest is the example, its files start programs, its commands and links exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from sipcore.config import ProxyConfig, parse_config
from tests.integration.peers.probe import answers_ng, answers_options
from tests.integration.peers.process import Peer, wait_for

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Every line of the README's shell blocks as words."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(part, comments=True) for line in lines for part in line.split("&&") if part.strip()]


def sipfleet(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("sipfleet"))
    return subprocess.run(
        [program, *words], capture_output=True, text=True, timeout=30, check=False, cwd=ROOT, env=environment
    )


def test_the_manifest_is_the_example() -> None:
    assert blocks("yaml") == [(ROOT / "examples" / "cluster.yaml").read_text()]


def test_the_first_block_needs_nothing_but_the_repository() -> None:
    """`make fresh` runs it as it stands."""
    first = [shlex.split(part) for line in blocks("sh")[0].splitlines() for part in line.split("&&")]
    assert [words[0] for words in first] == ["apt-get", "git", "cd", "make"]
    assert first[0] == ["apt-get", "install", "-y", "git", "make"]


@pytest.mark.parametrize("words", [c for c in commands() if c[0] == "sipfleet"], ids=" ".join)
def test_each_sipfleet_command_exists_and_takes_its_options(words: list[str]) -> None:
    """`--help` as the last word: the options before it are parsed by their names, nothing runs."""
    answer = sipfleet(*words[1:], "--help")
    assert answer.returncode == 0, answer.stderr
    options = [word for word in words if word.startswith("-")]
    assert all(re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", answer.stdout) for option in options), (
        answer.stdout
    )


def test_the_cluster_of_the_readme_comes_up_and_its_commands_work_in_their_order(tmp_path: Path) -> None:
    """As they stand; only the calls are fewer and shorter."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    lines = [words for words in commands() if words[0] == "sipfleet"]
    assert [words[1] for words in lines] == ["up", "get", "describe", "scale", "apply", "call"]
    program = str(Path(sys.executable).with_name("sipfleet"))

    def serve(wanted: int) -> bool:
        told = sipfleet("get", "pods", "-o", "json", environment=environment)
        pods = json.loads(told.stdout) if told.returncode == 0 else []
        return len(pods) == wanted and all(pod["serving"] for pod in pods)

    with Peer([program, *lines[0][1:]], tmp_path / "up.log", lambda: serve(4), environment, cwd=ROOT) as up:
        for words in lines[1:]:
            extra = ["--calls", "4", "--rate", "8", "--duration", "1-2"] if words[1] == "call" else []
            done = sipfleet(*words[1:], *extra, environment=environment)
            assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"
            if words[1] == "scale":
                wait_for(lambda: serve(5), 10, "the third relay serves", interval=0.2)
        os.kill(up.pid, signal.SIGINT)
        assert up.wait(15) == 0


@pytest.mark.parametrize("words", [c for c in commands() if c[0] == "make"], ids=" ".join)
def test_each_make_target_exists(words: list[str]) -> None:
    assert subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_the_proxy_configuration_starts_a_proxy(tmp_path: Path, loopback_address: Callable[[], str]) -> None:
    (text,) = blocks("toml")
    assert parse_config(text, ".toml", ProxyConfig).domains == tomllib.loads(text)["domains"]
    address = loopback_address()
    file = tmp_path / "proxy.toml"
    file.write_text(text.replace('address = "127.0.0.1"', f'address = "{address}"'))
    argv = [sys.executable, "-m", "sipproxy", "--config", str(file)]
    with Peer(argv, tmp_path / "log", lambda: answers_options((address, 5060))) as proxy:
        assert proxy.running


def test_the_relay_command_starts_a_relay(tmp_path: Path, loopback_address: Callable[[], str]) -> None:
    (line,) = re.findall(r"`(rtprelay --ng [^`]*)`", README)
    address = loopback_address()
    words = shlex.split(line.replace("127.0.0.1", address))
    argv = [sys.executable, "-m", *words]
    with Peer(argv, tmp_path / "log", lambda: answers_ng((address, 2223))) as relay:
        assert relay.running


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
