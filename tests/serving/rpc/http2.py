"""A client that speaks HTTP/2 by hand, for what gRPC's own clients never do."""

import socket
import struct
from collections import defaultdict
from types import TracebackType
from typing import Self

from tests.serving.running import PATIENCE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, WINDOW_UPDATE = 0, 1, 3, 4, 8
END_STREAM, END_HEADERS = 1, 4
FRAME = 16384  # bytes at most
WINDOW_SIZE = 4  # the setting
WINDOW = 65535  # bytes of a stream or connection that may be on their way, at first
Header = tuple[bytes, bytes]


class RawConnection:
    """A connection that reads only what it is told to.

    Args:
        address: host:port.
        window: bytes of an answer that the server may send; 0 lets it send headers alone.
        source: the address it comes from.

    Raises:
        OSError: the server is not there, has hung up, or is silent for PATIENCE.
    """

    def __init__(self, address: str, window: int = WINDOW, source: str = "127.0.0.1") -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection(
            (host, int(port)), timeout=PATIENCE, source_address=(source, 0)
        )
        self._stream = 1
        self._ended = 0  # calls
        self._room: dict[int, int] = defaultdict(lambda: WINDOW)  # by stream; 0: all together
        self._socket.sendall(
            PREFACE + _frame(SETTINGS, 0, 0, struct.pack(">HI", WINDOW_SIZE, window))
        )

    def call(self, path: str, message: bytes = b"", headers: tuple[Header, ...] = ()) -> None:
        """Send a whole call; whatever is answered stays unread."""
        stream = self.begin(path, headers)
        self.send(stream, struct.pack(">BI", 0, len(message)) + message, is_last=True)

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
        """Send the beginning of a message, as the server's window lets it in.

        Args:
            stream: of the call.
            announced: bytes of the whole message.
            sent: bytes of its beginning that are sent.
        """
        self.send(stream, struct.pack(">BI", 0, announced) + bytes(sent))

    def send(self, stream: int, data: bytes, *, is_last: bool = False) -> None:
        """Send bytes of a call, as the server's window lets them in."""
        while data:
            part = min(FRAME, len(data), self._room[0], self._room[stream])
            if part:
                self._socket.sendall(_frame(DATA, 0, stream, data[:part]))
                data = data[part:]
                self._room[0] -= part
                self._room[stream] -= part
            else:
                self._read_frame()
        if is_last:
            self._socket.sendall(_frame(DATA, END_STREAM, stream, b""))

    def read_until(self, kind: int, flags: int = 0) -> None:
        """Read frames up to the first of a kind that has the flags."""
        while True:
            found, its_flags = self._read_frame()
            if found == kind and its_flags & flags == flags:
                return

    def read_ends(self, calls: int) -> None:
        """Read until so many calls have ended, since the connection began."""
        while self._ended < calls:
            self._read_frame()

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
            if not more:
                raise ConnectionResetError("the server hung up")
            data += more
        return data

    def _read_frame(self) -> tuple[int, int]:
        """Read a frame and do what it asks for; return its kind and flags."""
        head = self._read(9)
        payload = self._read(int.from_bytes(head[:3]))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:])
        if kind == RESET or (kind == HEADERS and flags & END_STREAM):
            self._ended += 1
        elif kind == WINDOW_UPDATE:
            self._room[stream] += int.from_bytes(payload)
        elif kind == DATA and payload:
            self._socket.sendall(_frame(WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4)))
        return kind, flags


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: bytes) -> bytes:
    """Write a string of HPACK, not compressed."""
    size = bytes([len(text)]) if len(text) < 127 else bytes([127, len(text) - 127])
    assert len(text) < 127 + 128
    return size + text
