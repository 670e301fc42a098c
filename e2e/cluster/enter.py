"""Starts one program in namespaces and control groups, as a daemon, and prints its pid as the caller sees it.

    python -S -E enter.py JSON

A program of its own: entering a pid or a mount namespace is for a process without threads, and it imports nothing but
the standard library so that it starts at once. JSON is an object with
    argv      the program and its arguments
    environment  its environment
    log       the file that gets its output
    cgroups   folders of control groups to join
    net       file of a network namespace, or null
    target    pid of a node's first process, whose mount, pid and uts namespaces are entered, or null
    node      null, or an object: new mount, pid, uts and ipc namespaces are made, and instead of `argv` this program
              stays in them as their first process. Its members: hostname; tmpfs, folders that become empty ones in
              memory; mounts, pairs (source, target) of folders to bind; over, pairs of files to bind
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from typing import Any, NoReturn

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _enter(namespaces: list[tuple[str, int]]) -> None:
    # All are opened before the first is entered: in another mount or pid namespace the paths mean something else.
    opened = [(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path, kind) for path, kind in namespaces]
    for descriptor, path, kind in opened:
        _check(_libc.setns(descriptor, kind), f"setns {path}")
        os.close(descriptor)


def _join(cgroups: list[str]) -> None:
    for folder in cgroups:
        with open(f"{folder}/cgroup.procs", "w") as procs:
            procs.write("0")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _furnish(node: dict[str, Any]) -> None:
    """Gives a new node its own file systems. Runs as the first process of its namespaces."""
    _mount("--make-rprivate", "/")
    # Pods may ask for mounts that propagate into them, which the kubelet refuses below a private mount.
    _mount("--make-rshared", "/")
    _mount("-t", "proc", "proc", "/proc")
    for target in node["tmpfs"]:
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", target)
    for source, target in node["mounts"]:
        os.makedirs(source, exist_ok=True)
        _mount("--bind", source, target)
    for source, target in node["over"]:
        _mount("--bind", source, target)
    socket.sethostname(node["hostname"])


def _be_first() -> NoReturn:
    """Reaps whatever is left over in the pid namespace, for ever."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while True:
        signal.sigwait([signal.SIGCHLD])
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def _become(spec: dict[str, Any], log: int, back: socket.socket) -> NoReturn:
    """The end of the way for the process that stays."""
    os.setsid()
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if spec["node"] is not None:
        _furnish(spec["node"])
        back.send(b"+")
        back.close()
        _be_first()
    os.chdir("/")
    # Sent before the exec: a failing one shows as a process that ended, with the reason in its log.
    back.send(b"+")
    os.execvpe(spec["argv"][0], spec["argv"], spec["environment"])


def main() -> None:
    """The command."""
    # Who is killed starts nothing more.
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
    spec = json.loads(sys.argv[1])
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    # The kernel writes the sender's pid as the receiver sees it, whatever pid namespace the sender is in.
    here.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    _join(spec["cgroups"])
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    namespaces = [(spec["net"], CLONE_NEWNET)] if spec["net"] is not None else []
    if spec["target"] is not None:
        kinds = (("uts", CLONE_NEWUTS), ("ipc", CLONE_NEWIPC), ("pid", CLONE_NEWPID), ("mnt", CLONE_NEWNS))
        namespaces += [(f"/proc/{spec['target']}/ns/{name}", kind) for name, kind in kinds]
    _enter(namespaces)
    if spec["node"] is not None:
        _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID), "unshare")
    child = os.fork()
    if child == 0:
        try:
            # A second fork inside the namespaces, so that the parent left over is the node's own first process.
            if spec["node"] is None and os.fork():
                os._exit(0)
            _become(spec, log, there)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            there.send(f"{type(error).__name__}: {error}".encode())
            os._exit(1)
    there.close()
    if spec["node"] is None:
        os.waitpid(child, 0)
    here.settimeout(30)
    message, ancillary, _, _ = here.recvmsg(4096, socket.CMSG_SPACE(12))
    if message != b"+":
        sys.exit(f"error: {message.decode()}")
    print(struct.unpack("3i", ancillary[0][2][:12])[0])


if __name__ == "__main__":
    main()
