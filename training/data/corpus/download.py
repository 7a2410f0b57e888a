"""Texts on the web: where each known one lies, and fetching it whole or not at all."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unroll.errors import CorpusError

if TYPE_CHECKING:
    from requests import Response

SECONDS_WITHOUT_DATA = 30.0


@dataclass(frozen=True, kw_only=True)
class Source:
    """A text on the web, pinned.

    Args:
        url: of one unchanging version.
        sha256: of the file's bytes, in hexadecimal.
    """

    url: str
    sha256: str


_COLLECTION = (
    "https://raw.githubusercontent.com/nikhilbarhate99/Char-RNN-PyTorch/"
    "2cf836f236542fe4bc92593582dd66219bbceba4/data"
)
SOURCES: Mapping[str, Source] = {
    "sherlock": Source(
        url=f"{_COLLECTION}/sherlock.txt",
        sha256="dc830e0866bd57bc42d8b3b76fc9616aa5fc2dce11b7decb2d2169d82c03d99f",
    ),
    "shakespeare": Source(
        url=f"{_COLLECTION}/shakespeare.txt",
        sha256="b178735ce2627f9a72a33a5581111e0576ba81dc15a760569b21f84f26ca3ed4",
    ),
    "tinyshakespeare": Source(
        url="https://raw.githubusercontent.com/karpathy/char-rnn/"
        "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}


def fetch(name: str, source: Source, cache: Path) -> Path:
    """Return the cached text, downloading it with a progress bar where it is not there.

    A file appears in the cache when it is whole and verified; until then it has another name,
    and none is left behind when the download fails or is interrupted.

    Raises:
        CorpusError: it could not be downloaded, or is not the pinned version.
    """
    import pooch  # takes a tenth of a second, and most texts lie here already
    from requests import RequestException

    logging.getLogger("pooch").setLevel(logging.WARNING)
    pooch.get_logger().setLevel(logging.WARNING)
    responses: list[Response] = []
    advice = f"try again, or put the file at $CORPUS_DIR/{name}.txt"
    try:
        path = pooch.retrieve(
            source.url,
            known_hash=f"sha256:{source.sha256}",
            fname=f"{name}.txt",
            path=cache,
            downloader=pooch.HTTPDownloader(
                progressbar=True,
                timeout=SECONDS_WITHOUT_DATA,
                hooks={"response": lambda response, **_: responses.append(response)},
            ),
        )
    except RequestException as error:
        raise CorpusError(
            f"corpus {name}: {source.url} could not be downloaded: {error}; {advice}"
        ) from error
    except ValueError as error:
        raise CorpusError(
            f"corpus {name}: {source.url} is not the pinned version (sha256 "
            f"{source.sha256}): {error}; {advice}"
        ) from error
    except OSError as error:
        raise CorpusError(f"corpus {name}: cannot be kept in {cache}: {error}; {advice}") from error
    finally:
        for response in responses:  # pooch leaves those open that failed
            response.close()
    return Path(path)
