"""The shop at work: what the server does all day when nothing is wrong.

Part of it looks alarming and is normal for this application (the brief says so): payments delivered twice,
coupons used up, two workers that want the same job, reports that are cancelled when they take too long.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

import psycopg

from .cluster import Cluster, password_of

Session = psycopg.Connection[Any]

_HERE = Path(__file__).parent
_ROLES = ("shop_owner", "shop_web", "shop_worker", "report_ro", "analyst", "partner_feed", "billing_app")
_SCRIPTS = (("browse", 6), ("basket", 3), ("checkout", 2))
_REPORTS = (
    "SELECT city, count(*), sum(total) FROM orders GROUP BY city ORDER BY 3 DESC",
    "SELECT l.note, o.city FROM order_lines l JOIN orders o ON o.id = l.order_id ORDER BY l.note, o.city DESC",
    "SELECT p.category, sum(l.quantity * p.price) FROM order_lines l JOIN products p ON p.id = l.product GROUP BY 1",
    "SELECT DISTINCT l.note, l.product, l.order_id FROM order_lines l ORDER BY l.note DESC",
    "SELECT placed, rank() OVER (PARTITION BY city ORDER BY total, note) FROM orders",
    "SELECT customer, count(*) FROM orders GROUP BY customer HAVING count(*) > 3 ORDER BY 2 DESC LIMIT 20",
    "SELECT c.city, percentile_cont(0.5) WITHIN GROUP (ORDER BY o.total) FROM orders o "
    "JOIN customers c ON c.id = o.customer GROUP BY 1",
    "SELECT date_trunc('minute', at), count(*) FROM page_views GROUP BY 1 ORDER BY 1",
)
_LONG_REPORT = (
    "SELECT a.city, count(*) FROM orders a JOIN orders b ON a.total < b.total JOIN products p ON true GROUP BY 1"
)


def set_up(cluster: Cluster) -> None:
    """Create roles, databases and data."""
    with cluster.admin("postgres") as admin:
        for role in _ROLES:
            admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password_of(role)}'".encode())
        admin.execute("CREATE ROLE backup LOGIN REPLICATION")
        admin.execute("GRANT pg_read_all_data TO backup")
        admin.execute(f"CREATE TABLESPACE cold LOCATION '{cluster.cold}'".encode())
        for name, owner in (("shop", "shop_owner"), ("billing", "billing_app")):
            admin.execute(f"CREATE DATABASE {name} OWNER {owner}".encode())
        admin.execute("ALTER ROLE report_ro SET log_min_duration_statement = 0")
        admin.execute("ALTER ROLE report_ro SET log_temp_files = 0")
        for role in ("backup", "postgres"):
            admin.execute(f"ALTER ROLE {role} SET log_min_duration_sample = -1".encode())
    schema = (_HERE / "schema.sql").read_text()
    with cluster.admin() as admin:
        admin.execute(schema.encode())
    with cluster.connect("billing_app", "billing") as billing:
        billing.execute(
            "CREATE TABLE invoices (id bigserial PRIMARY KEY, order_id bigint UNIQUE, amount numeric, due date)"
        )
        billing.execute("INSERT INTO invoices (order_id, amount) SELECT n, n % 200 FROM generate_series(1, 4000) n")


class Shop:
    """The clients, each on its own thread; a context manager that waits for them to leave."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._closing = threading.Event()
        roles: tuple[tuple[str, Callable[[Random, str], None]], ...] = (
            ("web-1", self._visit),
            ("web-2", self._visit),
            ("worker-1", self._work),
            ("worker-2", self._work),
            ("report", self._report),
            ("billing", self._bill),
            ("browsers", self._browse),
        )
        self._threads = [
            threading.Thread(target=self._repeat, args=(act, Random(f"{seed} {name}"), name), name=name)
            for name, act in roles
        ]

    def __enter__(self) -> Shop:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, act: Callable[[Random, str], None], rng: Random, name: str) -> None:
        """Do it again and again: a client that loses its session waits and comes back, as real ones do."""
        while not self._closing.is_set():
            if self._cluster.open_for_clients.wait(0.2):
                with contextlib.suppress(psycopg.Error):
                    act(rng, name)
                self._closing.wait(rng.uniform(0.9, 2.2))

    def _visit(self, rng: Random, name: str) -> None:
        actions = (
            _search,
            _search,
            _account,
            _order,
            _order,
            _payment_delivered_twice,
            _coupon,
            _recently_seen,
            _nested_begin,
            _stock,
            _stock,
            _account,
        )
        with self._cluster.connect("shop_web", app=name) as session:
            for _ in range(rng.randint(10, 24)):
                with contextlib.suppress(psycopg.errors.IntegrityError):
                    rng.choice(actions)(session, rng)
                time.sleep(rng.uniform(0.05, 0.3))

    def _work(self, rng: Random, name: str) -> None:
        with self._cluster.connect("shop_worker", app=name, autocommit=False) as session:
            for _ in range(40):
                wait = "NOWAIT" if rng.random() < 0.07 else "SKIP LOCKED"
                query = f"SELECT id, payload FROM jobs WHERE done IS NULL ORDER BY id LIMIT 1 FOR UPDATE {wait}"
                try:
                    row = session.execute(query.encode()).fetchone()
                except psycopg.errors.LockNotAvailable:
                    session.rollback()
                    continue
                time.sleep(0.15)
                if row is not None:
                    session.execute("UPDATE jobs SET done = now() WHERE id = %s", (row[0],))
                session.commit()
                if self._closing.wait(rng.uniform(0.05, 0.4)):
                    break

    def _report(self, rng: Random, name: str) -> None:
        with self._cluster.connect("report_ro", app=name) as session:
            for query in rng.sample(_REPORTS, 3):
                session.execute(query.encode())
            if rng.random() < 0.4:
                budget = threading.Timer(0.5, session.cancel)
                budget.start()
                session.execute(_LONG_REPORT.encode())
        self._closing.wait(rng.uniform(1.5, 4))

    def _bill(self, rng: Random, name: str) -> None:
        with self._cluster.connect("billing_app", "billing", app=name) as session:
            for _ in range(rng.randint(3, 6)):
                order = rng.randint(3900, 90000)
                with contextlib.suppress(psycopg.errors.UniqueViolation):
                    session.execute(
                        "INSERT INTO invoices (order_id, amount) VALUES (%s, %s)", (order, rng.randint(5, 90))
                    )
                session.execute(
                    "SELECT sum(amount) FROM invoices WHERE due < current_date AND id %% 7 = %s", (order % 7,)
                )
        self._closing.wait(rng.uniform(1, 4))

    def _browse(self, rng: Random, name: str) -> None:
        """pgbench: the many anonymous visitors."""
        files = [f"--file={_HERE / name}.sql@{weight}" for name, weight in _SCRIPTS]
        command = self._cluster.command(
            "pgbench",
            "-n",
            "--client=2",
            "--rate=14",
            "--time=15",
            f"--random-seed={rng.randint(1, 9999)}",
            *files,
            "shop",
            user="shop_web",
            local=False,
        )
        with subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PGPASSWORD": password_of("shop_web"), "PGSSLMODE": "disable"},
        ) as browsers:
            while browsers.poll() is None:
                if self._closing.wait(0.2):
                    browsers.terminate()


def _search(session: Session, rng: Random) -> None:
    word = rng.choice(("lamp", "chair", "table 1", "shelf", "rug", "vase 7"))
    session.execute("SELECT id, name, price FROM products WHERE name ILIKE %s ORDER BY price LIMIT 20", (f"%{word}%",))


def _account(session: Session, rng: Random) -> None:
    email = f"c{rng.randint(1, 5000)}@example.org"
    session.execute("SELECT id, city FROM customers WHERE email = %s", (email,))
    session.execute("UPDATE customers SET seen = now() WHERE email = %s", (email,))


def _order(session: Session, rng: Random) -> None:
    with session.transaction():
        row = session.execute(
            "INSERT INTO orders (customer, city, total, placed) VALUES (%s, %s, %s, current_date) RETURNING id",
            (rng.randint(1, 5000), "Graz", rng.randint(5, 500)),
        ).fetchone()
        for _ in range(rng.randint(1, 3)):
            session.execute(
                "INSERT INTO order_lines (order_id, product, quantity) VALUES (%s, %s, 1)",
                (row[0] if row else 1, rng.randint(1, 2000)),
            )
    session.execute("INSERT INTO jobs (queue, payload) VALUES ('mail', 'confirmation')")


def _payment_delivered_twice(session: Session, rng: Random) -> None:
    reference = f"pay-{rng.randint(2400, 4000)}"
    session.execute("INSERT INTO payments (reference, amount) VALUES (%s, %s)", (reference, rng.randint(5, 500)))


def _coupon(session: Session, rng: Random) -> None:
    code = rng.choice(("SPRING", "WELCOME", "WELCOME", "VIP10"))
    session.execute("UPDATE coupons SET uses_left = uses_left - 1 WHERE code = %s", (code,))


def _recently_seen(session: Session, rng: Random) -> None:
    session.execute("CREATE TEMP TABLE IF NOT EXISTS recently_seen (product int)")
    session.execute("INSERT INTO recently_seen VALUES (%s)", (rng.randint(1, 2000),))


def _nested_begin(session: Session, rng: Random) -> None:
    session.execute("BEGIN")
    if rng.random() < 0.6:
        session.execute("BEGIN")
    session.execute("SELECT name FROM products WHERE category = %s LIMIT 5", (f"c{rng.randint(0, 22)}",))
    session.execute("COMMIT")


def _stock(session: Session, rng: Random) -> None:
    product = rng.randint(1, 2000)
    session.execute("SELECT quantity FROM inventory WHERE product = %s", (product,))
    session.execute("UPDATE inventory SET quantity = quantity - 1 WHERE product = %s", (product,))
