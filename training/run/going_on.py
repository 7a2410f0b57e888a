"""A new run that goes on with an old one's weights: `--from RUN`."""

from dataclasses import fields, replace

import torch

from training.data.corpus.corpus import Corpus
from training.model.initialisation import build_model
from training.model.model import CharRNN
from training.run.checkpoint import Checkpoint
from training.settings import TrainingSettings
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import CorpusError, SettingsError

OF_THE_RUN = ("name", "runs_dir", "resume", "from_", "add_symbols")
OF_THE_MODEL = ("cell", "embedding_size", "hidden_size", "layers", "members", "rare_symbols")


def settings_to_go_on(given: TrainingSettings, stored: TrainingSettings) -> TrainingSettings:
    """Return an old run's settings, with what was asked for now.

    Args:
        given: from the command line; a default counts as not asked for.
        stored: the old run's.

    Raises:
        SettingsError: a size of the model was asked for that is not the old one's.
    """
    changes = {name: getattr(given, name) for name in OF_THE_RUN}
    for field in fields(TrainingSettings):
        asked, begun = getattr(given, field.name), getattr(stored, field.name)
        if field.name in OF_THE_RUN or asked in {field.default, begun}:
            continue
        if field.name in OF_THE_MODEL:
            raise SettingsError(
                f"{field.name} = {asked!r}: the run {given.from_} has {begun!r}, and a model keeps "
                "its sizes and its vocabulary; leave the setting out"
            )
        changes[field.name] = asked
    if given.epochs or given.minutes:
        changes |= {"epochs": given.epochs, "minutes": given.minutes}
    return replace(stored, **changes)


def grown_vocabulary(old: Checkpoint, corpus: Corpus, added: str) -> Vocabulary:
    """Return the old run's vocabulary, with named symbols behind it.

    The symbol for unknown ones, if there is one, stays the last.

    Args:
        old: the old run's checkpoint.
        corpus: the text to go on with, whose form the vocabulary gets.
        added: the symbols; those that are there already change nothing.

    Raises:
        CorpusError: the text has other symbols, and the run has none for the unknown.
    """
    known = old.vocabulary
    new = "".join(dict.fromkeys(s for s in added if s not in known.symbols))
    symbols = known.symbols[: known.sampled_size] + new + known.unknown_symbol
    unknown = "".join(s for s in corpus.vocabulary.symbols if s not in symbols)
    if unknown and not known.unknown_symbol:
        raise CorpusError(
            f"corpus {corpus.name}: {len(unknown)} of its symbols are not in the run's vocabulary "
            f"of {len(known)}: {unknown[:50]!r}; name those that the model shall learn with "
            "--add-symbols, or take another text"
        )
    return Vocabulary(symbols, known.start_symbol, corpus.vocabulary.form, known.unknown_symbol)


@torch.no_grad()
def model_to_go_on(old: Checkpoint, settings: TrainingSettings, vocabulary: Vocabulary) -> CharRNN:
    """Build a model with the old run's weights; of an added symbol it knows nothing yet.

    An added symbol is as unlikely at first as the least likely of the old ones.
    """
    model = build_model(settings, len(vocabulary))
    before, has_unknown = old.vocabulary.sampled_size, len(old.vocabulary.unknown_symbol)
    after = vocabulary.sampled_size
    for name, weight in model.state_dict().items():
        kept = old.weights[name]
        if kept.shape == weight.shape:
            weight.copy_(kept)
            continue
        weight[:before] = kept[:before]  # (V, ...): embedding, decoder and its bias
        if has_unknown:
            weight[after:] = kept[before:]
        if name == "decoder.weight":
            weight[before:after] = 0
        if name == "decoder.bias":
            weight[before:after] = kept.min()
    return model
