"""Which language is this word from?  Debian's lists of words, as texts of the letters a to z."""

import os
import re
import unicodedata
import zlib
from heapq import nsmallest
from pathlib import Path

import torch

from stackelberg.data.dataset import Dataset
from stackelberg.data.texts import encode
from stackelberg.errors import StackelbergError

SYSTEM = Path("/usr/share/dict")
LISTS = {
    "dutch": ("dutch", "wdutch"),
    "english": ("american-english", "wamerican"),
    "french": ("french", "wfrench"),
    "german": ("ngerman", "wngerman"),
    "italian": ("italian", "witalian"),
    "portuguese": ("portuguese", "wportuguese"),
    "spanish": ("spanish", "wspanish"),
}
"""By language its list, and the Debian package that installs it."""
SHORTEST, LENGTH = 4, 16
STEM = 5
SIZES = {"train": 10_000, "test": 2_000}
_MARKS = re.compile("[\u0300-\u036f]")
_WORD = re.compile(rf"^[a-z]{{{SHORTEST},{LENGTH}}}$", re.MULTILINE)


def read_words(split: str) -> Dataset:
    """Words and their language: uint8 [N, 16], the same on every machine that has the same lists.

    Letters lose their accents and their case, so that no single character gives a language away; words with anything
    but a to z, shorter than 4 or longer than 16 letters, or in two languages' lists are left out. Words that begin with
    the same five letters are all in one split (a fifth of the beginnings in test), so that no inflection of a word
    trained on is tested. Of each language 10,000 words for training and 2,000 for the test, or all there are.

    Raises:
        StackelbergError: a list is not there.
    """
    folder = _folder()
    found = [_words(folder / name) for name, _ in LISTS.values()]
    shared: set[str] = set()
    seen: set[str] = set()
    for words in found:
        shared |= seen & words
        seen |= words
    texts: list[str] = []
    labels: list[int] = []
    for label, words in enumerate(found):
        fitting = (word for word in words - shared if _tested(word) == (split == "test"))
        own = nsmallest(SIZES[split], fitting, key=lambda word: (zlib.crc32(word.encode()), word))
        texts += own
        labels += [label] * len(own)
    return Dataset(encode(texts, LENGTH), torch.tensor(labels), list(LISTS), "words")


def _folder() -> Path:
    root = os.environ.get("STACKELBERG_DATA")
    places = [*([Path(root) / "words"] if root else []), SYSTEM]
    tried = [] if root else ["STACKELBERG_DATA is not set"]
    for place in places:
        missing = [name for name, _ in LISTS.values() if not (place / name).is_file()]
        if not missing:
            return place
        tried.append(f"{place} has no {', '.join(missing)}")
    packages = " ".join(package for _, package in LISTS.values())
    raise StackelbergError(
        f"data set words not found: {'; '.join(tried)}. On Debian or Ubuntu install {packages}; elsewhere set"
        " STACKELBERG_DATA to a folder with words/, and put such lists there (UTF-8, a word a line)"
    )


def _words(path: Path) -> set[str]:
    """The words of a list without case and accents, those that hold nothing but letters then."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StackelbergError(f"{path} cannot be read as UTF-8 ({error}); install it again") from error
    return set(_WORD.findall(_MARKS.sub("", unicodedata.normalize("NFKD", text.casefold()))))


def _tested(word: str) -> bool:
    return zlib.crc32(word[:STEM].encode()) % 5 == 0
