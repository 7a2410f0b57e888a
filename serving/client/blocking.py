"""A client for threads; see `aio.py` for its twin on asyncio."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2_grpc

from protos.unroll.v1 import text_generation_pb2 as pb
from protos.unroll.v1.text_generation_pb2_grpc import TextGenerationServiceStub
from serving.client import messages
from serving.client.connection import (
    CHANNEL_OPTIONS,
    DEFAULT_TARGET,
    HEALTH_REQUEST,
    POLL_SECONDS,
    is_serving,
    not_ready,
)
from serving.client.options import GenerateOptions, ScoreOptions
from serving.client.results import Generation, ModelInfo, Piece, Score
from serving.status import from_rpc_error


class Client:
    """Calls a server; one client can be used by many threads.

    All methods raise the errors of serving.errors: InputError and its kin for what was asked,
    OverloadedError, DeadlineError, ClosedError and UnavailableError for what may pass,
    ServerError for the rest.

    Args:
        target: the server's address, as `host:port`.
        channel: a channel of one's own (encryption, options) to use instead of a new plain one;
            the client closes it.
    """

    def __init__(
        self, target: str = DEFAULT_TARGET, *, channel: grpc.Channel | None = None
    ) -> None:
        self.target = target
        self._channel = channel or grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._stub = TextGenerationServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def generate(
        self,
        prompt: str,
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Generation:
        """Continue a prompt and return the whole text.

        Args:
            prompt: the text to continue.
            options: how.
            timeout: in seconds; None waits for ever.
        """
        request = messages.generate_request(prompt, options)
        with self._calling():
            return messages.read_generation(self._stub.Generate(request, timeout=timeout))

    def stream(
        self,
        prompt: str,
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Generator[Piece]:
        """Continue a prompt and yield the text as it comes; the last piece tells how it ended.

        The call is made when the first piece is asked for. Closing the iterator early, or
        dropping it, cancels the call. Arguments as in `generate`; the timeout is for the whole.
        """
        request = messages.generate_request(prompt, options)
        return self._pieces(request, timeout)

    def score(
        self,
        text: str,
        options: ScoreOptions = ScoreOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Score:
        """Give the log-probability of each symbol of a text."""
        request = messages.score_request(text, options)
        with self._calling():
            return messages.read_score(self._stub.Score(request, timeout=timeout))

    def get_model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """Describe one model, by default the server's first."""
        request = messages.model_request(name)
        with self._calling():
            return messages.read_model(self._stub.GetModel(request, timeout=timeout).model)

    def list_models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Describe all models; the first is the default."""
        with self._calling():
            response = self._stub.ListModels(pb.ListModelsRequest(), timeout=timeout)
        return [messages.read_model(model) for model in response.models]

    def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Wait until a server answers and says that it serves.

        Args:
            timeout: in seconds.

        Raises:
            UnavailableError: it did not within the timeout.
        """
        ends = time.monotonic() + timeout
        while (left := ends - time.monotonic()) > 0:
            try:
                if is_serving(
                    self._health.Check(HEALTH_REQUEST, timeout=left, wait_for_ready=True)
                ):
                    return
            except grpc.RpcError:  # nobody there yet, or somebody who is leaving
                pass
            time.sleep(POLL_SECONDS)
        raise not_ready(self.target, timeout)

    def close(self) -> None:
        """Close the connection; calls that run are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _pieces(self, request: pb.GenerateRequest, timeout: float | None) -> Generator[Piece]:
        piece = None
        with self._calling():
            call = self._stub.StreamGenerate(request, timeout=timeout)
            try:
                for message in call:
                    piece = messages.read_piece(message)
                    yield piece
            finally:
                call.cancel()  # nothing to an ended call
        messages.check_ended(piece)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.target) from error
