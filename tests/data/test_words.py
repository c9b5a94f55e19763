"""The words of seven languages: what is kept, how it is split, and what is said where the lists are missing."""

from pathlib import Path

import pytest

from stackelberg.data import decode, load, words
from stackelberg.errors import StackelbergError

OWN = {
    "dutch": "fiets\ngezellig\nKatwijk\nvandaag\n",
    "english": "bicycle\ncosy\ntoday\nit's\ntoday's\n",
    "french": "vélo\naujourd'hui\ngâteau\nœuvre\n",
    "german": "Straße\ngemütlich\nDonaudampfschifffahrt\nheute\n",
    "italian": "bicicletta\noggi\ngiù\n",
    "portuguese": "bicicleta\nhoje\ncoração\n",
    "spanish": "bicicleta\nhoy\ncorazón\nniño\n",
}


def write(folder: Path) -> None:
    folder.mkdir()
    for language, (name, _) in words.LISTS.items():
        (folder / name).write_text(OWN[language], encoding="utf-8")


def by_language(split: str) -> dict[str, set[str]]:
    data = load("words", split)
    found: dict[str, set[str]] = {name: set() for name in data.classes}
    for text, label in zip(decode(data.x), data.y.tolist(), strict=True):
        found[data.classes[label]].add(text)
    return found


def test_accents_and_case_are_folded_and_shared_words_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("STACKELBERG_DATA", str(tmp_path))
    write(tmp_path / "words")
    monkeypatch.setattr(words, "_tested", lambda word: False)
    assert by_language("train") == {
        "dutch": {"fiets", "gezellig", "katwijk", "vandaag"},
        "english": {"bicycle", "cosy", "today"},
        "french": {"velo", "gateau"},  # not aujourd'hui, nor what cannot be written with a to z
        "german": {"strasse", "gemutlich", "heute"},  # 21 letters are too many
        "italian": {"bicicletta", "oggi"},  # three are too few
        "portuguese": {"hoje", "coracao"},  # bicicleta is Spanish, too
        "spanish": {"corazon", "nino"},
    }


def test_missing_lists_are_named_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setenv("STACKELBERG_DATA", str(tmp_path))
    monkeypatch.setattr(words, "SYSTEM", tmp_path / "dict")
    write(tmp_path / "words")
    (tmp_path / "words" / "ngerman").unlink()
    with pytest.raises(
        StackelbergError, match=r"words not found: \S*words has no ngerman; \S*dict has no dutch, .* install wdutch"
    ):
        load("words")
    monkeypatch.delenv("STACKELBERG_DATA")
    with pytest.raises(StackelbergError, match=r"STACKELBERG_DATA is not set; \S*dict has no dutch"):
        load("words", "test")


def test_a_list_that_is_no_utf8_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("STACKELBERG_DATA", str(tmp_path))
    write(tmp_path / "words")
    (tmp_path / "words" / "french").write_bytes("vélo\n".encode("latin-1"))
    with pytest.raises(StackelbergError, match=r"words/french cannot be read as UTF-8"):
        load("words")


@pytest.fixture(scope="module")
def installed() -> None:
    if missing := [name for name, _ in words.LISTS.values() if not (words.SYSTEM / name).is_file()]:
        pytest.skip(f"needs Debian's lists of words in {words.SYSTEM}, which lacks {', '.join(missing)}")


@pytest.mark.usefixtures("installed")
def test_debians_lists_are_split_by_beginnings(monkeypatch):
    monkeypatch.delenv("STACKELBERG_DATA", raising=False)
    train, test = load("words", "train"), load("words", "test")
    assert train.y.bincount().tolist() == [10_000] * 7
    assert test.y.bincount().tolist() == [2_000] * 7
    beginnings = [{text[: words.STEM] for text in decode(data.x)} for data in (train, test)]
    assert not beginnings[0] & beginnings[1]
    everything = decode(train.x) + decode(test.x)
    assert len(set(everything)) == len(everything)
    assert all(text.isascii() and text.isalpha() and text.islower() for text in everything)
