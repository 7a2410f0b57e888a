"""The form of a text: what training made of the text, and serving makes of every other."""

import unicodedata
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TextForm:
    """How the same text is always spelled.

    Attributes:
        line_ends: `newline`: CRLF and CR become newlines; `any`: they stay.
        unicode: `nfc`: Unicode's composed form, so that é is one symbol however it was typed;
            `any`: symbols stay as they are.
        unit: `record`: a text is one line, so that writing ends with it; `text`: it is not.
    """

    line_ends: Literal["newline", "any"] = "any"
    unicode: Literal["nfc", "any"] = "any"
    unit: Literal["text", "record"] = "text"

    @property
    def changes_texts(self) -> bool:
        """Whether `apply` may change a text."""
        return self.line_ends != "any" or self.unicode != "any"

    def apply(self, text: str) -> str:
        """Return a text in this form."""
        if self.line_ends == "newline" and "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return unicodedata.normalize("NFC", text) if self.unicode == "nfc" else text


AS_IT_IS = TextForm()
