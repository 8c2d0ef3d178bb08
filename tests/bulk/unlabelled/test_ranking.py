"""Files without labels: what an operator should look at comes first, as events; nothing is labelled."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent.bulk.unlabelled.models import Event, Ranking
from agent.bulk.unlabelled.patterns import find_patterns
from agent.bulk.unlabelled.ranking import rank_templates
from agent.bulk.unlabelled.severity import error_words, level, status_severity
from agent.bulk.unlabelled.show import note, sparkline, write_page
from agent.bulk.unlabelled.times import TimeReader
from agent.core.errors import InputError
from agent.data.read_options import ReadOptions
from retrieval.text.masking import mask

START = datetime(2026, 3, 1, 8)


def at(second: float, text: str) -> str:
    return f"{START + timedelta(seconds=second):%b %d %H:%M:%S} gate {text}"


def quiet_lines(count: int, step: float = 2.0) -> list[tuple[float, str]]:
    rng = random.Random(7)
    kinds: Sequence[Callable[[], str]] = (
        lambda: f"cron[{rng.randint(100, 9_999)}]: job {rng.randint(1, 9)} done in {rng.randint(1, 99)} ms",
        lambda: f"proxy: served /page/{rng.randint(1, 500)} to 10.0.0.{rng.randint(1, 20)} in {rng.randint(1, 99)} ms",
        lambda: f"disk: usage of volume {rng.randint(1, 4)} is {rng.randint(10, 60)} percent",
    )
    return [(number * step, rng.choice(kinds)()) for number in range(count)]


def write(path: Path, lines: Sequence[tuple[float, str]]) -> str:
    path.write_text("".join(f"{at(*line)}\n" for line in sorted(lines)))
    return str(path)


def rank(*paths: str, **options: object) -> Ranking:
    return rank_templates(paths, ReadOptions(), **options)  # type: ignore[arg-type]


def find(ranking: Ranking, words: str) -> Event:
    return next(event for event in ranking.events if words in event.example.text)


@pytest.fixture
def gate(tmp_path: Path) -> Ranking:
    lines = quiet_lines(900)
    users = ["root", "admin", "oracle", "guest", "backup", "jane"]
    lines += [
        (700 + n * 0.5, f"login[{n + 40}]: Wrong secret for {users[n % 6]} from 203.0.113.{5 if n % 4 else 9} port {n}")
        for n in range(120)
    ]
    lines += [(1_200 + n * 0.01, f"boot: {word} unit ready") for n, word in enumerate("abcdefghijkl")]
    lines += [(1_200 + n * 0.01, f"{word}{word}: begins now") for n, word in enumerate(["net", "usb", "gpu"])]
    lines += [(1_500, "login[9]: Access granted for jane from 203.0.113.5 port 77")]
    return rank(write(tmp_path / "gate.log", lines))


def test_repeated_failures_of_addresses_are_one_event(gate: Ranking) -> None:
    event = find(gate, "Wrong secret")
    assert event.rank <= 3
    assert event.records == event.count == 120
    by_name = {parameter.name: parameter for parameter in event.parameters}
    assert by_name["address"].top == (("203.0.113.5", 90), ("203.0.113.9", 30))
    assert by_name["for"].distinct == 6
    assert any("burst" in reason for reason in event.reasons)
    assert any("2 addresses, 75% from 203.0.113.5" in reason for reason in event.reasons)


def test_one_rare_line_is_before_what_is_usual(gate: Ranking) -> None:
    rare, usual = find(gate, "Access granted"), find(gate, "served /page")
    assert rare.rank < usual.rank
    assert rare.rank <= 5
    assert "rare: 1 of" in " ".join(rare.reasons)


def test_a_start_is_one_event(gate: Ranking) -> None:
    starts = [event for event in gate.events if "boot:" in event.example.text or "begins now" in event.example.text]
    assert len(starts) <= 2, [event.example.text for event in starts]


def test_events_have_places_times_counts_and_context(gate: Ranking) -> None:
    event = find(gate, "Wrong secret")
    assert event.first.time == "03-01 08:11:40"
    assert event.example.line == event.first.line
    assert sum(event.counts) == 120
    assert sum(1 for count in event.counts if count) <= 3, "they are within a minute of half an hour"
    assert [near.line for near in event.context] == list(range(event.first.line - 2, event.first.line + 3))
    assert event.context[2].text == event.example.text
    assert [event.rank for event in gate.events] == list(range(1, len(gate.events) + 1))


def test_nothing_is_labelled(gate: Ranking) -> None:
    assert not {"label", "probability", "verdict"} & set(gate.events[0].model_dump())


def test_levels_decide_where_lines_have_them(tmp_path: Path) -> None:
    lines = [f"2026-03-01 08:{n // 60:02d}:{n % 60:02d} INFO unit {n % 7} polled" for n in range(600)]
    lines[300:300] = ["2026-03-01 08:05:00 ERROR unit 4 lost its lease"] * 3
    lines[100:100] = ["2026-03-01 08:01:40 INFO operator opened the panel"]
    path = tmp_path / "a.log"
    path.write_text("\n".join(lines))
    first = rank(str(path)).events[0]
    assert "lost its lease" in first.example.text
    assert first.level == "ERROR"
    assert "level ERROR" in first.reasons


def test_against_older_files_what_is_new_comes_first(tmp_path: Path) -> None:
    error = [(n * 20.0, f"disk: write error on volume {n % 3}") for n in range(60)]
    old = write(tmp_path / "old.log", quiet_lines(900) + error)
    new = write(
        tmp_path / "new.log", quiet_lines(900) + error + [(n * 30.0, "proxy: reloaded routes") for n in range(50)]
    )
    alone, compared = rank(new), rank(new, against=[old])
    assert find(alone, "write error").rank < find(alone, "reloaded").rank
    assert "reloaded routes" in compared.events[0].example.text
    assert "not in the older files" in compared.events[0].reasons
    assert compared.against == (old,)


def test_what_an_older_file_had_far_less_of_is_more_often(tmp_path: Path) -> None:
    few = [(n * 200.0, f"proxy: retry {n}") for n in range(5)]
    many = [(n * 3.0, f"proxy: retry {n}") for n in range(300)]
    old, new = write(tmp_path / "o.log", quiet_lines(900) + few), write(tmp_path / "n.log", quiet_lines(900) + many)
    first = rank(new, against=[old]).events[0]
    assert "retry" in first.example.text
    assert "more often than in the older files" in first.reasons


def test_a_status_of_failure_is_not_masked_away(tmp_path: Path) -> None:
    rng = random.Random(3)
    lines = [
        f'192.0.2.{rng.randint(1, 200)} - - [01/Mar/2026:08:{n // 60:02d}:{n % 60:02d} +0000] "GET /item/{n} HTTP/1.1" '
        f"{503 if n in (77, 78, 400) else rng.choice([200, 200, 200, 304])} {rng.randint(100, 9_999)}"
        for n in range(500)
    ]
    path = tmp_path / "access.txt"
    path.write_text("\n".join(lines))
    first = rank(str(path)).events[0]
    assert " 503 " in first.example.text
    assert first.count == 3
    assert "a status of failure" in first.reasons


def test_tables_with_messages_and_levels(tmp_path: Path) -> None:
    rows = ["time,level,host,message"]
    rows += [f"2026-03-01 08:00:{n % 60:02d},info,web{n % 3},request number {n} was served well" for n in range(300)]
    rows.insert(200, "2026-03-01 08:01:00,critical,web1,the store gave no answer in time")
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows))
    ranking = rank(str(path))
    assert "gave no answer" in ranking.events[0].example.text
    assert ranking.events[0].level == "critical"
    assert ranking.records == 301


def test_entries_over_several_lines_are_one_record(tmp_path: Path) -> None:
    lines = [f"2026-03-01 08:{n // 60:02d}:{n % 60:02d} INFO unit {n % 7} polled" for n in range(600)]
    trace = "Traceback (most recent call last):\n  File 'a.py', line 3\nKeyError: 'x'"
    lines.insert(350, f"2026-03-01 08:05:50 ERROR job 3 ended\n{trace}")
    path = tmp_path / "a.log"
    path.write_text("\n".join(lines))
    ranking = rank(str(path))
    assert ranking.records == 601
    assert "Traceback" in ranking.events[0].example.text


def test_lines_with_a_word_before_their_time_are_records(tmp_path: Path) -> None:
    lines = [f"- 2026-03-01 08:{n // 60:02d}:{n % 60:02d} unit {n % 7} polled" for n in range(600)]
    lines[300:300] = ["LEASE 2026-03-01 08:05:00 unit 4 has no lease now"]
    path = tmp_path / "a.log"
    path.write_text("\n".join(lines))
    ranking = rank(str(path))
    assert ranking.records == 601
    assert ranking.events[0].example.text.startswith("LEASE")


def test_several_files_in_the_order_of_their_times(tmp_path: Path) -> None:
    lines = sorted(quiet_lines(600))
    (tmp_path / "app.log.1").write_text("".join(f"{at(*line)}\n" for line in lines[:300]))
    with gzip.open(tmp_path / "app.log.gz", "wt") as packed:
        packed.write("".join(f"{at(*line)}\n" for line in [*lines[300:], (1_199.5, "disk: volume 9 failed")]))
    ranking = rank(str(tmp_path / "app.log.gz"), str(tmp_path / "app.log.1"))
    event = ranking.events[0]
    assert "volume 9 failed" in event.example.text
    assert event.counts[-1] == 1
    assert event.first.file.endswith("app.log.gz")
    assert event.context


@pytest.mark.parametrize(
    "text", ["one line only\n", "same\n" * 50, "\n\nalpha beta 1\n\x00 beta 2\n", "ünïcode wörds 5\n" * 3]
)
def test_odd_files_are_ranked(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.log"
    path.write_text(text)
    ranking = rank(str(path))
    assert (
        sum(event.records for event in ranking.events)
        == ranking.records
        == sum(1 for line in text.split("\n") if line.strip())
    )


def test_nothing_to_rank_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "blank.log"
    path.write_text("\n\n \n")
    with pytest.raises(InputError, match="no records"):
        rank(str(path))


def test_a_page_escapes_what_records_hold(tmp_path: Path) -> None:
    path = tmp_path / "evil.log"
    path.write_text("<script>alert(1)</script> error in unit 4\n" + "all is well 5\n" * 9)
    page = tmp_path / "page.html"
    write_page(rank(str(path)), page)
    html = page.read_text()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "Nothing here is labelled" in html


def test_numbers_of_rows_are_said_not_to_be_compared(tmp_path: Path) -> None:
    table, log = tmp_path / "t.csv", tmp_path / "a.jsonl"
    table.write_text("load,host\n" + "".join(f"{i % 7}.5,web{i % 3}\n" for i in range(40)))
    log.write_text("".join(f'{{"took": {i}, "msg": "request {i} is served in time"}}\n' for i in range(40)))
    assert "Numbers of rows are not compared here" in note(rank(str(table)))
    assert "Numbers" not in note(rank(str(log)))


def patterns(*texts: str) -> list[str]:
    return [pattern.text for pattern in find_patterns(list(map(mask, texts)))]


def test_names_are_parameters_and_verbs_are_not() -> None:
    found = patterns(
        *(f"session opened for user {name} by root" for name in ("ann", "bob", "cyd", "dee")),
        *(f"session closed for user {name} by root" for name in ("ann", "bob", "cyd", "dee")),
    )
    assert found == ["session opened for user <*> by root", "session closed for user <*> by root"]


def test_a_failure_is_not_a_parameter() -> None:
    found = patterns(*(f"the backup of volume home {word}" for word in ("started", "ended", "waits", "failed")))
    assert "the backup of volume home failed" in found


def test_two_places_that_vary_together_are_parameters() -> None:
    pairs = [("ann", "mars"), ("bob", "venus"), ("cyd", "pluto"), ("dee", "earth")]
    assert patterns(*(f"user {user} logged in at host {host} today" for user, host in pairs)) == [
        "user <*> logged in at host <*> today"
    ]


def test_many_texts_that_vary_in_several_places() -> None:
    rng = random.Random(5)
    word = lambda: "".join(rng.choices("abcdefghij", k=7))  # noqa: E731
    assert patterns(*(f"app {word()} did {word()} with {word()} again" for _ in range(3_000))) == [
        "app <*> did <*> with <*> again"
    ]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("2026-03-01T08:00:01.500Z x", 1.5),
        ("2026-03-01 10:00:01,500 +02:00 x", 1.5),
        ("[Sun Mar 01 08:00:01 2026] [error] x", 1),
        ('1.2.3.4 - - [01/Mar/2026:08:00:01 +0000] "GET', 1),
        ("26/03/01 08:00:01 INFO x", 1),
        ("260301 080001 148 INFO x", 1),
        ("20260301-8:0:1:606|x", None),
        ("20260301-08:00:01:606|x", 1.606),
        ("1772352001.25 x", 1.25),
        ('{"ts": 1772352001250}', 1.25),
        ("no time here 12", None),
    ],
)
def test_notations_of_times(line: str, seconds: float | None) -> None:
    read = TimeReader().read([line])[0]
    start = datetime.fromisoformat("2026-03-01T08:00:00+00:00").timestamp()
    assert read == (None if seconds is None else pytest.approx(start + seconds, abs=1e-6))


def test_levels_words_and_statuses() -> None:
    assert level("2016-09-28 04:30:30, Info   CBS  Loaded") == ("Info", 0.0)
    assert level("03-17 16:13:38.811  1702  2395 E WindowManager: x") == ("E", 0.9)
    assert level("W0301 08:00:00.1 1 node.go:5] slow") == ("W", 0.6)
    assert level("level=warning msg=x") == ("warning", 0.6)
    assert level("the error of an operator") is None
    assert error_words("timed out, giving up") == 1
    assert error_words("finished without errors, error=null") == 0
    assert error_words("session with timeout 10000") == 0
    assert status_severity("exited with code 137") == 0.5


def test_bars() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "  "
    assert sparkline([0, 1, 100]) == " ▁█"
