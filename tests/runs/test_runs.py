from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from run_configs import run_config

from dcpt.runs.course import channel_shares, learning_rate_at, mixture_phases
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import Architecture, ChannelIdentity, Decay, Identity, Optimizer, RunConfig
from dcpt.runs.names import table_names


def channel(name: str, side: str, weight: float = 1.0) -> ChannelIdentity:
    return ChannelIdentity(
        name=name, side=side, weight=weight, train_sha256="a" * 8, valid_sha256="b" * 8
    )


EN, ZH, LAW = channel("en", "general", 3), channel("zh", "general"), channel("law", "domain")


def config(**changes: object) -> RunConfig:
    about = {"tokenizer_sha256": "c" * 8, "channels": (EN, LAW), "warmup_tokens": 40}
    return run_config(**{**about, **changes})


def test_shares_are_exact_and_sum_to_one() -> None:
    shares = channel_shares((EN, ZH, LAW), 0.1)
    assert shares == {"en": Fraction(27, 40), "zh": Fraction(9, 40), "law": Fraction(1, 10)}
    assert channel_shares((EN, LAW), 1.0) == {"law": Fraction(1)}
    assert channel_shares((EN, LAW), 0.0) == {"en": Fraction(1)}


def test_every_field_of_the_identity_changes_the_hash_and_nothing_recorded_does() -> None:
    made = config()
    changes = {
        "kind": "branch",
        "base": "weights:01",
        "architecture": Architecture(
            width=8, layers=1, heads=1, vocab_size=9, max_sequence_tokens=5
        ),
        "base_state_tokens": 40,
        "trunk": "abc",
        "tokenizer_sha256": "d" * 8,
        "channels": (ZH, LAW),
        "ratio": 0.25,
        "learning_rate": 2e-3,
        "warmup_tokens": 50,
        "warmup_ratio": 0.0,
        "decay": Decay(start_tokens=100, n_tokens=40),
        "batch_sequences": 3,
        "sequence_tokens": 6,
        "optimizer": Optimizer(clip_norm=2.0),
        "validation_tokens": 200,
        "seed": 1,
        "dtype": "bfloat16",
        "packing": "documents",
        "numerics": 99,
    }
    assert set(changes) == set(Identity.model_fields)
    hashes = {config(**{name: value}).identity.hash for name, value in changes.items()}
    assert len(hashes | {made.identity.hash}) == len(changes) + 1
    recorded = {"size": "x", "n_tokens": 900, "evaluation_at": (1,), "keep_state_at": (2,)}
    recorded |= {"base_path": "p", "purpose": "verify", "checkpoint_every_s": 1.0}
    recorded |= {"mixture_name": "best"}
    other = made.model_copy(update={"recorded": made.recorded.model_copy(update=recorded)})
    assert other.identity.hash == made.identity.hash


def test_a_mixture_holds_from_the_step_its_phase_begins() -> None:
    plain = config(ratio=0.5).identity
    assert mixture_phases(plain) == [(0, {"en": Fraction(1, 2), "law": Fraction(1, 2)})]
    warm = config(ratio=0.5, warmup_ratio=0.0, warmup_tokens=35).identity
    assert mixture_phases(warm) == [
        (0, {"en": Fraction(1), "law": Fraction(0)}),
        (4, {"en": Fraction(1, 2), "law": Fraction(1, 2)}),
    ]
    assert len(mixture_phases(config(warmup_ratio=0.0, warmup_tokens=0).identity)) == 1
    best = ChannelIdentity(name="best", side="extra", weight=1, train_sha256="a", valid_sha256="b")
    decay = Decay(start_tokens=100, n_tokens=40, mixture={"best": 0.8, "en": 0.2})
    branch = config(kind="branch", trunk="x", channels=(EN, LAW, best), decay=decay).identity
    assert mixture_phases(branch)[0][1]["best"] == 0
    assert mixture_phases(branch)[1] == (
        10,
        {"en": Fraction(1, 5), "law": Fraction(0), "best": Fraction(4, 5)},
    )
    assert table_names((EN, LAW, best)) == {"en": "general", "law": "domain", "best": "best"}


def test_the_learning_rate_warms_up_stays_and_decays_to_zero() -> None:
    trunk = config().identity
    assert [learning_rate_at(trunk, step) for step in range(6)] == pytest.approx(
        [2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3]
    )
    branch = config(kind="branch", trunk="x", decay=Decay(start_tokens=100, n_tokens=40)).identity
    assert [learning_rate_at(branch, step) for step in range(9, 14)] == pytest.approx(
        [1e-3, 8e-4, 6e-4, 4e-4, 2e-4]
    )
    pretrain = config(decay=Decay(start_tokens=60, n_tokens=40, final_fraction=0.1)).identity
    assert learning_rate_at(pretrain, 9) == pytest.approx(1e-3 * (1 - 0.8 * 0.9))


def test_a_folder_is_found_by_hash_whatever_its_slug(tmp_path: Path) -> None:
    made = config()
    (tmp_path / f"renamed-{made.identity.hash}").mkdir()
    assert RunFolder.of(made, tmp_path).path.name == f"renamed-{made.identity.hash}"


def test_another_run_is_never_written_over(tmp_path: Path) -> None:
    folder = RunFolder.of(config(), tmp_path)
    folder.write_config(config())
    with pytest.raises(AssertionError, match="ratio differ"):
        folder.write_config(config(ratio=0.75))


def test_done_means_length_and_states(tmp_path: Path) -> None:
    made = config()
    folder = RunFolder.of(made, tmp_path)
    folder.write_config(made)
    assert not folder.is_done(made)
    with folder.open_metrics() as metrics:
        for n_tokens in (0, 100):
            metrics.write(json.dumps({"event": "point", "n_tokens": n_tokens}) + "\n")
    folder.write_result({"n_tokens": 100})
    assert folder.is_done(made)
    keep = made.recorded.model_copy(update={"keep_state_at": (50,)})
    assert not folder.is_done(made.model_copy(update={"recorded": keep}))
    longer = made.recorded.model_copy(update={"n_tokens": 200})
    assert not folder.is_done(made.model_copy(update={"recorded": longer}))


def test_a_torn_last_line_is_forgiven_and_never_spoils_the_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.open_metrics() as metrics:
        metrics.write(json.dumps({"event": "point", "n_tokens": 10}) + "\n")
        metrics.write('{"event": "point", "n_tok')
    assert [point["n_tokens"] for point in folder.points()] == [10]
    with folder.open_metrics() as metrics:
        metrics.write(json.dumps({"event": "point", "n_tokens": 20}) + "\n")
    assert [point["n_tokens"] for point in folder.points()] == [10, 20]


def test_a_point_written_twice_counts_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.open_metrics() as metrics:
        for loss in ({"en": 1.0}, {"en": 2.0}):
            metrics.write(json.dumps({"event": "point", "n_tokens": 10, "loss": loss}) + "\n")
    assert [point["loss"] for point in folder.points()] == [{"en": 2.0}]


def test_a_lease_is_held_by_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.lock() as mine:
        assert mine
        assert folder.is_locked()
        with folder.lock() as again:
            assert not again
    assert not folder.is_locked()


def test_the_lease_of_a_killed_process_is_free(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom dcpt.runs.folders import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock() as mine:\n"
        "    print(bool(mine), flush=True)\n    time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert folder.is_locked()
        with folder.lock() as mine:
            assert not mine
        other.kill()
    assert not folder.is_locked()
    with folder.lock() as mine:
        assert mine


def test_looking_at_a_lease_needs_no_right_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened = RunFolder(tmp_path / "run"), Path.open
    modes: list[str] = []

    def watched(path: Path, mode: str = "r", *more: object, **named: object) -> object:
        modes.append(mode)
        return opened(path, mode, *more, **named)  # type: ignore[call-overload]

    with folder.lock(), monkeypatch.context() as watching:
        watching.setattr(Path, "open", watched)
        assert folder.is_locked()
    assert set(modes) <= {"r", "rb"}


def test_the_table_calls_the_sides_by_their_names() -> None:
    assert table_names((EN, LAW)) == {"en": "general", "law": "domain"}
    assert table_names((EN, ZH, LAW)) == {"en": "en", "zh": "zh", "law": "domain"}
