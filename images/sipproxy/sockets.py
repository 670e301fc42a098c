"""UDP sockets of the proxy: opened, drained, their ICMP errors read. The only module that knows the socket options.

Facts that shape it (Linux): an ICMP error that waits on a socket makes the next send or receive on that socket fail
with ECONNREFUSED once, whoever it was for, and nothing is sent; so every send is tried again. With IP_RECVERR the error
queue says for which target it came. A member of a SO_REUSEPORT group that is connected to a dummy address is selected
no more, keeps what is queued, and still sends from the shared address with sendto(). libuv, and so uvloop, stops
watching a descriptor for good once poll() reports an error on it, and a waiting error queue is one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
from collections.abc import Iterator

IP_RECVERR = 11
IPV6_RECVERR = 25
RECEIVE_BUFFER = 4 * 1024 * 1024
MAX_DATAGRAM = 65535
DUMMY = {socket.AF_INET: ("127.255.255.254", 9), socket.AF_INET6: ("::1", 9)}

Address = tuple[str, int]

_RETRIED = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EINTR)
_libc = ctypes.CDLL(None, use_errno=True)


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def open_udp(address: Address, *, shared: bool = False, errors: bool = False) -> socket.socket:
    """A non-blocking UDP socket bound to `address`; `shared` by several proxies; `errors` keeps ICMP errors apart.

    Raises `OSError` (address in use, not ours) with the address in its text.
    """
    family = family_of(address[0])
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if errors:
            level, option = (
                (socket.IPPROTO_IPV6, IPV6_RECVERR) if family == socket.AF_INET6 else (socket.IPPROTO_IP, IP_RECVERR)
            )
            sock.setsockopt(level, option, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"UDP {address[0]} port {address[1]}: {error.strerror}") from None
    return sock


def watch(sock: socket.socket) -> select.epoll:
    """What a loop watches instead of a socket opened with `errors`: readable, and never in error, when either data or
    the error queue waits. Both have to be emptied, or it stays readable."""
    epoll = select.epoll()
    epoll.register(sock, select.EPOLLIN)
    return epoll


def send(sock: socket.socket, data: bytes, target: Address) -> int:
    """Send a datagram; 0, or the errno that it failed with (a full buffer counts as loss, as on any network)."""
    for _ in range(3):
        try:
            sock.sendto(data, target)
        except BlockingIOError:
            return errno.EAGAIN
        except OSError as error:
            if error.errno not in _RETRIED:
                return error.errno or errno.EIO
            last = error.errno
        else:
            return 0
    return last


def failed_sends(sock: socket.socket) -> Iterator[tuple[Address, bytes]]:
    """(target, what is left of the datagram) of the ICMP errors that wait on a socket opened with `errors`."""
    while True:
        try:
            data, _ancillary, _flags, target = sock.recvmsg(MAX_DATAGRAM, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return
        if target:
            yield (target[0], target[1]), data


def leave_selection(sock: socket.socket) -> None:
    """Leave the SO_REUSEPORT selection and keep reading what is queued."""
    sock.connect(DUMMY[sock.family])


def join_selection(sock: socket.socket) -> None:
    """Undo `leave_selection`: connect() to AF_UNSPEC, which Python's own connect() cannot express.

    Raises `OSError`.
    """
    unspecified = struct.pack("H26s", socket.AF_UNSPEC, b"")
    if _libc.connect(sock.fileno(), unspecified, len(unspecified)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
