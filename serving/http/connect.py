"""The methods of `unroll.v1` in the Connect protocol, as JSON or binary, one request a POST.

A unary method takes and gives one message, as application/json or application/proto. A method
that streams takes and gives envelopes, as application/connect+json or application/connect+proto:
a byte of flags, a length of four bytes and a message; the last envelope says how the stream ended.
See https://connectrpc.com/docs/protocol.
"""

import asyncio
import base64
import json
import struct
from collections.abc import Callable
from typing import Any, TypedDict

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serving.http.call import HttpCall
from serving.http.refusal import Refusal
from unroll.errors import InputError

JSON, PROTO = "json", "proto"
UNARY, STREAMING = "application/", "application/connect+"
END = 2  # the flag of the last envelope
BYTES_AT_ONCE = 64 * 1024  # of an answer that is written on the event loop
VALUES_AT_MOST = 4096  # of a message; each takes 2 us to parse, and everybody waits
VERSION = "connect-protocol-version"
_HEAD = struct.Struct(">BI")


class Detail(TypedDict):
    """A detail of an error: its type, the message in base64 and in JSON."""

    type: str
    value: str
    debug: dict[str, Any]


class Failure(TypedDict):
    """The answer to a request that was refused."""

    code: str
    message: str
    details: list[Detail]


class Method:
    """One method; handles calls and refuses them.

    Args:
        method: that the proto describes; not one that takes a stream.
        behave: answers a message, given the call, or writes a stream to it.
    """

    def __init__(self, method: MethodDescriptor, behave: Callable[..., Any]) -> None:
        self._behave = behave
        self._parsed = GetMessageClass(method.input_type)
        self._is_streamed = method.server_streaming
        self._media = STREAMING if method.server_streaming else UNARY

    async def handle(self, call: HttpCall, body: bytes) -> None:
        """Answer a call."""
        codec = self._codec_of(call)
        if codec is None:
            allowed = ", ".join(f"{self._media}{each}" for each in (JSON, PROTO))
            call.code = grpc.StatusCode.INVALID_ARGUMENT.name
            told: Failure = {
                "code": "invalid_argument",
                "message": f"content-type: must be one of {allowed}",
                "details": [],
            }
            body = json.dumps(told).encode()
            await call.answer(415, body, headers=[("accept-post", allowed)])
            return
        _check_headers(call)
        if not self._is_streamed:
            message = await self._behave(self._parse(body, codec), call)
            write = _write if message.ByteSize() <= BYTES_AT_ONCE else _write_apart
            answer = await write(message, codec)
            await call.answer(200, answer, self._media + codec)
            return
        call.stream_headers = [("content-type", self._media + codec)]
        call.encode = lambda message: _envelope(0, _serialize(message, codec))
        await self._behave(self._parse(_only_message(body), codec), call)
        await _end(call, {})

    async def refuse(self, call: HttpCall, refusal: Refusal) -> None:
        """Answer with an error."""
        if not self._is_streamed:
            await refuse(call, refusal)
            return
        call.stream_headers = call.stream_headers or [("content-type", STREAMING + JSON)]
        await _end(call, {"error": _describe(refusal)})

    def _codec_of(self, call: HttpCall) -> str | None:
        media = call.header("content-type").partition(";")[0].strip().lower()
        codec = media.removeprefix(self._media)
        return codec if media.startswith(self._media) and codec in {JSON, PROTO} else None

    def _parse(self, data: bytes, codec: str) -> Message:
        try:
            if codec == PROTO:
                return self._parsed.FromString(data)
            if not data.lstrip().startswith(b"{"):  # an empty list would pass for an empty message
                raise json_format.ParseError("it must be an object")
            if data.count(b",") > VALUES_AT_MOST and _has_more_values(data):
                raise json_format.ParseError(f"it has more than {VALUES_AT_MOST} values")
            return json_format.Parse(data, self._parsed())
        except DecodeError as error:
            raise InputError(
                "request", "is not a message of this method; send its protobuf message in binary"
            ) from error
        except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
            raise InputError("request", f"is not this method's message in JSON: {error}") from error


def _has_more_values(data: bytes) -> bool:
    """Tell whether JSON holds more than VALUES_AT_MOST; its commas may be those of a text."""
    try:
        waiting, count = [json.loads(data)], 0
    except ValueError:  # which the parser tells better
        return False
    while waiting and count <= VALUES_AT_MOST:
        match waiting.pop():
            case dict() as mapping:
                inner = list(mapping.values())
            case list() as inner:
                pass
            case _:
                continue
        count += len(inner)
        waiting += inner
    return count > VALUES_AT_MOST


async def refuse(call: HttpCall, refusal: Refusal) -> None:
    """Answer with an error as JSON."""
    if call.has_begun:  # nothing else can be told any more
        call.connection.abort()
        await asyncio.sleep(0)
        return
    body = json.dumps(_describe(refusal)).encode()
    await call.answer(refusal.number, body, headers=refusal.headers)


def _check_headers(call: HttpCall) -> None:
    if (version := call.header(VERSION)) not in {"", "1"}:
        raise InputError(VERSION, f"must be 1, got {version!r:.30}")
    for name in ("content-encoding", "connect-content-encoding"):
        if (encoding := call.header(name)) not in {"", "identity"}:
            raise InputError(name, f"must be identity, got {encoding!r:.30}; send it uncompressed")


def _only_message(body: bytes) -> bytes:
    """Take the one message out of its envelope."""
    if len(body) >= _HEAD.size:
        flags, length = _HEAD.unpack_from(body)
        if flags == 0 and len(body) == _HEAD.size + length:
            return body[_HEAD.size :]
    raise InputError(
        "request", "must be one envelope: a zero byte, the length in four bytes, and the message"
    )


def _serialize(message: Message, codec: str) -> bytes:
    if codec == PROTO:
        return message.SerializeToString()
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()


async def _write(message: Message, codec: str) -> bytes:
    return _serialize(message, codec)


async def _write_apart(message: Message, codec: str) -> bytes:
    return await asyncio.to_thread(_serialize, message, codec)


def _envelope(flags: int, data: bytes) -> bytes:
    return _HEAD.pack(flags, len(data)) + data


async def _end(call: HttpCall, told: dict[str, Any]) -> None:
    await call.write_raw(_envelope(END, json.dumps(told).encode()))
    await call.end()


def _describe(refusal: Refusal) -> Failure:
    name = "canceled" if refusal.code is grpc.StatusCode.CANCELLED else refusal.code.name.lower()
    details: list[Detail] = [
        {
            "type": detail.type_url.rpartition("/")[2],
            "value": base64.b64encode(detail.value).decode().rstrip("="),
            "debug": json_format.MessageToDict(detail),
        }
        for detail in refusal.status.details
    ]
    return {"code": name, "message": refusal.status.message, "details": details}
