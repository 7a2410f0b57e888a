"""Kinds of text that people have, small: from a file's bytes to a model that wrote a sample."""

import random
import unicodedata
from pathlib import Path

import pytest

from tests.training.test_command import call, command
from training.data.corpus.corpus import load_corpus
from training.run.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

RANDOM = random.Random(7)
HANZI = [chr(0x4E00 + i) for i in range(3000)]
HANGUL = [chr(0xAC00 + i) for i in range(0, 11172, 11)]
KINDS = {
    "chinese": "".join(RANDOM.choices(HANZI, k=3990)) + "。\n" * 5,
    "korean": "".join(RANDOM.choices([*HANGUL, " "], k=3000)),
    "arabic": "مرحبا بالعالم، كيف حالك؟ " * 80,
    "devanagari": "नमस्ते दुनिया, क्षत्रिय। " * 80,
    "emoji": "👩‍🔬 wins 🏳️‍🌈! " * 120,
    "abc": "X:1\nT:Reel\nM:4/4\nK:D\n|:d2fd Adfd|B2gB ABdB:|\n\n" * 40,
    "fasta": ">sp|P1|A\nMKVLAAGIVGLCAKAYLERT\nGHIPLMNQW\n" * 60,
    "cards": "|5instant|4|6|7{RR}|8&^3|9deal &^^^ damage|\n" * 50,
    "latex": "\\begin{equation}\n\tE = mc^{2} % é\n\\end{equation}\n" * 50,
    "c": "#ifndef FOO_H\n#define FOO_H\nint main(void)\n{\n\treturn 0;\n}\n#endif\n" * 40,
    "names": "ada\nbo\ncharlotte\ndi\neve\nfrida\ngustav\n" * 50,
    "one line": "abracadabra " * 200,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_text_is_read_as_it_is_and_trained_on(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = KINDS[kind]
    file = tmp_path / "kind.txt"
    file.write_text(text, encoding="utf-8")
    tokens = command(tmp_path, f"--corpus={file}", "--epochs=1", "--name=run")
    assert call(tokens) == 0
    assert load_corpus(str(file)).text == text
    checkpoint = load_checkpoint(tmp_path / "runs" / "run")
    assert checkpoint.vocabulary.symbols == "".join(sorted(set(text)))
    is_nfc = unicodedata.is_normalized("NFC", text)
    assert checkpoint.vocabulary.form.unicode == ("nfc" if is_nfc else "any")
    assert "hardly trained" in capsys.readouterr().out or checkpoint.metrics.update >= 100


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-16", KINDS["latex"]),
        ("utf-8-sig", KINDS["arabic"]),
        ("cp1251", "Жизнь прожить - не поле перейти.\r\n" * 60),
        ("euc-kr", "안녕하세요 세계\r\n" * 150),
    ],
)
def test_other_encodings_and_line_ends_give_the_same_text(
    encoding: str, text: str, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(text.encode(encoding))
    encoded = f"--encoding={encoding}"
    assert call(command(tmp_path, f"--corpus={file}", encoded, "--name=run", "--epochs=1")) == 0
    symbols = load_checkpoint(tmp_path / "runs" / "run").vocabulary.symbols
    assert symbols == "".join(sorted(set(text) - {"\r"}))
