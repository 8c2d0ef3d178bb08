"""Tables: the columns that are no features, labels as the publishers write them, rows that are left out."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.errors import InputError, UsageError
from agent.data.datasets.catalog import catalog

from .conftest import Got, Write, table

Get = Callable[..., Got]
KDD = list(catalog()["kdd99"].layouts[0].options["columns"])


def connection(attack: str, *, duration: int = 0) -> list[object]:
    return [duration, "tcp", "http", "SF", *range(37), attack]


def test_nsl_kdd_has_the_published_split_and_no_difficulty(write: Write, get: Get) -> None:
    write("KDDTrain+_20Percent.txt", table(None, [[*connection("normal"), 21], [*connection("neptune"), 7]]))
    write("KDDTest+.txt", table(None, [[*connection("saint"), 15]]))
    got = get("nsl-kdd")
    assert got.labels("train") == ["normal", "neptune"]
    assert got.labels("test") == ["saint"]
    row = got.rows("train")[0]
    assert list(row) == [*KDD[:-1], "label"]
    assert "difficulty" not in row
    assert "attack" not in row
    assert got.prepared.split == "the published split"


def test_the_whole_training_part_is_preferred_to_its_twenty_percent(write: Write, get: Get) -> None:
    write("KDDTrain+_20Percent.txt", table(None, [[*connection("normal"), 21]]))
    write("KDDTrain+.txt", table(None, [[*connection("smurf"), 21], [*connection("normal"), 21]]))
    write("KDDTest+.txt", table(None, [[*connection("normal"), 15]]))
    assert get("nsl-kdd").labels("train") == ["smurf", "normal"]


def test_nsl_kdd_without_the_difficulty_is_read_too(write: Write, get: Get) -> None:
    write("KDDTrain+.txt", table(None, [connection("normal"), connection("neptune")]))
    write("KDDTest+.txt", table(None, [[*connection("normal"), 3]]))
    got = get("nsl-kdd")
    assert got.left_out == {}
    assert got.labels("test") == ["normal"]


def test_one_side_of_a_published_split_is_divided_and_the_split_says_so(write: Write, get: Get) -> None:
    rows = [[*connection("normal", duration=number), 21] for number in range(10)]
    write("KDDTest+.txt", table(None, [*rows, *([*connection("back"), 1] for _ in range(10))]))
    got = get("nsl-kdd")
    assert sorted(got.labels("test")) == ["back"] * 3 + ["normal"] * 3
    assert "only the test part is here" in got.prepared.split


def test_a_table_of_another_width_is_refused_with_what_was_expected_and_found(write: Write, get: Get) -> None:
    write("KDDTrain+.txt", "1,2,3\n")
    with pytest.raises(InputError, match=r"KDDTrain\+.txt:1: expected 42 or 43 columns .*difficulty.*, found 3: 1,2,3"):
        get("nsl-kdd")


def test_kdd99_labels_lose_their_dot_and_gzip_is_unpacked(write: Write, get: Get) -> None:
    rows = [connection("normal."), connection("smurf."), connection("normal."), connection("smurf.")]
    write("kddcup.data_10_percent.gz", gzip.compress(table(None, rows).encode()))
    write("corrected.gz", gzip.compress(table(None, [connection("mailbomb.")]).encode()))
    got = get("kdd99")
    assert got.labels("train") == ["normal", "smurf", "normal", "smurf"]
    assert got.labels("test") == ["mailbomb"]


def test_a_damaged_gzip_is_an_error(write: Write, get: Get) -> None:
    packed = gzip.compress(table(None, [connection("normal.", duration=n) for n in range(5_000)]).encode())
    write("kddcup.data.gz", packed[:-400])
    with pytest.raises(InputError, match=r"kddcup.data: cannot be read to its end"):
        get("kdd99")


UNSW = ["id", "dur", "proto", "rate", "attack_cat", "label"]


def test_unsw_names_the_attack_and_has_no_attack_cat(write: Write, get: Get) -> None:
    write(
        "UNSW_NB15_training-set.csv",
        "\ufeff" + table(UNSW, [[1, 0.1, "tcp", 9, "Normal", 0], [2, 0.2, "udp", 8, " Fuzzers ", 1]]),
    )
    write("UNSW_NB15_testing-set.csv", table(UNSW, [[1, 0.3, "tcp", 7, "Worms", 1]]))
    got = get("unsw-nb15")
    assert got.labels("train") == ["normal", "Fuzzers"]
    assert list(got.rows("train")[0]) == ["dur", "proto", "rate", "label"]
    assert got.labels("test") == ["Worms"]


def test_the_whole_of_unsw_is_divided_by_time_and_has_no_addresses(write: Write, get: Get) -> None:
    names = list(catalog()["unsw-nb15"].layouts[1].options["columns"])
    assert len(names) == 49

    def flow(time: int, attack: str, label: int) -> list[object]:
        cells: dict[str, object] = dict.fromkeys(names, 1) | {"Stime": time, "attack_cat": attack, "Label": label}
        return list(cells.values())

    write("UNSW-NB15_2.csv", table(None, [flow(8, "", 0), flow(9, "DoS", 1), flow(10, "", 0)]))
    write("UNSW-NB15_1.csv", table(None, [flow(time, "", 0) for time in range(1, 8)]))
    got = get("unsw-nb15")
    assert [row["time"] for row in got.rows("test")] == ["8", "9", "10"]
    assert got.labels("test") == ["normal", "DoS", "normal"]
    assert not {"srcip", "dstip", "sport", "attack_cat", "Ltime", "Stime"} & set(got.rows("test")[0])
    assert got.prepared.split == "by time, the last 30% for testing"


CIC = [" Destination Port", " Flow Duration", " Fwd Header Length", "Flow Bytes/s", " Fwd Header Length", " Label"]


def test_cic_ids2017_spaces_infinity_repeated_headers_and_blank_rows(write: Write, get: Get) -> None:
    monday = [[80, 5, 1, "Infinity", 1, "BENIGN"], [81, 5, 1, "NaN", 1, "BENIGN"], CIC, [82, 5, 1, 2.5, 1, "BENIGN"]]
    friday = [[80, 5, 1, 3, 1, "DDoS"], ["", "", "", "", "", ""], [1, 2], [80, 5, 1, "-Infinity", 1, "BENIGN"]]
    write("Monday-WorkingHours.pcap_ISCX.csv", table(CIC, monday))
    thursday = table(CIC, [[80, 5, 1, 3, 1, "Web Attack \x96 XSS"]]).encode("latin-1")
    write("Thursday-Morning.csv", thursday)
    write("Friday-Afternoon-DDos.csv", table(CIC, friday))
    got = get("cic-ids2017")
    rows = got.rows("train")
    assert list(rows[0]) == [
        "Destination Port",
        "Flow Duration",
        "Fwd Header Length",
        "Flow Bytes/s",
        "Fwd Header Length.1",
        "label",
    ]
    assert [row["Flow Bytes/s"] for row in rows] == ["", "NaN", "2.5", "3"]
    assert got.labels("train") == ["normal", "normal", "normal", "Web Attack \u2013 XSS"]
    assert got.labels("test") == ["DDoS", "normal"]
    assert got.left_out == {"the header again": 1, "no label": 1, "expected 6 columns, found 2": 1}
    assert [item.expected for item in got.prepared.left_out] == [True, True, False]


def test_cic_ids2017_addresses_and_times_of_the_other_archive_are_no_features(write: Write, get: Get) -> None:
    names = ["Flow ID", " Source IP", " Source Port", " Destination IP", " Timestamp", " Flow Duration", " Label"]
    write("Tuesday.csv", table(names, [["a-b", "1.1.1.1", 1, "2.2.2.2", "4/7/2017 8:54", 5, "BENIGN"]]))
    write("Friday.csv", table(names, [["a-b", "1.1.1.1", 1, "2.2.2.2", "7/7/2017 8:54", 5, "Bot"]]))
    got = get("cic-ids2017")
    assert list(got.rows("test")[0]) == ["Flow Duration", "label"]


def test_the_split_of_the_days_is_by_time_and_not_a_published_one(write: Write, get: Get) -> None:
    for day in ("Tuesday", "Friday"):
        write(f"{day}.csv", table(CIC, [[1, 5, 1, 3, 1, "BENIGN"]]))
    assert get("cic-ids2017").prepared.split == "by time, Monday to Thursday for learning, Friday for testing"
    assert get("cic-ids2017", split="time", overwrite=True).prepared.split.startswith("by time, Monday")
    with pytest.raises(UsageError, match="do not hold both sides of a published split"):
        get("cic-ids2017", split="published", overwrite=True)


def test_the_days_can_be_mixed(write: Write, get: Get) -> None:
    for day in ("Monday", "Friday"):
        write(f"{day}.csv", table(CIC, [[number, 5, 1, 3, 1, "BENIGN"] for number in range(20)]))
    got = get("cic-ids2017", split="random", test_share=0.5, seed=3)
    assert len(got.rows("test")) == 20
    assert got.prepared.split.startswith("random with seed 3")


def test_credit_card_is_divided_by_time(write: Write, get: Get) -> None:
    rows = [[9 - number, 0.5, 3, '"1"' if number == 0 else '"0"'] for number in range(10)]
    write("creditcard.csv", table(['"Time"', '"V1"', '"Amount"', '"Class"'], rows))
    got = get("creditcard")
    assert [row["time"] for row in got.rows("test")] == ["9", "8", "7"]
    assert got.labels("test") == ["fraud", "normal", "normal"]
    assert "time" in got.rows("train")[0]


def test_a_missing_label_column_is_named_with_the_columns_that_there_are(write: Write, get: Get) -> None:
    write("creditcard.csv", table(["Time", "V1", "Klass"], [[1, 2, 3]]))
    with pytest.raises(InputError, match=r"creditcard.csv: no column 'Class'; its columns are Time, V1, Klass"):
        get("creditcard")


def test_a_time_that_is_none_is_left_out_and_named(write: Write, get: Get) -> None:
    write("creditcard.csv", table(["Time", "Class"], [[1, 0], ["soon", 0], [3, 1]]))
    got = get("creditcard")
    assert got.left_out == {"no time in column 'Time'": 1}
    assert len(got.all_rows) == 2


def test_rows_of_one_moment_cannot_be_divided_by_time(write: Write, get: Get) -> None:
    write("creditcard.csv", table(["Time", "Class"], [[1, 0], [1, 1]]))
    with pytest.raises(UsageError, match="all records have the same time: use --split random"):
        get("creditcard")


def test_ieee_cis_tables_are_joined(write: Write, get: Get) -> None:
    head = ["TransactionID", "isFraud", "TransactionDT", "card4"]
    write("train_transaction.csv", table(head, [[7, 0, 1, "visa"], [8, 1, 2, "visa"], [9, 0, 3, "amex"]]))
    write("train_identity.csv", table(["TransactionID", "DeviceType"], [[9, "mobile"], [7, "desktop"]]))
    got = get("ieee-cis")
    assert [(row["card4"], row["DeviceType"], row["label"]) for row in got.all_rows] == [
        ("visa", "desktop", "normal"),
        ("visa", "", "fraud"),
        ("amex", "mobile", "normal"),
    ]
    assert list(got.all_rows[0]) == ["time", "card4", "DeviceType", "label"]


def test_ieee_cis_without_the_second_table_says_what_is_missing(write: Write, get: Get) -> None:
    write("train_transaction.csv", table(["TransactionID", "isFraud", "TransactionDT"], [[7, 0, 1]]))
    with pytest.raises(InputError, match=r"without joined \(train_identity.*found set/train_transaction.csv"):
        get("ieee-cis")


def test_mimic_patients_are_on_one_side_and_what_is_known_later_is_no_feature(write: Write, get: Get) -> None:
    names = "ROW_ID SUBJECT_ID HADM_ID ADMITTIME DISCHTIME DEATHTIME DISCHARGE_LOCATION DIAGNOSIS HOSPITAL_EXPIRE_FLAG"
    rows = [[n, n // 3, n, "2101", "2102", "", "HOME", f"d{n // 3}", int(n % 5 == 0)] for n in range(60)]
    write("ADMISSIONS.csv.gz", gzip.compress(table(names.split(), rows).encode()))
    got = get("mimic-iii")
    patients = {part: {row["DIAGNOSIS"] for row in got.rows(part)} for part in ("train", "test")}
    assert not patients["train"] & patients["test"]
    assert 9 <= len(got.rows("test")) <= 18
    assert list(got.rows("test")[0]) == ["DIAGNOSIS", "label"]
    assert set(got.labels("train")) == {"normal", "death"}


def test_no_shows(write: Write, get: Get) -> None:
    names = ["PatientId", "AppointmentID", "ScheduledDay", "AppointmentDay", "No-show"]
    scheduled = ["2016-05-01T12:00:00Z"] * 9 + ["soon"]
    rows = [
        [29872499824296.0, n, scheduled[n], f"2016-05-{n + 2:02}T00:00:00Z", "Yes" if n % 2 else "No"]
        for n in range(10)
    ]
    write("KaggleV2-May-2016.csv", table(names, rows))
    got = get("no-shows")
    assert got.labels("test") == ["no-show", "normal", "no-show"]
    assert got.rows("train")[0] == {
        "ScheduledDay_days_before": "0.50",
        "time": "2016-05-02T00:00:00Z",
        "label": "normal",
    }
    assert [row["ScheduledDay_days_before"] for row in got.rows("test")] == ["7.50", "8.50", ""]


@pytest.mark.parametrize("name", ["1000genome", "montage", "predict_future_sales"])
def test_workflows(name: str, write: Write, get: Get) -> None:
    write("validation.csv", "text,label\nwms_delay is 6.0 runtime is 8.0 ,0\nwms_delay is 9.0 runtime is nan ,1\n")
    write("test.csv", "text,label\nwms_delay is 1.0 runtime is 8.0 ,1\n")
    got = get(name)
    assert got.labels("train") == ["normal", "anomalous"]
    assert got.rows("test") == [{"text": "wms_delay is 1.0 runtime is 8.0 ", "label": "anomalous"}]


def test_the_files_to_read_are_never_overwritten(write: Write, get: Get, tmp_path: Path) -> None:
    write("train.csv", "text,label\na is 1 b is 2,0\n")
    write("test.csv", "text,label\na is 1 b is 2,1\n")
    with pytest.raises(UsageError, match="is one of the files to read"):
        get("montage", to=tmp_path / "set", overwrite=True)


def test_what_is_there_is_only_replaced_on_request(write: Write, get: Get) -> None:
    write("train.csv", "text,label\na is 1 b is 2,0\n")
    write("test.csv", "text,label\na is 1 b is 2,1\n")
    get("montage")
    with pytest.raises(UsageError, match="is there already: --overwrite"):
        get("montage")
    assert get("montage", overwrite=True).labels("test") == ["anomalous"]


def test_a_table_in_a_zip_in_the_folder(write: Write, get: Get, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with zipfile.ZipFile(tmp_path / "set" / "creditcardfraud.zip", "w") as archive:
        archive.writestr("creditcard.csv", table(["Time", "V1", "Class"], [[1, 2, 0], [2, 2, 1]]))
    assert get("creditcard").labels("test") == ["fraud"]
    assert get("creditcard", tmp_path / "set" / "creditcardfraud.zip", to=tmp_path / "b").labels("train") == ["normal"]


def test_a_single_table_may_have_any_name(write: Write, get: Get) -> None:
    path = write("card payments 2013.csv", table(["Time", "V1", "Class"], [[1, 2, 0], [2, 2, 1]]))
    assert get("creditcard", path).labels("test") == ["fraud"]


def test_other_files_are_named(write: Write, get: Get) -> None:
    write("payments.csv", "a,b\n1,2\n")
    with pytest.raises(InputError, match=r"expected creditcard.csv with columns .*; found set/payments.csv"):
        get("creditcard")


def test_an_empty_file_and_one_with_only_a_header(write: Write, get: Get) -> None:
    path = write("creditcard.csv", "")
    with pytest.raises(InputError, match=r"creditcard.csv: is empty"):
        get("creditcard")
    path.write_text("Time,V1,Class\n")
    with pytest.raises(InputError, match="no record of creditcard could be read"):
        get("creditcard")


def test_label_values_of_the_users_choice(write: Write, get: Get) -> None:
    rows = [[*connection(attack), 1] for attack in ("normal", "neptune", "smurf")]
    write("KDDTrain+.txt", table(None, rows))
    write("KDDTest+.txt", table(None, rows))
    assert get("nsl-kdd", anomalous=("smurf",)).labels("train") == ["normal", "normal", "smurf"]
    with pytest.raises(UsageError, match="no record has the label 'smurv'; the labels are neptune, normal, smurf"):
        get("nsl-kdd", anomalous=("smurv",), overwrite=True)


def test_an_anomalous_value_that_learn_takes_for_normal_gets_another_name(write: Write, get: Get) -> None:
    rows = [[*connection("normal"), 1], [*connection("smurf"), 1]]
    write("KDDTrain+.txt", table(None, rows))
    write("KDDTest+.txt", table(None, rows))
    assert get("nsl-kdd", anomalous=("normal",)).labels("train") == ["class normal", "normal"]


def test_at_most_so_many_rows_of_each_file(write: Write, get: Get) -> None:
    write("KDDTrain+.txt", table(None, [[*connection("normal", duration=n), 1] for n in range(50)]))
    write("KDDTest+.txt", table(None, [[*connection("back", duration=n), 1] for n in range(3)]))
    got = get("nsl-kdd", rows=5)
    assert (len(got.rows("train")), len(got.rows("test"))) == (5, 3)
    again = get("nsl-kdd", rows=5, overwrite=True)
    assert again.rows("train") == got.rows("train")
    assert "at most 5 of each file" in got.prepared.split


def test_line_ends_of_windows_and_files_of_macos(write: Write, get: Get, tmp_path: Path) -> None:
    content = table(["Time", "V1", "Class"], [[1, 2, 0], [2, 2, 1], [3, 1, 1]]).replace("\n", "\r\n")
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("__MACOSX/data/._creditcard.csv", "not a table")
        out.writestr("data/creditcard.csv", content)
    assert [row["V1"] for row in get("creditcard", archive).all_rows] == ["2", "2", "1"]
    assert get("creditcard", archive, overwrite=True).left_out == {}


def test_a_folder_that_cannot_be_written_to(write: Write, get: Get, tmp_path: Path) -> None:
    path = write("creditcard.csv", table(["Time", "V1", "Class"], [[1, 2, 0], [2, 2, 1]]))
    with pytest.raises(UsageError, match="is no folder: name another one"):
        get("creditcard", to=path)
    with pytest.raises(UsageError, match=r"cannot be written: Not a directory"):
        get("creditcard", to=path / "below")


def test_nothing_half_written_is_left_where_reading_fails_later(write: Write, get: Get, tmp_path: Path) -> None:
    write("Monday.csv", table(CIC, [[1, 1, 1, 1, 1, "BENIGN"]]))
    write("Friday.csv", table(CIC[:-1], [[1, 1, 1, 1, 1]]))
    with pytest.raises(InputError, match=r"set/Friday.csv: no column 'Label'; its columns are Destination Port, Flow"):
        get("cic-ids2017")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rows", [3, 1])
def test_a_file_that_changes_while_it_is_read(rows: int, write: Write, get: Get, tmp_path: Path) -> None:
    path = write("creditcard.csv", table(["Time", "Class"], [[1, 0], [2, 1]]))
    changed = table(["Time", "Class"], [[number, 0] for number in range(rows)])
    with pytest.raises(InputError, match="have changed while they were read"):
        get("creditcard", progress=lambda task, *_: path.write_text(changed) if task == "split" else None)
    assert not list((tmp_path / "out").iterdir())
