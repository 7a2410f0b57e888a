"""Texts that are typed in another form than the training's are read in the training's."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.conftest import export_briefly, tiny_checkpoint
from tests.serving.running import serve
from unroll.bundle.form import TextForm
from unroll.bundle.vocabulary import Vocabulary
from unroll.client.client import Client
from unroll.errors import UnknownSymbolError
from unroll.options import GenerateOptions, ScoreOptions
from unroll.terms import FinishReason

SYMBOLS = "\nabcdefgéh£"
TYPED, FORM = "abe\u0301\r\nc\rd", "abé\nc\nd"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder, checkpoint = tmp_path_factory.mktemp("forms"), tiny_checkpoint("gru")
    forms = {
        "formed": TextForm(line_ends="newline", unicode="nfc"),
        "as-it-is": TextForm(),
        "records": TextForm(unit="record"),
    }
    for name, form in forms.items():
        vocabulary = Vocabulary("".join(sorted(SYMBOLS)), "\n", form)
        export_briefly(replace(checkpoint, vocabulary=vocabulary), folder / name)
    with serve(*(str(folder / name) for name in forms)) as server, server.client() as client:
        yield client


def test_prompts_and_texts_to_score_are_brought_into_the_form(client: Client) -> None:
    asked = GenerateOptions(max_new_symbols=100, seed=3)
    assert client.generate(TYPED, asked).text == client.generate(FORM, asked).text
    scored, expected = client.score(TYPED), client.score(FORM)
    assert scored.log_probs == expected.log_probs
    assert len(scored.log_probs) == scored.usage.prompt_symbols == len(FORM)


def test_stop_strings_are_found_in_the_form(client: Client) -> None:
    asked = GenerateOptions(max_new_symbols=3000, seed=3, stop=("\r\n",))
    assert "\n" not in client.generate("ab", asked).text


def test_a_model_without_a_form_refuses_what_it_does_not_know(client: Client) -> None:
    with pytest.raises(UnknownSymbolError, match=r"U\+000D"):
        client.score("a\r\nb", ScoreOptions(model="as-it-is"))


def test_a_model_of_records_ends_with_the_line_by_itself(client: Client) -> None:
    asked = GenerateOptions(model="records", max_new_symbols=3000, seed=3)
    whole = client.generate("ab", replace(asked, model="as-it-is")).text
    record = client.generate("ab", asked)
    assert record.text == whole.partition("\n")[0]
    assert record.completion.finish_reason is FinishReason.STOP
    stops = tuple("abcdefgh")  # as many as a request may have
    sooner = client.generate("ab", replace(asked, stop=stops))
    assert len(sooner.text) <= len(record.text)
