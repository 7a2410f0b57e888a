"""`/v1/models`, and what harnesses ask of a tokenizer: here a token is a symbol."""

from typing import Any

from serving.engine.models import Models
from serving.engine.served import ServedModel
from serving.http.call import HttpCall
from serving.http.openai.answers import dumps
from serving.http.openai.fields import Fields
from serving.rpc.texts import Texts
from serving.texts.results import model_info
from unroll.errors import InputError


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
        data = [_describe(model) for model in self._models]
        await call.answer(200, dumps({"object": "list", "data": data}))

    async def get(self, call: HttpCall, _: bytes) -> None:
        """Answer with one model."""
        model = self._models.get(call.scope["path_params"]["model"])
        call.model = model.name
        await call.answer(200, dumps(_describe(model)))

    async def tokenize(self, call: HttpCall, body: bytes) -> None:
        """Answer with the token ids of a text."""
        fields = Fields(body)
        model, prompt = self._models.get(fields.text("model")), fields.text("prompt")
        fields.truth("add_special_tokens")  # there are none
        fields.truth("return_token_strs")
        fields.check_all_known()
        call.model = model.name
        if len(prompt) > self._limits.score:
            raise InputError("prompt", f"must have at most {self._limits.score} symbols")
        ids = model.bundle.vocabulary.encode(prompt, field="prompt").tolist()
        told = {"count": len(ids), "max_model_len": self._limits.prompt, "tokens": ids}
        await call.answer(200, dumps(told))

    async def detokenize(self, call: HttpCall, body: bytes) -> None:
        """Answer with the text of token ids."""
        fields = Fields(body)
        model, ids = self._models.get(fields.text("model")), fields.get("tokens") or []
        fields.check_all_known()
        call.model = model.name
        if not isinstance(ids, list):
            raise InputError("tokens", "must be a list of token ids")
        await call.answer(200, dumps({"prompt": model.bundle.vocabulary.read("tokens", ids)}))

    async def tokenizer_info(self, call: HttpCall, _: bytes) -> None:
        """Answer with what harnesses ask for: every text is read after the start symbol."""
        vocabulary = self._models.get("").bundle.vocabulary
        told = {
            "tokenizer_class": "symbols",
            "bos_token": vocabulary.start_symbol,
            "eos_token": vocabulary.start_symbol,
            "pad_token": None,
            "unk_token": vocabulary.unknown_symbol or None,
            "chat_template": None,
            "vocabulary_size": len(vocabulary),
        }
        await call.answer(200, dumps(told))


def _describe(model: ServedModel) -> dict[str, Any]:
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
