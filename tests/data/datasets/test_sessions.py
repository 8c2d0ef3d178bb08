"""HDFS in its four layouts."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from agent.core.errors import InputError

from .conftest import Got, Write, table

Get = Callable[..., Got]


def line(second: int, text: str) -> str:
    return f"081109 2035{second:02} 143 INFO dfs.DataNode$DataXceiver: {text}\n"


def test_the_lines_of_a_block_are_a_session(write: Write, get: Get) -> None:
    log = line(1, "Receiving block blk_1 src: /10.250.19.102:54106 dest: /10.250.19.102:50010")
    log += line(2, "Receiving block blk_-2 src: /10.250.10.6:40524 dest: /10.250.10.6:50010")
    log += line(3, "PacketResponder 1 for block blk_1 terminating")
    log += line(4, "BLOCK* ask 10.250.14.38:50010 to delete blk_-2 blk_3") + line(5, "Verification succeeded")
    log += "\tat java.lang.Thread.run(Thread.java:619)\n" + line(6, "Received block blk_9 of size 4")
    write("HDFS.log", log)
    write(
        "anomaly_label.csv",
        table(["BlockId", "Label"], [["blk_3", "Normal"], ["blk_1", "Normal"], ["blk_-2", "Anomaly"]]),
    )
    got = get("hdfs", test_share=0.4)
    assert [(row["id"], row["label"]) for row in got.rows("train")] == [("blk_1", "normal")]
    assert [(row["id"], row["label"]) for row in got.rows("test")] == [("blk_-2", "anomalous"), ("blk_3", "normal")]
    (first,) = got.rows("train")
    assert len(first["events"]) == 2
    assert first["events"][0] == got.rows("test")[0]["events"][0], "the same event of another block is the same text"
    assert "10.250" not in json.dumps(first)
    assert "54106" not in json.dumps(first)
    assert got.left_out == {"the line names no block": 1, "not a line of HDFS": 1, "no label for the block": 1}


def test_the_raw_log_needs_its_labels(write: Write, get: Get) -> None:
    write("HDFS.log", line(1, "Receiving block blk_1"))
    with pytest.raises(InputError, match=r"without labels \(anomaly_label"):
        get("hdfs")
    write("anomaly_label.csv", "Block,Label\nblk_1,Normal\n")
    with pytest.raises(InputError, match=r"anomaly_label.csv: no column 'BlockId'; its columns are Block, Label"):
        get("hdfs")


def test_a_log_that_is_not_hdfs(write: Write, get: Get) -> None:
    write("HDFS.log", "Jun 14 combo sshd\n")
    write("anomaly_label.csv", "BlockId,Label\nblk_1,Normal\n")
    with pytest.raises(InputError, match=r"HDFS.log: has no line that names a block"):
        get("hdfs")


def test_event_traces(write: Write, get: Get) -> None:
    rows = [f'blk_{n},{"Fail" if n == 2 else "Success"},,"[E5,E22,E5]","[0.0, 1.0]",3\n' for n in range(1, 5)]
    write("Event_traces.csv", "BlockId,Label,Type,Features,TimeInterval,Latency\n" + "".join(rows))
    got = get("hdfs", test_share=0.5)
    assert got.rows("train")[1] == {"id": "blk_2", "events": ["E5", "E22", "E5"], "label": "anomalous"}
    assert got.labels("test") == ["normal", "normal"]


def test_event_numbers_by_file(write: Write, get: Get) -> None:
    write("hdfs_train", "5 5 22 \n22 5\n")
    write("hdfs_test_normal", "5 22\n")
    write("hdfs_test_abnormal", "5 5 x\n\n5 20\n")
    got = get("hdfs")
    assert got.labels("train") == ["normal", "normal"]
    assert [(row["events"], row["label"]) for row in got.rows("test")] == [
        (["5", "22"], "normal"),
        (["5", "20"], "anomalous"),
    ]
    assert got.left_out == {"not a line of event numbers": 1}


def test_event_numbers_without_the_normal_test_file_say_so(write: Write, get: Get) -> None:
    write("hdfs_train", "5 5 22 \n22 5\n")
    write("hdfs_test_abnormal", "5 20\n")
    notes = get("hdfs").prepared.notes
    assert notes == ("train.jsonl has no anomalous records", "test.jsonl has no normal records")


def test_json_lines(write: Write, get: Get) -> None:
    write("train.jsonl", '{"id": "a", "events": ["x", "y"], "label": 0}\nnot json\n{"id": "b", "events": []}\n')
    write("test.jsonl", '{"id": "c", "events": ["x"], "label": 1}\n{"id": "d", "events": ["x"]}\n7\n')
    got = get("hdfs")
    assert got.rows("train") == [{"id": "a", "events": ["x", "y"], "label": "normal"}]
    assert got.rows("test") == [{"id": "c", "events": ["x"], "label": "anomalous"}]
    assert got.left_out == {"not JSON": 1, "no events": 2, "no label": 1}
