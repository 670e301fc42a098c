"""Client of the admin port of a pod (docs/decisions/0003): one request, one connection, a time limit."""

from __future__ import annotations

import asyncio
import contextlib

import h11

TIMEOUT = 3.0
MAX_ANSWER = 1024 * 1024


async def request(address: tuple[str, int], method: str, path: str, timeout: float = TIMEOUT) -> tuple[int, bytes]:
    """(HTTP status, body); status 0 when the pod does not answer in time or not in HTTP, with the reason as body."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(*address)
            try:
                return await _exchange(reader, writer, method, path)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return 0, f"no answer within {timeout:g} s".encode()
    except (OSError, h11.ProtocolError) as error:
        return 0, str(error).encode()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str
) -> tuple[int, bytes]:
    http = h11.Connection(h11.CLIENT)
    headers = [("host", "pod"), ("connection", "close"), ("content-length", "0")]
    for event in (h11.Request(method=method, target=path, headers=headers), h11.EndOfMessage()):
        writer.write(http.send(event) or b"")
    status, body = 0, b""
    while True:
        got = http.next_event()
        if got is h11.NEED_DATA:
            http.receive_data(await reader.read(65536))
        elif isinstance(got, h11.Response):
            status = got.status_code
        elif isinstance(got, h11.Data):
            body += bytes(got.data)
            if len(body) > MAX_ANSWER:
                raise h11.RemoteProtocolError(f"answer of more than {MAX_ANSWER} bytes")
        else:
            return status, body
