"""``dcpt push`` against a local server: what is sent, what is asked, and how it refuses."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, serve
from typer.testing import CliRunner, Result

from dcpt.bundled import bundled_runs
from dcpt.cli import app
from dcpt.errors import InputError
from dcpt.pipeline import push
from dcpt.table import write_runs

# huggingface_hub uploads bytes in a way that httpx no longer recommends.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")

SENT = {
    "README.md",
    "fit.json",
    "draws.npz",
    "runs.csv",
    "recommendation.json",
    "report/report.html",
    "report/report.md",
    "report/report.json",
}
TARGET = (
    *("--n-params", "29.1M", "--n-tokens", "44M", "--limit", "+3%"),
    *(
        "--base-loss",
        "general=2.775",
        "--base-peak-learning-rate",
        "1e-3",
        "--base-n-tokens",
        "120M",
    ),
)


def run(*words: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(
        app, [str(word) for word in words], input=answer, catch_exceptions=False
    )


def fit_again(folder: Path, draws: int) -> None:
    laws = ("anchored-general-lr", "anchored-domain-lr")
    chosen = [word for law in laws for word in ("--law", law)]
    run("fit", folder.parent / "runs.csv", *chosen, "--draws", draws, "--out", folder)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit with its recommendation."""
    folder = tmp_path_factory.mktemp("fitted") / "verse"
    write_runs(bundled_runs("zh_annealed"), folder.parent / "runs.csv")
    fit_again(folder, 20)
    run("recommend", folder, *TARGET)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import close_session, constants

    monkeypatch.setenv("HF_TOKEN", "hf_test")
    with serve() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        # The server speaks LFS. Xet, which the hub prefers, needs a storage service of its own.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server
        close_session()


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes no report, which takes seconds."""
    monkeypatch.setattr(push, "pack_fit", lambda *_: dict.fromkeys(sorted(SENT), b"new"))


@pytest.mark.long
def test_a_fit_is_sent_after_a_yes(fitted: Path, hub: Hub) -> None:
    (fitted / "notes.txt").write_text("a file of a person")
    result = run("push", fitted, "me/verse", "--private", answer="y\n")
    assert result.exit_code == 0
    assert "new model repository me/verse (private)" in result.output
    sent = hub.repos["me/verse"]
    assert set(sent) == SENT | {".gitattributes"}
    for name in SENT - {"README.md"}:
        assert re.search(rf"{name} +{len(sent[name]):,}", result.output)
        if not name.startswith("report/"):
            assert sent[name] == (fitted / name).read_bytes()
    assert hub.private == {"me/verse"}
    assert not any(str(fitted.parent).encode() in content for content in sent.values())


@pytest.mark.long
def test_the_card_answers_and_its_command_gives_the_same_answer(
    fitted: Path, hub: Hub, tmp_path: Path
) -> None:
    run("push", fitted, "me/verse", "--yes", "--repo-type", "dataset")
    card = hub.repos["me/verse"]["README.md"].decode()
    answer = json.loads((fitted / "recommendation.json").read_text())
    assert f"**{100 * answer['best']['ratio']:.1f} %**" in card
    assert "Learning rate (peak)" in card
    assert "Chance of staying within the limit" in card
    assert answer["evidence"]["reasons"]
    for reason in answer["evidence"]["reasons"]:
        assert reason["sentence"][:40] in card
    download, ask = card.split("```bash\n")[1].splitlines()[:2]
    assert download == "hf download me/verse --repo-type dataset --local-dir fit"
    for name in SENT:
        place = tmp_path / "fit" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(hub.repos["me/verse"][name])
    words = shlex.split(ask)
    assert words[:3] == ["dcpt", "recommend", "fit"]
    again = json.loads(run("recommend", tmp_path / "fit", *words[3:], "--json").stdout)
    for name in ("target", "best", "central", "ratio_interval", "evidence", "level"):
        assert again[name] == answer[name]


def test_binary_and_large_files_are_uploaded_apart(
    monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    files = {"README.md": b"card", "draws.npz": b"arrays", "runs.csv": b"1,2\n" * 3_000_000}
    monkeypatch.setattr(push, "pack_fit", lambda *_: files)
    assert run("push", "verse", "me/verse", "--yes").exit_code == 0
    assert {name: hub.repos["me/verse"][name] for name in files} == files
    assert sorted(hub.objects.values(), key=len) == [files["draws.npz"], files["runs.csv"]]


@pytest.mark.parametrize("refused", ["/lfs/", "/me/verse.git/info/lfs"])
def test_a_refused_upload_is_one_sentence(packed: None, hub: Hub, refused: str) -> None:
    hub.refuses = {refused: 403}
    with pytest.raises(InputError, match="the token may not write to me/verse"):
        run("push", "verse", "me/verse", "--yes")
    assert set(hub.repos["me/verse"]) == {".gitattributes"}


def test_an_upload_that_fails_without_a_cause_is_one_sentence(
    packed: None, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Data processing error: storage")

    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", fail)
    with pytest.raises(InputError, match=r"not uploaded \(Data .*; try again, with HF_HUB_DISABLE"):
        run("push", "verse", "me/verse", "--yes")


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_nothing_is_sent_without_a_yes(packed: None, hub: Hub, answer: str) -> None:
    result = run("push", "verse", "me/verse", answer=answer)
    assert result.exit_code == 0
    assert "nothing was sent" in result.output
    assert hub.asked == ["GET /api/models/me/verse"]


def test_nobody_answers(packed: None, hub: Hub) -> None:
    with pytest.raises(InputError, match="nobody answered; give --yes"):
        run("push", "verse", "me/verse")
    assert hub.repos == {}


def test_a_second_push_replaces_the_first(packed: None, hub: Hub) -> None:
    run("push", "verse", "me/verse", "--yes")
    result = run("push", "verse", "me/verse", "--yes")
    assert result.exit_code == 0
    assert result.output.count("replaced") == len(SENT)
    assert hub.asked.count("POST /api/repos/create") == 1


@pytest.mark.parametrize(
    ("held", "named"),
    [
        (["README.md", "model.safetensors"], "README.md, model.safetensors"),
        (["README.md"], r"\(README.md\)"),
        ([*SENT, "a", "b", "c", "d"], r"\(a, b, c and 1 more\)"),
    ],
)
def test_a_repository_with_other_files_is_refused(
    packed: None, hub: Hub, held: list[str], named: str
) -> None:
    hub.repos["me/model"] = dict.fromkeys(held, b"")
    with pytest.raises(InputError, match=named + r".*; choose another repository"):
        run("push", "verse", "me/model", "--yes")
    assert all(content == b"" for content in hub.repos["me/model"].values())


def test_a_public_repository_is_not_taken_for_a_private(packed: None, hub: Hub) -> None:
    hub.repos["me/verse"] = {}
    with pytest.raises(InputError, match="me/verse exists and is public"):
        run("push", "verse", "me/verse", "--private", "--yes")


@pytest.mark.parametrize(
    ("refused", "status", "sentence"),
    [
        ("/api/models", 401, "does not accept the token; run `hf auth login`"),
        ("/api/repos/create", 403, "may not write to me/verse; take one with write access"),
        ("/api/repos/create", 500, r"refused me/verse \(HTTP 500: .*try again later"),
    ],
)
def test_a_refusal_is_one_sentence(
    packed: None, hub: Hub, refused: str, status: int, sentence: str
) -> None:
    hub.refuses[refused] = status
    with pytest.raises(InputError, match=sentence) as error:
        run("push", "verse", "me/verse", "--yes")
    assert len(str(error.value).splitlines()) == 1


def test_no_network_is_one_sentence(
    packed: None, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"http://127.0.0.1:9 cannot be reached .*; check the net"):
        run("push", "verse", "me/verse", "--yes")


def test_no_token_is_one_sentence(packed: None, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputError, match="no token for the hub; run `hf auth login`"):
        run("push", "verse", "me/verse", "--yes")
    assert hub.asked == []


@pytest.mark.parametrize("name", ["verse", "me/a/b", "me/", "me/../b", "https://x/me/b"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is not a repository; write it as owner/name"):
        run("push", "verse", name, "--yes")


@pytest.mark.long
def test_a_recommendation_older_than_the_fit_is_refused(
    fitted: Path, hub: Hub, tmp_path: Path
) -> None:
    folder = tmp_path / "verse"
    shutil.copytree(fitted, folder)
    shutil.copy(fitted.parent / "runs.csv", tmp_path)
    fit_again(folder, 21)
    with pytest.raises(InputError, match=r"made from another fit than fit.json; run `dcpt recom"):
        run("push", folder, "me/verse", "--yes")
    assert hub.asked == []


def test_json_needs_a_yes(packed: None, hub: Hub) -> None:
    with pytest.raises(InputError, match="give --yes too"):
        run("push", "verse", "me/verse", "--json")
    sent = json.loads(run("push", "verse", "me/verse", "--json", "--yes").stdout)
    assert sent == {"repo": f"{hub.address}/me/verse", "files": sent["files"]}
    assert set(sent["files"]) == SENT
