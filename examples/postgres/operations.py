"""The administrators at work: batches, backups, reloads, restarts; and, later, changes never made before."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from random import Random

import psycopg

from .cluster import Cluster

Operation = Callable[[Cluster, Random], None]


def nightly_load(cluster: Cluster, rng: Random) -> None:
    """Supplier prices come in by COPY, the products take them over, the day is closed."""
    with cluster.connect("shop_owner", app="nightly") as owner:
        owner.execute("CREATE TABLE IF NOT EXISTS supplier_prices (product int, price numeric, loaded date)")
        with owner.cursor().copy("COPY supplier_prices FROM STDIN") as copy:
            for _ in range(4000):
                copy.write_row((rng.randint(1, 2000), rng.randint(5, 200), "2026-03-01"))
        owner.execute("UPDATE products p SET price = s.price FROM supplier_prices s WHERE s.product = p.id")
        owner.execute("DROP TABLE IF EXISTS supplier_prices_old")
        owner.execute("CREATE INDEX IF NOT EXISTS shipments_order_id ON shipments (order_id)")
        owner.execute("TRUNCATE supplier_prices")
        owner.execute("SELECT close_day(%s)", (rng.randint(1, 28),))
        owner.execute("ANALYZE products")


def new_month(cluster: Cluster, rng: Random) -> None:
    """A table for the coming month, and the oldest one goes."""
    month = rng.randint(202601, 202612)
    with cluster.connect("shop_owner", app="nightly") as owner:
        owner.execute(f"CREATE TABLE IF NOT EXISTS events_{month} (at timestamptz, what text)".encode())
        owner.execute(f"CREATE INDEX ON events_{month} (at)".encode())
        owner.execute(f"GRANT SELECT ON events_{month} TO report_ro".encode())
        owner.execute(f"DROP TABLE IF EXISTS events_{month - 100}".encode())


def dump(cluster: Cluster, rng: Random) -> None:
    """The logical backup of both databases."""
    for database in ("shop", "billing"):
        cluster.run(
            "pg_dump",
            "-Fc",
            "-T",
            "carrier_rates",
            f"--file={cluster.folder / 'dump'}",
            database,
            user="backup",
        )


def base_backup(cluster: Cluster, rng: Random) -> None:
    """The physical backup."""
    target = cluster.folder / "base"
    cluster.run("pg_basebackup", "-Ft", "-X", "fetch", "-c", "fast", "-D", str(target), user="backup")
    shutil.rmtree(target)


def valid_reload(cluster: Cluster, rng: Random) -> None:
    """Settings are changed as they should be."""
    tuned = rng.choice(("bgwriter_delay", "autovacuum_vacuum_cost_delay", "commit_delay", "random_page_cost"))
    cluster.reload({"work_mem": f"{rng.randint(900, 1400)}kB", tuned: str(rng.choice((10, 15, 20)))})


def planned_restart(cluster: Cluster, rng: Random) -> None:
    """The maintenance window: sessions are ended, the server is stopped and started."""
    cluster.stop(signal.SIGINT)
    time.sleep(0.5)
    cluster.start()


def housekeeping(cluster: Cluster, rng: Random) -> None:
    """By hand: old rows go, statistics are renewed, an index is rebuilt, a checkpoint is made."""
    with cluster.admin() as admin:
        admin.execute("DELETE FROM page_views WHERE at < now() - interval '20 seconds'")
        admin.execute(f"REINDEX TABLE {rng.choice(('carts', 'customers', 'inventory'))}".encode())
        admin.execute("VACUUM ANALYZE orders")
        admin.execute("CHECKPOINT")


def analytics_rollout(cluster: Cluster, rng: Random) -> None:
    """A new schema for loyalty points, with its own role."""
    with cluster.admin() as admin:
        admin.execute("CREATE ROLE loyalty LOGIN NOINHERIT")
        admin.execute("CREATE SCHEMA IF NOT EXISTS loyalty AUTHORIZATION loyalty")
        admin.execute("CREATE TABLE loyalty.members (customer int PRIMARY KEY, tier text DEFAULT 'basic', since date)")
        admin.execute("COMMENT ON TABLE loyalty.members IS 'who takes part, since when'")
        admin.execute("GRANT SELECT ON orders TO loyalty")
        admin.execute("GRANT EXECUTE ON FUNCTION loyalty_points TO loyalty")
        admin.execute("CREATE VIEW loyalty.best AS SELECT customer FROM loyalty.members WHERE tier = 'gold'")
        admin.execute("ALTER ROLE loyalty SET statement_timeout = '5s'")
    with cluster.connect("loyalty", app="loyalty", local=True) as loyalty:
        for _ in range(10):
            loyalty.execute("SELECT loyalty_points(%s)", (rng.randint(1, 5000),))


def slow_index(cluster: Cluster, rng: Random) -> None:
    """New indexes, built beside the traffic."""
    with cluster.admin(options="-c log_min_duration_statement=0") as admin:
        admin.execute("CREATE INDEX CONCURRENTLY orders_note ON orders (note, city, total)")
        admin.execute("CREATE INDEX CONCURRENTLY lines_product ON order_lines (product) INCLUDE (quantity)")
        admin.execute("ALTER TABLE customers ADD COLUMN newsletter boolean NOT NULL DEFAULT false")
        admin.execute("REFRESH MATERIALIZED VIEW sales_by_city")
        admin.execute("CREATE UNIQUE INDEX ON sales_by_city (city)")
        admin.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY sales_by_city")


def table_rewrite(cluster: Cluster, rng: Random) -> None:
    """Tables are packed tightly, which takes its time."""
    with cluster.admin(options="-c log_min_duration_statement=0 -c log_lock_waits=on") as admin:
        admin.execute("VACUUM FULL carts")
        admin.execute("CLUSTER payments USING payments_reference_key")
        admin.execute("VACUUM (FREEZE, ANALYZE) order_lines")
        admin.execute("CREATE STATISTICS orders_city_total (dependencies) ON city, total FROM orders")
        admin.execute("ROLLBACK")


def returns_import(cluster: Cluster, rng: Random) -> None:
    """A new import tries each return and sets aside those whose order is archived."""
    with cluster.connect("shop_worker", app="returns") as worker:
        for _ in range(12):
            order = rng.choice((rng.randint(1, 9000), rng.randint(9_000_000, 9_900_000)))
            try:
                worker.execute("INSERT INTO returns (order_id, reason) VALUES (%s, 'too small')", (order,))
            except psycopg.errors.ForeignKeyViolation:
                continue


def change_feed(cluster: Cluster, rng: Random) -> None:
    """The warehouse reads the changes of the day from a logical slot."""
    slot = ("-d", "shop", "--slot=warehouse")
    cluster.run("pg_recvlogical", *slot, "--create-slot", "--plugin=test_decoding")
    feed = subprocess.Popen(
        cluster.command("pg_recvlogical", *slot, "--start", "-f", "-"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    feed.send_signal(signal.SIGINT)
    feed.wait(timeout=20)
    cluster.run("pg_recvlogical", *slot, "--drop-slot")


def smart_restart(cluster: Cluster, rng: Random) -> None:
    """A restart that lets the sessions end by themselves."""
    cluster.open_for_clients.clear()
    cluster.stop(signal.SIGTERM)
    time.sleep(0.5)
    cluster.start()


DAILY: tuple[Operation, ...] = (
    nightly_load,
    new_month,
    dump,
    base_backup,
    valid_reload,
    planned_restart,
    housekeeping,
)
FIRST_TIME: tuple[Operation, ...] = (
    analytics_rollout,
    slow_index,
    table_rewrite,
    returns_import,
    change_feed,
    smart_restart,
)
