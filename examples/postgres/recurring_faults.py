"""The faults that happen in both parts, so that a learner can remember them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from random import Random
from typing import Any

import psycopg

from .cluster import COLD_BYTES, MAX_CONNECTIONS, READY, Cluster
from .faults import Fault, must_be_refused, must_fail

_RECOVERY = (
    r"database system was interrupted; last known up",
    r"database system was not properly shut down",
    r"redo (starts at|done at|is not required)",
    r"invalid record length at ",
    r"unexpected pageaddr ",
    r"(record with |incorrect |invalid magic number|contrecord)",
    r"the database system is not yet accepting connections",
    r"checkpoint starting: end-of-recovery",
)
_GUESSED = ("admin", "root", "test", "shop_web", "shop_worker", "report_ro", "sa", "oracle", "deploy", "web")
_UNKNOWN_DATABASES = ("crm", "wordpress", "customers", "prod", "erp", "magento", "shop_old", "users")
_UNKNOWN_ROLES = ("admin", "root", "ubuntu", "web", "pgadmin", "replicator", "sa")
_INJECTIONS = (
    "SELECT id, name FROM products WHERE name = ''' OR 1=1",
    "SELECT id, name FROM products WHERE id = 14' AND '1'='1",
    "SELECT id, name FROM products WHERE name = '' UNION SELECT NULL --",
    "SELECT id, name FROM products WHERE id = 5 UNION SELECT 1, 2, 3, 4 --",
    "SELECT id, name FROM products WHERE id = -1 UNION SELECT version(), current_user --",
    "SELECT id, name FROM products WHERE id = -1 UNION SELECT 1, password FROM users --",
    "SELECT id, name FROM products WHERE id = -1 UNION SELECT 1, table_name FROM all_tables --",
    "SELECT id, name FROM products WHERE id = 7) OR (1=1 --",
    "SELECT id, name FROM products WHERE id = 7 ORDER BY 12 --",
    "SELECT id, name FROM products WHERE id = 1 AND 1=CAST((SELECT current_database()) AS integer)",
    "SELECT id, name FROM products WHERE id = 1 AND SLEEP(5)",
    "SELECT id, name FROM products WHERE id = 1; EXEC xp_cmdshell('dir')",
    "SELECT id, name FROM products WHERE id = 1 AND extractvalue(1, concat(0x7e, user()))",
    "SELECT id, name FROM products WHERE id = 3 UNION SELECT 1, passwd FROM pg_shadow --",
    "SELECT id, name FROM products WHERE name LIKE '%$$; DROP TABLE customers; --",
    "SELECT id, name FROM products WHERE id = 2 AND substring(@@version,1,1)=5",
)
_PROBES = (
    "SELECT * FROM customers",
    "SELECT email FROM customers LIMIT 100",
    "SELECT * FROM payments",
    "DELETE FROM orders",
    "UPDATE products SET price = 0",
    "SELECT * FROM pg_authid",
    "CREATE TABLE public.x1 (a int)",
    "DROP TABLE payments",
    "CREATE ROLE shadow SUPERUSER",
    "COPY products TO '/var/tmp/products.csv'",
    "SELECT pg_read_file('pg_hba.conf')",
    "ALTER TABLE customers OWNER TO partner_feed",
    "SET ROLE shop_worker",
)
_SLOW = (
    "SELECT count(*) FROM products a JOIN products b ON a.name < b.name JOIN products c ON b.id < c.id",
    "SELECT o.id FROM orders o, order_lines l WHERE l.note LIKE '%' || o.id || '%' ORDER BY o.total LIMIT 10",
    "UPDATE products SET rank = (SELECT count(*) FROM order_lines l, products q WHERE q.price > products.price)",
    "SELECT c.email, (SELECT max(o.total) FROM orders o WHERE o.city ILIKE '%' || c.city || '%') FROM customers c",
    "SELECT a.id, b.id FROM customers a JOIN customers b ON levenshtein(a.email, b.email) < 2",
)
_BLOCKED = (
    "UPDATE inventory SET quantity = quantity - 1 WHERE product = {n}",
    "SELECT quantity FROM inventory WHERE product = {n} FOR UPDATE",
    "INSERT INTO inventory (product, quantity) VALUES (-{n}, 1)",
    "ALTER TABLE inventory ADD COLUMN shelf text",
)


def password_guessing(cluster: Cluster, rng: Random) -> None:
    """Someone tries names and passwords."""
    for _ in range(8):
        guess = rng.choice(("123456", "letmein", "postgres", "shop"))
        must_be_refused(cluster, rng.choice(_GUESSED), password=guess)


def unknown_target(cluster: Cluster, rng: Random) -> None:
    """Someone asks for databases and roles that are not there."""
    for name in rng.sample(_UNKNOWN_DATABASES, 3):
        must_be_refused(cluster, "shop_worker", name, local=True)
    for name in rng.sample(_UNKNOWN_ROLES, 3):
        must_be_refused(cluster, name, local=True)


def sql_injection(cluster: Cluster, rng: Random) -> None:
    """Search terms that end the string they were put into."""
    with cluster.connect("shop_web", app="web-3") as web:
        for query in rng.sample(_INJECTIONS, 7):
            must_fail(web, query)


def permission_probing(cluster: Cluster, rng: Random) -> None:
    """A partner's account tries what it has no right to."""
    with cluster.connect("partner_feed", app="feed") as partner:
        for query in rng.sample(_PROBES, 6):
            must_fail(partner, query)


def statement_timeout(cluster: Cluster, rng: Random) -> None:
    """Queries that users wait for take longer than the limit."""
    with cluster.connect("shop_web", app="web-4", options="-c statement_timeout=120ms") as web:
        for query in rng.sample(_SLOW, 4):
            must_fail(web, query)


def lock_timeout(cluster: Cluster, rng: Random) -> None:
    """A migration holds a table while the application waits for it."""
    with (
        cluster.connect("shop_owner", app="migrate", autocommit=False) as holder,
        cluster.connect("shop_owner", app="web-5", options="-c lock_timeout=80ms") as web,
    ):
        holder.execute("LOCK TABLE inventory IN ACCESS EXCLUSIVE MODE")
        for query in rng.sample(_BLOCKED, 3):
            must_fail(web, query.format(n=rng.randint(1, 900)))
        holder.rollback()
        row = rng.randint(1, 900)
        holder.execute("UPDATE inventory SET quantity = quantity + 1 WHERE product = %s", (row,))
        must_fail(web, f"UPDATE inventory SET quantity = 0 WHERE product = {row}")
        holder.rollback()


def deadlock(cluster: Cluster, rng: Random) -> None:
    """Two transfers lock the same two wallets, or two batches the same two tables, in opposite order."""
    a, b = rng.sample(range(1, 200), 2)
    pairs = (
        [f"UPDATE wallet SET balance = balance - {a} WHERE id = {n}" for n in (a, b)],
        [f"SELECT balance FROM wallet WHERE id = {n} FOR UPDATE" for n in (a, b)],
        ["LOCK TABLE wallet IN EXCLUSIVE MODE", "LOCK TABLE wallet_journal IN EXCLUSIVE MODE"],
    )
    for first, second in rng.sample(pairs, 2):
        with (
            cluster.connect("shop_worker", app="worker-4", autocommit=False) as one,
            cluster.connect("shop_worker", app="worker-5", autocommit=False) as two,
        ):
            one.execute(first.encode())
            two.execute(second.encode())
            crossing = threading.Thread(target=_tolerate, args=(one, second))
            crossing.start()
            _tolerate(two, first)
            two.rollback()
            crossing.join()
            one.rollback()


def connection_storm(cluster: Cluster, rng: Random) -> None:
    """A misconfigured pool opens sessions until there are none left, for administrators too."""
    held: list[psycopg.Connection[Any]] = []
    try:
        for attempts in (MAX_CONNECTIONS, 5):
            for _ in range(attempts):
                with contextlib.suppress(psycopg.OperationalError):
                    held.append(cluster.connect(rng.choice(("shop_web", "shop_worker")), app="web-6"))
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    held.append(cluster.admin())
    finally:
        for connection in held:
            connection.close()


def disk_full(cluster: Cluster, rng: Random) -> None:
    """The small volume of the archive tablespace runs full."""
    with cluster.connect("shop_owner", app="archiver") as owner:
        for query in (
            "INSERT INTO orders_archive SELECT o.* FROM orders o, generate_series(1, 40)",
            f"INSERT INTO orders_archive SELECT * FROM orders WHERE id > {rng.randint(1, 500)}",
            "CREATE INDEX orders_archive_city ON orders_archive (city, total) TABLESPACE cold",
            "CREATE TABLE lines_archive TABLESPACE cold AS SELECT l.* FROM order_lines l, generate_series(1, 9)",
        ):
            must_fail(owner, query)
        with (
            contextlib.suppress(psycopg.Error),
            owner.cursor().copy("COPY orders_archive FROM STDIN") as copy,
        ):
            for number in range(9000):
                copy.write_row((number, 1, "Lyon", 10, "2026-01-01", "x" * 300))
        cluster.resize_cold(2 * COLD_BYTES)
        owner.execute("TRUNCATE orders_archive")
    with cluster.admin() as admin:
        admin.execute("CHECKPOINT")  # a recovery from before the TRUNCATE would fill the volume again
    cluster.resize_cold()


def archive_failure(cluster: Cluster, rng: Random) -> None:
    """The folder that takes the write-ahead log is gone for a while."""
    away = cluster.archive.with_name("archive.away")
    message = "failed too many times, will try again later"
    before = cluster.log_text().count(message)
    cluster.archive.rename(away)
    try:
        with cluster.admin() as admin:
            admin.execute("SELECT pg_switch_wal()")
        cluster.wait_for_log(message, before + 1)
    finally:
        away.rename(cluster.archive)
    with cluster.admin() as admin:
        admin.execute("SELECT pg_switch_wal()")
    time.sleep(1.2)


def backend_crash(cluster: Cluster, rng: Random) -> None:
    """One server process dies by a signal, which takes all sessions with it."""
    before = cluster.log_text().count(READY)
    victim = cluster.connect("shop_worker", app="worker-3")
    query = "SELECT city, sum(total) FROM orders, generate_series(1, 4000) GROUP BY city"
    running = threading.Thread(target=_tolerate, args=(victim, query))
    running.start()
    time.sleep(0.2)
    os.kill(victim.info.backend_pid, rng.choice((signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)))
    for _ in range(6):
        with contextlib.suppress(psycopg.OperationalError):
            cluster.connect("shop_web", app="web-2").close()
    running.join()
    cluster.wait_for_log(READY, before + 1)


def unclean_restart(cluster: Cluster, rng: Random) -> None:
    """The whole server is lost (as by a power cut or an impatient stop) and recovers when started again."""
    cluster.stop(rng.choice((signal.SIGKILL, signal.SIGQUIT)))
    time.sleep(0.5)
    cluster.start()


def _tolerate(connection: psycopg.Connection[Any], query: str) -> None:
    with contextlib.suppress(psycopg.Error):
        connection.execute(query.encode())


RECURRING = (
    Fault("password_guessing", password_guessing, (r"password authentication failed for user",)),
    Fault(
        "unknown_target",
        unknown_target,
        (
            r'(database|role) "\S+" does not exist',
            rf"connection authorized: user=({'|'.join(_UNKNOWN_ROLES)}) ",
            rf"connection authorized: user=shop_worker database=({'|'.join(_UNKNOWN_DATABASES)})$",
        ),
    ),
    Fault(
        "sql_injection",
        sql_injection,
        (
            r"syntax error at ",
            r"unterminated quoted string",
            r"unterminated dollar-quoted string",
            r"each UNION query must have the same number of columns",
            r"UNION types ",
            r"invalid input syntax for type integer",
            r"relation \S+ does not exist",
            r"column \S+ does not exist",
            r"function .* does not exist",
            r"operator does not exist",
            r"ORDER BY position ",
            r"permission denied for view pg_shadow",
            r"trailing junk after numeric literal",
        ),
    ),
    Fault(
        "permission_probing",
        permission_probing,
        (
            r"permission denied",
            r"must be (owner|superuser)",
            r"statement: (CREATE TABLE public\.x1|DROP TABLE payments)",
            r"statement: (CREATE ROLE shadow|ALTER TABLE customers OWNER)",
        ),
    ),
    Fault("statement_timeout", statement_timeout, (r"canceling statement due to statement timeout",)),
    Fault("lock_timeout", lock_timeout, (r"canceling statement due to lock timeout",)),
    Fault("deadlock", deadlock, (r"deadlock detected",)),
    Fault(
        "connection_storm",
        connection_storm,
        (r"sorry, too many clients already", r"remaining connection slots are reserved"),
    ),
    Fault("disk_full", disk_full, (r"could not (extend|write).*No space left on device",)),
    Fault(
        "archive_failure",
        archive_failure,
        (r"archive command failed", r"archiving write-ahead log file .* failed"),
    ),
    Fault(
        "backend_crash",
        backend_crash,
        (
            r"server process \(PID \d+\) was terminated by signal",
            r"terminating any other active server processes",
            r"all server processes terminated; reinitializing",
            r"the database system is in recovery mode",
            *_RECOVERY,
        ),
    ),
    Fault(
        "unclean_restart",
        unclean_restart,
        (
            r"received immediate shutdown request",
            r"terminating connection due to unexpected postmaster exit",
            r"the database system is starting up",
            *_RECOVERY,
        ),
    ),
)
