"""Completions, as the tests ask for them."""

from typing import Any

import openai
from openai.types import Completion

from tests.serving.http.asking import Answer, ask
from tests.serving.running import RunningServer

PATH = "/v1/completions"


SEED = 5


def post(server: RunningServer, **body: Any) -> Answer:
    return ask(server, "POST", PATH, body)


def refused(server: RunningServer, **body: Any) -> Any:
    answer = post(server, **body)
    assert answer.status == 400, answer
    return answer.json["error"]


def joined(stream: openai.Stream[Completion]) -> str:
    return "".join(each.choices[0].text for each in stream)
