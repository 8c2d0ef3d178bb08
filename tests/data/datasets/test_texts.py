"""Texts and logs: labels before the lines, mails in folders."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.errors import InputError, UsageError

from .conftest import Got, Write

Get = Callable[..., Got]
ALERT = "KERNDTLB 1117838573 2005.06.03 R02-M1 2005-06-03-15.42.53 R02-M1 RAS KERNEL FATAL data TLB error interrupt"


def bgl(number: int, label: str = "-") -> str:
    return f"{label} {1117838570 + number} 2005.06.03 R02 RAS KERNEL INFO generating core.{number}"


@pytest.mark.parametrize(("name", "file"), [("bgl", "BGL.log"), ("thunderbird", "Thunderbird_10M.log")])
def test_logs_with_the_label_before_each_line(name: str, file: str, write: Write, get: Get) -> None:
    lines = [bgl(0), ALERT, *(bgl(number) for number in range(3, 9)), bgl(9, "APPREAD"), bgl(10)]
    write(file, "\n".join(lines) + "\n\n")
    got = get(name)
    assert got.labels("train") == ["normal", "KERNDTLB", *["normal"] * 5]
    assert got.labels("test") == ["normal", "APPREAD", "normal"]
    row = got.rows("train")[1]
    assert row["text"] == ALERT.removeprefix("KERNDTLB ")
    assert row["time"] == "1117838573"
    assert got.prepared.split == "by time, the last 30% for testing"


def test_lines_without_a_label_are_left_out(write: Write, get: Get) -> None:
    write("BGL.log", "\n".join([bgl(1), "continued here", bgl(2)]))
    assert get("bgl").left_out == {"word 2 of the line is no time in seconds": 1}


@pytest.mark.parametrize(
    "line",
    [
        "Jun 14 15:16:01 combo sshd: authentication failure",
        "081109 203518 143 INFO dfs.DataNode$DataXceiver: Receiving block blk_1",
        "word",
    ],
)
def test_a_log_without_labels_is_refused(line: str, write: Write, get: Get) -> None:
    write("BGL.log", f"{line}\n{line}\n")
    with pytest.raises(InputError, match=rf"BGL.log: has no labelled lines: .*: '{line[:12]}"):
        get("bgl")


def test_the_structured_table_of_bgl(write: Write, get: Get) -> None:
    header = "LineId,Label,Timestamp,Content,EventId\n"
    write("BGL_2k.log_structured.csv", header + '1,-,1,"a, b",E1\n2,APPSEV,2,ciod: lost,E2\n3,-,3,c,E3\n4,-,4,d,E4\n')
    got = get("bgl")
    assert got.rows("train") == [
        {"text": "a, b", "label": "normal"},
        {"text": "ciod: lost", "label": "APPSEV"},
    ]


def test_sms_has_tabs_and_each_label_is_on_both_sides(write: Write, get: Get) -> None:
    lines = [f"ham\tsee you at {n}" for n in range(10)] + ["spam\tWIN \x93now\x94", "spam\tWIN a prize"]
    write("SMSSpamCollection", "\n".join(lines).encode("latin-1"))
    got = get("sms")
    assert sorted(got.labels("test")) == ["normal"] * 3 + ["spam"]
    texts = {row["text"] for row in got.all_rows}
    assert "WIN \u201cnow\u201d" in texts
    assert len(texts) == 12


def test_sms_with_other_labels_is_refused(write: Write, get: Get) -> None:
    write("SMSSpamCollection", "good\thello\n")
    with pytest.raises(InputError, match="does not begin with ham or spam: 'good"):
        get("sms")


def test_the_table_of_sms(write: Write, get: Get) -> None:
    write("spam.csv", 'v1,v2,,,\nham,"Ok, lar",,,\nham,yes,,,\nspam,Free \xa3,,,\nspam,Free,,,\n'.encode("latin-1"))
    got = get("sms")
    assert {row["text"] for row in got.all_rows} == {"Ok, lar", "yes", "Free £", "Free"}
    assert {*got.all_rows[0]} == {"text", "label"}


def test_sms_has_no_time_to_divide_it_by(write: Write, get: Get) -> None:
    write("SMSSpamCollection", "ham\thello\nspam\twin\n")
    with pytest.raises(UsageError, match="no time to divide them by"):
        get("sms", split="time")


POST = "From: a@b.c\nNewsgroups: {group}\nSubject: Re: {subject}\nDate: 5 Apr 93\n\n{body}\n"


def newsgroups(write: Write) -> None:
    for part in ("train", "test"):
        for group in ("sci.med", "talk.politics.guns", "comp.os.ms-windows.misc"):
            post = POST.format(group=group, subject=f"{part} {group[:4]}", body="text \xe9")
            write(f"20news-bydate-{part}/{group}/{len(group)}", post.encode("latin-1"))


def test_newsgroups_have_the_published_split_and_no_header(write: Write, get: Get) -> None:
    newsgroups(write)
    got = get("20newsgroups")
    assert sorted(got.labels("train")) == ["normal", "normal", "talk.politics.guns"]
    assert {row["text"] for row in got.rows("test")} == {
        f"Re: test {group}\ntext é" for group in ("sci.", "talk", "comp")
    }
    assert got.prepared.split == "the published split"
    assert "the list of 6 files" not in got.prepared.inputs[0].file


def test_another_newsgroup_can_be_anomalous(write: Write, get: Get) -> None:
    newsgroups(write)
    assert sorted(get("20newsgroups", anomalous=("sci.med",)).labels("test")) == ["normal", "normal", "sci.med"]
    with pytest.raises(UsageError, match=r"no record has the label 'sci.medicine'; the labels are comp"):
        get("20newsgroups", anomalous=("sci.medicine",), overwrite=True)


def test_newsgroups_in_their_archive(write: Write, get: Get, tmp_path: Path) -> None:
    newsgroups(write)
    archive = tmp_path / "20news-bydate.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted((tmp_path / "set").rglob("*")):
            tar.add(path, path.relative_to(tmp_path / "set"), recursive=False)
    got = get("20newsgroups", archive)
    assert len(got.rows("test")) == 3
    (digest,) = got.prepared.inputs
    assert digest.file == "20news-bydate.tar.gz"
    assert digest.recorded.startswith("differs from the recorded 8f1b2514")


def test_newsgroups_without_the_split_are_divided_at_random(write: Write, get: Get) -> None:
    for group in ("sci.med", "talk.politics.guns"):
        for number in range(10):
            write(f"20_newsgroups/{group}/{number}", POST.format(group=group, subject=number, body="b"))
    got = get("20newsgroups")
    assert sorted(got.labels("test")) == ["normal"] * 3 + ["talk.politics.guns"] * 3
    assert "do not show a split: random with seed 0" in got.prepared.split
    assert got.prepared.inputs[0].file.startswith("the list of 20 files")


def test_enron_has_no_labels(write: Write, get: Get) -> None:
    mail = "Date: Mon, 14 May 2001 16:39:00 -0700 (PDT)\nSubject: forecast\nX-Folder: x\n\nHere is our forecast\n"
    write("maildir/allen-p/_sent_mail/1.", mail)
    write("maildir/allen-p/inbox/all/2.", "Date: nonsense\n\n")
    got = get("enron")
    assert got.rows("records") == [{"time": "2001-05-14T23:39:00+00:00", "text": "forecast\nHere is our forecast"}]
    assert got.left_out == {"the text is empty": 1}
    assert got.prepared.commands == (f"precedent judge {got.prepared.files[0].path}",)
    with pytest.raises(UsageError, match="--anomalous is for sets with label values"):
        get("enron", anomalous=("x",), overwrite=True)


def test_enron_spam_in_several_archives(write: Write, get: Get, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for number in (1, 2):
        with tarfile.open(tmp_path / "set" / f"enron{number}.tar.gz", "w:gz") as tar:
            for label in ("ham", "spam"):
                data = f"Subject: {label} {number}\nbody".encode()
                info = tarfile.TarInfo(f"enron{number}/{label}/000{number}.{label}.txt")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    got = get("enron-spam", test_share=0.5)
    assert sorted(got.labels("train")) == ["normal", "spam"]
    assert {row["text"].split("\n")[0] for row in got.all_rows} == {"ham 1", "ham 2", "spam 1", "spam 2"}
