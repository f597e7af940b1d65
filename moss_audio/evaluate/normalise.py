"""From text to the units that are compared: words, or characters where a language does not space words.

Both sides of every comparison go through the normaliser that the Whisper paper scores with, as
transformers ships it: for English with contractions and spelled-out numbers resolved, for every other
language lower case without punctuation or bracketed asides. Its table of British and American spellings
does not come with transformers but with Whisper checkpoints (``normalizer.json``); without it the table is
empty, so that "colour" and "color" differ, and the report says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from moss_audio.errors import DataError

CHARACTER_LANGUAGES = frozenset({"zh", "yue", "ja", "th", "lo", "my"})
"""Languages written without spaces between words, scored by characters (CER), as the Whisper paper does."""


def read_spellings(path: Path) -> dict[str, str]:
    """Read a table of spellings, ``{"colour": "color", …}``, such as a Whisper checkpoint's normalizer.json.

    Raises:
        DataError: The file is missing or not a JSON object of texts.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"The table of spellings {path} does not exist.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"The table of spellings {path} cannot be read as JSON: {error}.") from error
    if not isinstance(table, dict) or not all(isinstance(one, str) for one in table.values()):
        raise DataError(f'The table of spellings {path} must be an object like {{"colour": "color"}}.')
    return table


class Normaliser:
    """Turns texts into comparable units.

    Args:
        spellings: British to American words for English; empty where no table is at hand.
    """

    def __init__(self, spellings: Mapping[str, str] | None = None):
        self.spellings = dict(spellings or {})
        self._english = EnglishTextNormalizer(self.spellings)
        self._basic = BasicTextNormalizer()
        # References are seen twice (their text, their times) and words repeat; the normaliser is slow.
        self._units = lru_cache(maxsize=100_000)(self._split)

    def units(self, text: str, language: str | None) -> tuple[str, ...]:
        """Split ``text`` into normalised words, or characters for ``CHARACTER_LANGUAGES``."""
        return self._units(text, language)

    def _split(self, text: str, language: str | None) -> tuple[str, ...]:
        if language in CHARACTER_LANGUAGES:
            return tuple("".join(self._basic(text).split()))
        if language != "en":
            return tuple(self._basic(text).split())
        try:
            return tuple(self._english(text).split())
        except ValueError:
            # Looping models emit runs of thousands of digits, more than Python turns into a number.
            return tuple(self._basic(text).split())
