"""A client that speaks HTTP/2 by hand, for what gRPC's own clients never do."""

import socket
import struct
from types import TracebackType
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
FRAME = 16384  # bytes at most
WINDOW_SIZE = 4  # the setting
Header = tuple[bytes, bytes]


class RawConnection:
    """A connection that reads only what it is told to.

    Args:
        address: host:port.
        window: bytes of an answer that the server may send; 0 lets it send headers alone.
        source: the address it comes from.
    """

    def __init__(self, address: str, window: int = 65535, source: str = "127.0.0.1") -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection(
            (host, int(port)), timeout=20.0, source_address=(source, 0)
        )
        self._stream = 1
        self._socket.sendall(
            PREFACE + _frame(SETTINGS, 0, 0, struct.pack(">HI", WINDOW_SIZE, window))
        )

    def call(self, path: str, message: bytes = b"", headers: tuple[Header, ...] = ()) -> None:
        """Send a whole call; whatever is answered stays unread."""
        stream = self.begin(path, headers)
        body = struct.pack(">BI", 0, len(message)) + message
        self._socket.sendall(_frame(DATA, END_STREAM, stream, body))

    def begin(self, path: str, headers: tuple[Header, ...] = ()) -> int:
        """Send the headers of a call alone; return its stream."""
        known = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", b"test"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
        block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in (*known, *headers))
        self._socket.sendall(_frame(HEADERS, END_HEADERS, self._stream, block))
        self._stream += 2
        return self._stream - 2

    def send_part(self, stream: int, announced: int, sent: int) -> None:
        """Send the beginning of a message, as far as the server's window lets in.

        Args:
            stream: of the call.
            announced: bytes of the whole message.
            sent: bytes of its beginning that are sent.
        """
        body = struct.pack(">BI", 0, announced) + bytes(sent)
        for start in range(0, len(body), FRAME):
            self._socket.sendall(_frame(DATA, 0, stream, body[start : start + FRAME]))

    def read_until(self, kind: int, flags: int = 0) -> None:
        """Read frames up to the first of a kind that has the flags."""
        while True:
            head = self._read(9)
            self._read(int.from_bytes(head[:3]))
            if head[3] == kind and head[4] & flags == flags:
                return

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            assert more, "the server hung up"
            data += more
        return data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: bytes) -> bytes:
    """Write a string of HPACK, not compressed."""
    size = bytes([len(text)]) if len(text) < 127 else bytes([127, len(text) - 127])
    assert len(text) < 127 + 128
    return size + text
