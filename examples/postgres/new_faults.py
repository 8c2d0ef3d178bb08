"""The faults that happen only in the part to be judged: nothing like them was there to learn from."""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from pathlib import Path
from random import Random

from .cluster import ACCESS_RULES, Cluster, RecorderError
from .faults import Fault, must_be_refused, must_fail

_PAGE = 8192
_RUNAWAY = (
    "SELECT l.*, g FROM order_lines l, generate_series(1, 60) g ORDER BY l.note, g DESC",
    "SELECT DISTINCT l.note || g FROM order_lines l, generate_series(1, 60) g",
    "SELECT row_number() OVER (ORDER BY l.note, g) FROM order_lines l, generate_series(1, 60) g",
    "SELECT count(*) FROM (SELECT o.city || g k FROM orders o, generate_series(1, 250) g ORDER BY k) q",
)
_STARTUP = struct.pack(">II", 8 + 24, 196608) + b"user\0shop_web\0database\0x\0\0\0"
_GARBAGE = (
    b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x5a" * 64,
    b"SSH-2.0-OpenSSH_9.2\r\n",
    struct.pack(">II", 8, 0x00FF00FF),
    struct.pack(">II", 9, 0x00070005) + b"\0",
    struct.pack(">II", 8, 196608),
    struct.pack(">II", 20, 196608) + b"user\0shop_we",
    struct.pack(">II", 9, 196608) + b"\0",
    b"\x00\x00\x00\x04",
    b"\x03\x00\x00",
)
_BAD_SETTINGS = (
    "work_mem = 'plenty'\n",
    "shared_bufers = '64MB'\n",
    "autovacuum_naptime = 0\nmax_wal_size = '-1'\n",
    "log_min_messages = chatty\ncheckpoint_timeout = 5\n",
    "random_page_cost = = 2\n",
)
_BAD_RULES = (
    "host shop all 127.0.0.1/32 scram-sha256\n",
    "host shop all 127.0.0.1/99 md5\n",
    "hots shop all 127.0.0.1/32 md5\n",
)


def page_corruption(cluster: Cluster, rng: Random) -> None:
    """Bits on the disk change under a table; its checksums tell."""
    with cluster.admin() as admin:
        admin.execute("VACUUM FULL price_history")
        admin.execute("CHECKPOINT")
    file = _file_of(cluster, "price_history")
    whole = file.read_bytes()
    with file.open("r+b") as raw:
        for page in (0, 3, 5):
            raw.seek(page * _PAGE + rng.randint(200, 4000))
            raw.write(rng.randbytes(40))
    try:
        with cluster.connect("shop_owner", app="pricing") as owner:
            for query in (
                "SELECT avg(price) FROM price_history",
                "SELECT price FROM price_history WHERE product = 17 ORDER BY since DESC",
                "SELECT product FROM price_history WHERE ctid = '(3,1)'",
                "UPDATE price_history SET price = price * 1.1 WHERE ctid = '(5,2)'",
            ):
                must_fail(owner, query)
    finally:
        with file.open("r+b") as raw:
            raw.write(whole)


def lost_relation_file(cluster: Cluster, rng: Random) -> None:
    """The file of a table, and the file of an index, are not there any more."""
    with cluster.admin() as admin:
        admin.execute("CHECKPOINT")
    for relation, queries in (
        (
            "shipments",
            ("SELECT count(*) FROM shipments", "UPDATE shipments SET state = 'sent' WHERE id = 12"),
        ),
        (
            "shipments_order_id",
            ("SELECT state FROM shipments WHERE order_id = 40", "SELECT max(id) FROM shipments"),
        ),
    ):
        file = _file_of(cluster, relation)
        away = file.with_name(file.name + ".away")
        file.rename(away)
        try:
            with cluster.connect("shop_owner", app="shipping") as owner:
                for query in queries:
                    must_fail(owner, query)
        finally:
            away.rename(file)


def memory_exhausted(cluster: Cluster, rng: Random) -> None:
    """Requests that the server has no memory for: one session's, and the one all sessions share."""
    with cluster.connect("analyst", app="notebook") as analyst:
        for query in (
            "SELECT string_agg(repeat(repeat(city, 25000), 5400), '') FROM orders WHERE city = 'Graz' AND id < 90",
            "SELECT repeat(repeat('shop', 25000), 5400) || repeat(repeat('shop', 25000), 5400)",
            f"SELECT array_fill(0, ARRAY[{rng.randint(200, 400)}000000])",
            f"SELECT pg_advisory_xact_lock(n) FROM generate_series(1, {rng.randint(60, 90)}000) n",
        ):
            must_fail(analyst, query)


def temp_limit(cluster: Cluster, rng: Random) -> None:
    """Queries that sort more than the temporary files may hold."""
    with cluster.connect("analyst", app="notebook") as analyst:
        for query in rng.sample(_RUNAWAY, 3):
            must_fail(analyst, query)


def idle_transaction(cluster: Cluster, rng: Random) -> None:
    """Sessions that open a transaction and then forget it."""
    limit = "-c idle_in_transaction_session_timeout=200ms"
    sessions = [cluster.connect("shop_web", app="web-7", options=limit, autocommit=False) for _ in range(5)]
    for session in sessions:
        session.execute("SELECT price FROM products WHERE id = %s", (rng.randint(1, 2000),))
    time.sleep(0.6)
    for session in sessions:
        session.close()


def serialization_failure(cluster: Cluster, rng: Random) -> None:
    """Transactions that cannot be put in an order."""
    repeatable = "-c default_transaction_isolation=repeatable\\ read"
    serializable = "-c default_transaction_isolation=serializable"
    for _ in range(3):
        wallet = rng.randint(1, 200)
        with (
            cluster.connect("shop_worker", app="worker-6", options=repeatable, autocommit=False) as one,
            cluster.connect("shop_worker", app="worker-7", options=repeatable) as two,
        ):
            one.execute("SELECT balance FROM wallet WHERE id = %s", (wallet,))
            two.execute("UPDATE wallet SET balance = balance + 1 WHERE id = %s", (wallet,))
            must_fail(one, f"UPDATE wallet SET balance = balance * 2 WHERE id = {wallet}")
    for _ in range(2):
        with (
            cluster.connect("shop_worker", app="worker-6", options=serializable, autocommit=False) as one,
            cluster.connect("shop_worker", app="worker-7", options=serializable, autocommit=False) as two,
        ):
            for session in (one, two):
                session.execute("SELECT sum(balance) FROM wallet")
            one.execute("UPDATE wallet SET balance = balance + 1 WHERE id = 1")
            two.execute("UPDATE wallet SET balance = balance + 2 WHERE id = 2")
            one.commit()
            must_fail(two, "UPDATE wallet SET balance = balance + 3 WHERE id = 3")


def bad_reload(cluster: Cluster, rng: Random) -> None:
    """Someone edits the configuration, wrongly, and has it read again."""
    for wrong in rng.sample(_BAD_SETTINGS, 3):
        cluster.reload(extra=wrong)
    cluster.reload(rules=ACCESS_RULES + rng.choice(_BAD_RULES))
    cluster.reload()


def protocol_garbage(cluster: Cluster, rng: Random) -> None:
    """A scanner talks to the port in other protocols, and in broken ones."""
    for payload in rng.sample(_GARBAGE, 9):
        _send(cluster, payload)
    _send(cluster, _STARTUP, b"Q\x00\x00\x00\x0dSELECT 1\0")


def connection_lost(cluster: Cluster, rng: Random) -> None:
    """Clients that die in the middle of a transaction or of an answer."""
    for _ in range(3):
        client = _client(cluster, "-c", "COPY (SELECT * FROM orders, generate_series(1, 50)) TO STDOUT")
        time.sleep(0.4)
        client.kill()
        client.communicate()
    for _ in range(3):
        client = _client(cluster)
        if client.stdin is None or client.stdout is None:
            raise RecorderError("psql has no pipes")
        client.stdin.write(b"BEGIN; UPDATE wallet SET balance = 0 WHERE id = 9;\n")
        client.stdin.flush()
        client.stdout.read(len("BEGIN\nUPDATE 1\n"))
        client.kill()
        client.communicate()


def remote_down(cluster: Cluster, rng: Random) -> None:
    """The carrier's database, which the shop reads through a foreign table, does not answer."""
    with cluster.connect("shop_worker", app="worker-1") as worker:
        for query in (
            "SELECT price FROM carrier_rates WHERE country = 'DE'",
            f"SELECT country, min(price) FROM carrier_rates WHERE weight > {rng.randint(1, 30)} GROUP BY country",
            f"INSERT INTO carrier_rates VALUES ('FR', 2, {rng.randint(5, 9)})",
            "SELECT count(*) FROM carrier_rates",
        ):
            must_fail(worker, query)


def sequence_exhausted(cluster: Cluster, rng: Random) -> None:
    """The numbers of vouchers run out."""
    with cluster.connect("shop_worker", app="worker-2") as worker:
        worker.execute("SELECT setval('voucher_no', 9999)")
        for _ in range(5):
            must_fail(worker, f"INSERT INTO vouchers (customer, amount) VALUES ({rng.randint(1, 5000)}, 25)")
        must_fail(worker, "INSERT INTO vouchers (customer, amount) SELECT id, 5 FROM customers WHERE city = 'Graz'")
        worker.execute("SELECT setval('voucher_no', 1)")


def access_rule_reject(cluster: Cluster, rng: Random) -> None:
    """Logins that the access rules forbid."""
    for user, database in rng.sample(
        [
            ("postgres", "shop"),
            ("postgres", "postgres"),
            ("shop_web", "billing"),
            ("report_ro", "billing"),
            ("shop_worker", "postgres"),
            ("billing_app", "template1"),
            ("partner_feed", "billing"),
        ],
        6,
    ):
        must_be_refused(cluster, user, database)


def _file_of(cluster: Cluster, relation: str) -> Path:
    with cluster.admin() as admin:
        row = admin.execute("SELECT pg_relation_filepath(%s::regclass)", (relation,)).fetchone()
    if row is None:
        raise RecorderError(f"{relation} has no file")
    return cluster.data / str(row[0])


def _send(cluster: Cluster, *payloads: bytes) -> None:
    with socket.create_connection(("127.0.0.1", cluster.port), timeout=2) as raw:
        for payload in payloads:
            raw.sendall(payload)
            time.sleep(0.1)


def _client(cluster: Cluster, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        cluster.command("psql", "-X", *arguments, "shop", user="shop_owner"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


NEW = (
    Fault("page_corruption", page_corruption, (r"page verification failed", r"invalid page in block")),
    Fault("lost_relation_file", lost_relation_file, (r"could not open file",)),
    Fault(
        "memory_exhausted",
        memory_exhausted,
        (
            r"out of (shared )?memory",
            r"invalid memory alloc request size",
            r"array size exceeds the maximum allowed",
        ),
    ),
    Fault("temp_limit", temp_limit, (r"temporary file size exceeds temp_file_limit",)),
    Fault("idle_transaction", idle_transaction, (r"terminating connection due to idle-in-transaction timeout",)),
    Fault("serialization_failure", serialization_failure, (r"could not serialize access",)),
    Fault(
        "bad_reload",
        bad_reload,
        (
            r"invalid value for parameter",
            r"-?\d+ .*is outside the valid range for parameter",
            r"unrecognized configuration parameter",
            r"syntax error in file",
            r"configuration file .* contains errors",
            r"invalid (authentication method|connection type|CIDR mask|IP address)",
            r".*pg_hba\.conf was not reloaded",
        ),
    ),
    Fault(
        "protocol_garbage",
        protocol_garbage,
        (
            r"invalid length of startup packet",
            r"unsupported frontend protocol",
            r"no PostgreSQL user name specified",
            r"invalid startup packet layout",
            r"incomplete startup packet",
            r"expected SASL response",
        ),
    ),
    Fault(
        "connection_lost",
        connection_lost,
        (
            r"could not (send data to|receive data from) client",
            r"connection to client lost",
            r"unexpected EOF on client connection",
        ),
    ),
    Fault("remote_down", remote_down, (r"could not connect to server",)),
    Fault("sequence_exhausted", sequence_exhausted, (r"nextval: reached maximum value of sequence",)),
    Fault("access_rule_reject", access_rule_reject, (r"pg_hba.conf rejects connection", r"no pg_hba.conf entry")),
)
