"""Small equal models, one for each author, and what they say of passages."""

import re
from collections.abc import Callable

from report.authors.authors import Verdicts, Writings, judge
from report.settings import ReportSettings, author_settings
from report.trainings import ensure_trained
from training.data.corpus import load_corpus
from training.run.checkpoint import load_checkpoint


def whose_is_it(
    writings: list[Writings], settings: ReportSettings, say: Callable[[str], None]
) -> Verdicts:
    """Train a model on each author's text and let them judge held-out passages.

    Args:
        writings: of the authors.
        settings: the report's.
        say: is told what goes on.

    Raises:
        TrainingError: a training failed.
    """
    symbols = min(len(each.training) for each in writings)
    folder = settings.folder / "authors"
    folder.mkdir(exist_ok=True)
    readers = []
    for each in writings:
        name = re.sub(r"\W+", "-", each.author)
        text = folder / f"{name}.txt"
        text.write_text(each.training, encoding="utf-8", newline="\n")
        training = author_settings(name, text, settings, symbols)
        run = ensure_trained(training, load_corpus(str(text)), fresh=settings.fresh, say=say)
        checkpoint = load_checkpoint(run.best)
        readers.append((checkpoint.model(), checkpoint.vocabulary))
    return judge(writings, readers)
