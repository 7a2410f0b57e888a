"""Calls that are told the same error, as those that wait for one commit are."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from grpc.aio import AbortError

from serving.http.endpoint import Endpoint
from serving.rpc.gate import _refuse
from unroll.errors import InputError


async def refused_by_grpc(error: BaseException) -> None:
    async def abort_with_status(status: Any) -> None:
        raise AbortError(status)

    context = SimpleNamespace(cancelled=lambda: False, abort_with_status=abort_with_status)
    call: Any = SimpleNamespace(context=context, has_gone=False, request_id="1")
    with pytest.raises(AbortError):
        await _refuse(call, error)


async def refused_by_http(error: BaseException) -> None:
    told: list[object] = []

    async def refuse(_: object, refusal: object) -> None:
        told.append(refusal)

    unused: Any = None
    call: Any = SimpleNamespace(has_gone=False, is_stuck=False, request_id="1")
    await Endpoint(unused, "route", unused, refuse, 1)._tell(call, error)
    assert len(told) == 1


@pytest.mark.parametrize("refused", [refused_by_grpc, refused_by_http])
def test_refusal_of_one_call_leaves_another_with_the_same_error_alone(refused: Any) -> None:
    async def check() -> str:
        error, go_on = InputError("field", "is shared"), asyncio.Event()

        async def other() -> str:
            try:
                raise error
            except InputError:
                await go_on.wait()
            return "whole"

        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        await refused(error)
        is_held = error.__traceback__ is not None
        go_on.set()
        text = await task
        assert not is_held, "the error's frames hold the request"
        return text

    assert asyncio.run(check()) == "whole"
