"""`/v1/models`, and what harnesses ask of a tokenizer: here a token is a symbol."""

from serving.engine.models import Models
from serving.engine.served import ServedModel
from serving.http.call import HttpCall
from serving.http.openai.answers import dumps
from serving.http.openai.bodies import Detokenized, Model, ModelList, Tokenized, TokenizerInfo
from serving.http.openai.request import IDS, unknown_symbols
from serving.texts.given.fields import Fields, read_object
from serving.texts.results import model_info
from serving.texts.text import Texts
from unroll.errors import InputError
from unroll.terms import UnknownSymbols


class Catalogue:
    """Describes models and translates between texts and token ids.

    Args:
        models: what is served.
        texts: whose limits hold.
    """

    def __init__(self, models: Models, texts: Texts) -> None:
        self._models = models
        self._limits = texts.limits

    async def list(self, call: HttpCall, _: bytes) -> None:
        """Answer with all models; the first is the default model."""
        told: ModelList = {"object": "list", "data": [_describe(model) for model in self._models]}
        await call.answer(200, dumps(told))

    async def get(self, call: HttpCall, _: bytes) -> None:
        """Answer with one model."""
        model = self._models.get(call.scope["path_params"]["model"])
        call.model = model.name
        await call.answer(200, dumps(_describe(model)))

    async def tokenize(self, call: HttpCall, body: bytes) -> None:
        """Answer with the token ids of a text."""
        name, prompt, unknown, replacement = read_text(Fields(read_object("request", body)))
        model = self._models.get(name)
        call.model = model.name
        if len(prompt) > self._limits.score:
            raise InputError("prompt", f"must have at most {self._limits.score} symbols")
        ids = model.bundle.vocabulary.encode(
            prompt, unknown=unknown, replacement=replacement, field="prompt"
        ).tolist()
        told: Tokenized = {
            "count": len(ids),
            "max_model_len": self._limits.prompt,
            "tokens": ids,
        }
        await call.answer(200, dumps(told))

    async def detokenize(self, call: HttpCall, body: bytes) -> None:
        """Answer with the text of token ids."""
        name, ids = read_ids(Fields(read_object("request", body)))
        model = self._models.get(name)
        call.model = model.name
        told: Detokenized = {"prompt": model.bundle.vocabulary.read("tokens", ids)}
        await call.answer(200, dumps(told))

    async def tokenizer_info(self, call: HttpCall, _: bytes) -> None:
        """Answer with what harnesses ask for: every text is read after the start symbol.

        No symbol ends a text. But lm-eval takes `eos_token` for the first symbol where the id of
        `bos_token` is 0.
        """
        vocabulary = self._models.get("").bundle.vocabulary
        told: TokenizerInfo = {
            "tokenizer_class": "symbols",
            "bos_token": vocabulary.start_symbol,
            "eos_token": vocabulary.start_symbol,
            "pad_token": None,
            "unk_token": vocabulary.unknown_symbol or None,
            "chat_template": None,
            "vocabulary_size": len(vocabulary),
        }
        await call.answer(200, dumps(told))


def read_text(fields: Fields) -> tuple[str, str, UnknownSymbols, str]:
    """Read a request for token ids: model, text, and what to do with unknown symbols."""
    model, prompt = fields.text("model"), fields.text("prompt")
    unknown, replacement = unknown_symbols(fields)
    fields.truth("add_special_tokens")  # there are none
    fields.truth("return_token_strs")
    fields.check_all_known()
    return model, prompt, unknown, replacement


def read_ids(fields: Fields) -> tuple[str, list[object]]:
    """Read a request for the text of token ids: model and ids."""
    model, ids = fields.text("model"), fields.get("tokens", IDS)
    fields.check_all_known()
    ids = [] if ids is None else ids
    if not isinstance(ids, list):
        raise InputError("tokens", "must be a list of token ids")
    return model, ids


def _describe(model: ServedModel) -> Model:
    info = model_info(model)
    return {
        "id": info.name,
        "object": "model",
        "created": 0,  # a bundle does not tell when it was made
        "owned_by": "unroll",
        "fingerprint": info.fingerprint,
        "vocabulary": info.vocabulary,
        "start_symbol": info.start_symbol,
        "unknown_symbol": info.unknown_symbol,
        "cell": info.cell,
        "layers": info.layers,
        "hidden_size": info.hidden_size,
        "parameters": info.parameters,
        "precision": info.precision,
    }
