"""Arrays and series: tables in arrays, channels, windows of series, control charts, process runs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from agent.core.errors import InputError, UsageError
from agent.data.datasets.catalog import catalog, find_dataset
from agent.data.datasets.prepare import PrepareOptions, prepare
from agent.data.datasets.series import generate_charts

from .conftest import Got, Write, table

Get = Callable[..., Got]
X = np.arange(40.0).reshape(20, 2)
Y = np.array([0] * 16 + [1] * 4)


def saved(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_a_table_of_adbench_and_one_of_odds(write: Write, get: Get, tmp_path: Path) -> None:
    write("6_cardio.npz", saved(X=X, y=Y))
    got = get("adbench")
    assert sorted(got.labels("test")) == ["anomalous"] + ["normal"] * 5
    assert list(got.rows("test")[0]) == ["f0", "f1", "label"]
    mat = tmp_path / "cardio.mat"
    savemat(mat, {"X": X, "y": Y.reshape(-1, 1).astype(float)})
    assert get("odds", mat, to=tmp_path / "b").all_rows == got.all_rows


def test_several_tables_of_adbench_are_not_mixed(write: Write, get: Get) -> None:
    write("6_cardio.npz", saved(X=X, y=Y))
    write("7_other.npz", saved(X=X, y=Y))
    with pytest.raises(InputError, match=r"holds 2 tables \(6_cardio.npz, 7_other.npz, …\): name one"):
        get("adbench")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (saved(data=X), r"no arrays X and y; found: data \(20, 2\)"),
        (saved(X=X, y=Y[:3]), r"X \(20, 2\) and y \(3,\) do not go together"),
        (saved(X=np.array([["a"], ["b"]]), y=np.array([0, 1])), "are no numbers"),
        (saved(X=np.array([[{}], [{}]], dtype=object), y=Y[:2]), "Object arrays cannot be loaded"),
        (b"nonsense", "cannot be read as NumPy arrays"),
        (b"", "cannot be read as NumPy arrays"),
    ],
)
def test_other_arrays_are_refused_and_no_pickle_is_loaded(content: bytes, reason: str, write: Write, get: Get) -> None:
    write("6_cardio.npz", content)
    with pytest.raises(InputError, match=reason):
        get("adbench")


def test_matlab_files_that_are_not_read(write: Write, get: Get) -> None:
    path = write("cardio.mat", b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(InputError, match=r"is a MATLAB 7.3 file, which is not read: save it with -v7"):
        get("adbench")
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(10))
    with pytest.raises(InputError, match="cannot be read as a MATLAB file"):
        get("adbench")


def telemetry(write: Write) -> None:
    value = np.zeros((300, 3))
    for part in ("train", "test"):
        write(f"data/data/{part}/P-1.npy", npy(value))
        write(f"data/data/{part}/M-1.npy", npy(value[:, :2]))
    rows = 'chan_id,spacecraft,anomaly_sequences,class,num_values\nP-1,SMAP,"[[120, 130]]",[point],300\n'
    rows += 'P-1,SMAP,"[[299, 299]]",[point],300\nM-1,MSL,"[]",[],300\n'
    write("labeled_anomalies.csv", rows)


def test_smap_has_only_its_own_channels_and_all_anomalies_of_each(write: Write, get: Get) -> None:
    telemetry(write)
    got = get("smap")
    assert got.labels("train") == ["normal"] * 3
    assert got.labels("test") == ["normal", "anomalous", "anomalous"]
    digested = sorted(item.file for item in got.prepared.inputs)
    assert len(digested) == 5
    assert digested[:2] == ["data/data/test/M-1.npy", "data/data/test/P-1.npy"]
    row = got.rows("test")[1]
    assert row["id"] == "P-1 test 100"
    assert row["channel"] == "P-1"
    assert {"mean", "change", "command1", "command2"} < set(row)
    assert "command3" not in row


def test_msl_of_the_same_files_with_another_window(write: Write, get: Get) -> None:
    telemetry(write)
    got = get("msl", window=50)
    assert got.labels("test") == ["normal"] * 6
    assert "note" not in got.prepared.notes
    assert got.prepared.notes == ("train.jsonl has no anomalous records", "test.jsonl has no anomalous records")


def test_telemetry_with_a_pickle_or_without_labels(write: Write, get: Get) -> None:
    telemetry(write)
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    write("data/data/train/P-1.npy", out.getvalue())
    with pytest.raises(InputError, match=r"P-1.npy: cannot be read as a NumPy array: Object arrays cannot"):
        get("smap")


def test_telemetry_without_its_labels(write: Write, get: Get) -> None:
    write("test/P-1.npy", npy(np.zeros((300, 2))))
    with pytest.raises(InputError, match=r"without labels \(labeled_anomalies"):
        get("smap")


def test_windows_of_yahoo_series(write: Write, get: Get) -> None:
    value = [["timestamp", "value", "is_anomaly"]]
    write("A1Benchmark/real_1.csv", table(value[0], [[n, n % 7, int(n == 90)] for n in range(96)]))
    names = ["timestamps", "value", "anomaly", "changepoint", "trend"]
    write("A3Benchmark/A3Benchmark-TS2.csv", table(names, [[n, n % 5, int(n == 50), 1, 0] for n in range(96)]))
    write("A3Benchmark/A3Benchmark_all.csv", "a,b\n1,2\n")
    write("A4Benchmark/A4Benchmark-TS1.csv", table(names, [[n, 1, 0, 0, 0] for n in range(20)]))
    got = get("yahoo-s5")
    assert [row["id"] for row in got.rows("train")][:2] == ["A1Benchmark/real_1 0", "A1Benchmark/real_1 12"]
    assert got.labels("train") == ["normal"] * 6
    assert got.labels("test") == ["normal", "normal", "anomalous", "anomalous", "normal", "normal"]
    row = got.rows("test")[0]
    assert list(row) == ["id", "time", *(f"v{n}" for n in range(1, 25)), "label"]
    assert got.left_out == {"a series of fewer than 48 points": 1}
    assert got.prepared.split == "by time, the first half of each series for learning"
    assert len(get("yahoo-s5", window=48, overwrite=True).rows("test")) == 2


def test_series_of_another_size_have_the_same_windows(write: Write, get: Get) -> None:
    header = ["timestamp", "value", "is_anomaly"]
    for number, (factor, offset) in enumerate([(1, 0), (1_000, 5_000)], start=1):
        # the second half, which is not learned, is far off
        rows = [[n, (n % 7 + 50 * (n > 60)) * factor + offset, int(n > 60)] for n in range(96)]
        write(f"A1Benchmark/real_{number}.csv", table(header, rows))
    rows = get("yahoo-s5").rows("train")
    assert [row["v1"] for row in rows[:3]] == [row["v1"] for row in rows[3:]]
    assert max(abs(row[f"v{n}"]) for row in rows for n in range(1, 25)) < 2


def test_a_series_without_its_column(write: Write, get: Get) -> None:
    write("A1Benchmark/real_1.csv", "timestamp,value\n1,2\n")
    with pytest.raises(InputError, match=r"no column 'is_anomaly'; its columns are timestamp, value"):
        get("yahoo-s5")


def test_control_charts_follow_the_published_equations(tmp_path: Path) -> None:
    rows = list(generate_charts(200, 1).read())
    charts = {kind: np.array([row.cells for row in rows if row.label == kind]) for kind in {row.label for row in rows}}
    assert {kind: chart.shape for kind, chart in charts.items()} == dict.fromkeys(charts, (200, 60))
    assert len(charts) == 6
    normal = charts["normal"]
    assert 24 <= normal.min() < 24.2
    assert 35.8 < normal.max() <= 36
    assert abs(normal.std() - 2 * np.sqrt(3)) < 0.05
    t = np.arange(1, 61)
    rising = np.polyfit(t, charts["increasing trend"].T, 1)[0]
    falling = np.polyfit(t, charts["decreasing trend"].T, 1)[0]
    assert 0.1 < rising.min() < 0.27
    assert 0.43 < rising.max() < 0.6
    assert abs(rising.mean() - 0.35) < 0.03
    assert abs(falling.mean() + 0.35) < 0.03
    for kind, sign in (("upward shift", 1), ("downward shift", -1)):
        before, after = charts[kind][:, :19].mean(), charts[kind][:, 41:].mean()
        assert abs(before - 30) < 0.3
        assert abs(sign * (after - before) - 13.75) < 1
    cyclic = charts["cyclic"] - 30
    spectrum = np.abs(np.fft.rfft(cyclic, axis=1)).argmax(axis=1)
    assert set(spectrum) <= {4, 5, 6}
    assert 9 < np.sqrt(2) * cyclic.std(axis=1).mean() < 15


def test_control_charts_are_generated_by_the_seed(tmp_path: Path) -> None:
    entry = find_dataset("control charts")
    first, again, other = (
        Got(prepare(entry, None, PrepareOptions(to=tmp_path / name, seed=seed)))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.all_rows == again.all_rows
    assert first.all_rows != other.all_rows
    assert len(first.rows("test")) == 180
    assert first.labels("test").count("normal") == 30
    assert first.prepared.inputs == ()
    with pytest.raises(UsageError, match="--window is for series"):
        prepare(entry, None, PrepareOptions(to=tmp_path / "d", window=5))


def test_the_published_control_charts(write: Write, get: Get) -> None:
    line = " ".join(["30.5"] * 60) + "\n"
    path = write("synthetic_control.data", line * 600)
    labels = [row["label"] for row in get("control-charts").all_rows]
    assert {kind: labels.count(kind) for kind in set(labels)} == dict.fromkeys(set(labels), 100)
    path.write_text(line * 500)
    with pytest.raises(InputError, match="expected 600 charts, a line each, found 500"):
        get("control-charts", overwrite=True)
    path.write_text(line + "1 2\n")
    with pytest.raises(InputError, match="chart 2 has 2 points, not 60"):
        get("control-charts", overwrite=True)


def numbers(lines: int, columns: int) -> str:
    return "\n".join("  ".join(f"{n * 0.5:.4e}" for n in range(columns)) for _ in range(lines)) + "\n"


def test_process_runs_of_braatz(write: Write, get: Get) -> None:
    write("d00.dat", numbers(52, 70))
    write("d04.dat", numbers(3, 52))
    write("d00_te.dat", numbers(2, 52))
    write("d04_te.dat", numbers(163, 52))
    got = get("tennessee-eastman")
    assert got.labels("train") == ["normal"] * 70 + ["fault 4"] * 3
    assert got.labels("test") == ["normal"] * 162 + ["fault 4"] * 3
    assert list(got.rows("test")[0])[:2] == ["xmeas_1", "xmeas_2"]
    assert list(got.rows("test")[0])[-2:] == ["xmv_11", "label"]
    write("d04.dat", numbers(3, 51))
    with pytest.raises(InputError, match=r"d04.dat: expected 52 columns of numbers, found an array of \(3, 51\)"):
        get("tennessee-eastman", overwrite=True)


def test_process_runs_of_rieth(write: Write, get: Get) -> None:
    columns = ["", "faultNumber", "simulationRun", "sample", "xmeas_1", "xmv_1"]
    for part, begin in (("Training", 20), ("Testing", 160)):
        write(f"TEP_FaultFree_{part}.csv", table(columns, [[1, 0, 1, begin + 5, 0.5, 0.1]]))
        faulty = [[n, 3.0, 1, begin + n, 0.5, 0.1] for n in range(3)]
        write(f"TEP_Faulty_{part}.csv", table(columns, faulty))
    got = get("tennessee-eastman")
    expected = ["normal", "normal", "fault 3", "fault 3"]
    assert sorted(got.labels("train")) == sorted(got.labels("test")) == sorted(expected)
    assert list(got.rows("train")[0]) == ["xmeas_1", "xmv_1", "label"]


def test_r_files_are_named_with_what_to_do(write: Write, get: Get) -> None:
    write("TEP_Faulty_Training.RData", b"RDX3\n")
    with pytest.raises(InputError, match=r"expected d00.dat .*; found set/TEP_Faulty_Training.RData") as caught:
        get("tennessee-eastman")
    assert "save them as CSV" in str(caught.value.hint)


def test_a_damaged_and_an_encrypted_archive(write: Write, get: Get, tmp_path: Path) -> None:
    path = write("creditcard.zip", b"PK\x03\x04 nonsense")
    with pytest.raises(InputError, match=r"creditcard.zip: is no archive that can be read"):
        get("creditcard", path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("creditcard.csv", "Time,Class\n" + "1,0\n2,1\n" * 2_000)
    data = bytearray(path.read_bytes())
    data[60:70] = b"\xff" * 10
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"creditcard.csv: cannot be read to its end"):
        get("creditcard", path)


def test_no_such_path(get: Get, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        get("creditcard", tmp_path / "none")


def test_the_catalog_is_complete() -> None:
    from agent.data.datasets.loaders import LOADERS

    wanted = (
        "20newsgroups enron yahoo-s5 nsl-kdd unsw-nb15 cic-ids2017 kdd99 creditcard ieee-cis mimic-iii no-shows smap"
    )
    wanted += (
        " msl tennessee-eastman control-charts 1000genome montage predict_future_sales hdfs bgl thunderbird sms adbench"
        " odds"
    )
    assert set(wanted.split()) <= set(catalog())
    for entry in catalog().values():
        assert entry.source.startswith("http")
        assert entry.layouts
        assert all(layout.loader in LOADERS for layout in entry.layouts)
        assert bool(entry.downloads) <= (entry.access == "open"), "what needs an account is not downloaded"
        assert all(len(file.sha256) == 64 for file in entry.digests)
        assert all(file.url.startswith("https://") for file in entry.downloads)
