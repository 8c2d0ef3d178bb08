"""A private PostgreSQL: its own folder, its own port, its own user; nothing of it outlives the recording.

No existing cluster is ever touched: the server listens on a free loopback port and on a socket inside the
temporary folder, and every program is called with exactly these.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

READY = "database system is ready to accept connections"
COLD_BYTES = 6 * 1024 * 1024
MAX_CONNECTIONS = 26

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": str(MAX_CONNECTIONS),
    "superuser_reserved_connections": "3",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "32MB",
    "work_mem": "1MB",
    "temp_file_limit": "24MB",
    "fsync": "off",
    "wal_level": "logical",
    "max_wal_size": "96MB",
    "min_wal_size": "16MB",
    "checkpoint_timeout": "30s",
    "archive_mode": "on",
    "archive_command": "cp %p ../archive/%f 2>>../archive.err",
    "autovacuum_naptime": "1s",
    "autovacuum_vacuum_threshold": "400",
    "autovacuum_vacuum_insert_threshold": "1500",
    "autovacuum_analyze_threshold": "400",
    "deadlock_timeout": "150ms",
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "lc_messages": "C",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_min_messages": "notice",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_checkpoints": "on",
    "log_autovacuum_min_duration": "0",
    "log_replication_commands": "on",
    "log_statement": "ddl",
    "log_min_duration_statement": "400ms",
    "log_min_duration_sample": "0",
    "log_statement_sample_rate": "0.02",
}

ACCESS_RULES = """\
local  all      all                      trust
local  replication  all                  trust
host   all      postgres    127.0.0.1/32 reject
host   shop     all         127.0.0.1/32 scram-sha-256
host   billing  billing_app 127.0.0.1/32 scram-sha-256
"""


class RecorderError(RuntimeError):
    """The recording cannot go on; the message says what is missing or what did not happen."""


def find_programs() -> Path:
    """The folder of the server programs: PATH, then pg_config, then Debian's folders (newest first)."""
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    config = shutil.which("pg_config")
    if config:
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        candidates.append(Path(answer.stdout.strip()))
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if all((folder / name).exists() for name in ("initdb", "postgres", "pgbench", "pg_basebackup")):
            return folder
    raise RecorderError("PostgreSQL's server programs were not found: apt install postgresql")


class Cluster:
    """A running server with its log file; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise RecorderError("the recorder mounts a small tmpfs to fill it: run it as root (a container will do)")
        try:
            self._owner = pwd.getpwnam("postgres")
        except KeyError as error:
            raise RecorderError("there is no user 'postgres' to run the server as: apt install postgresql") from error
        self.programs = find_programs()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.data = self.folder / "data"
        self.cold = self.folder / "cold"
        self.archive = self.folder / "archive"
        self.log = self.folder / "server.log"
        self.port = _free_port()
        self.open_for_clients = threading.Event()
        self._server: subprocess.Popen[bytes] | None = None
        self._mounted = False

    def __enter__(self) -> Cluster:
        try:
            self._create()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        seen = self.log_text().count(READY)
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self._owner.pw_uid,
                group=self._owner.pw_gid,
                extra_groups=[],
            )
        server = self._server
        _wait(
            lambda: server.poll() is not None or self.log_text().count(READY) > seen,
            "the server did not start",
        )
        if server.poll() is not None:
            raise RecorderError("the server did not start:\n" + "\n".join(self.log_text().splitlines()[-12:]))
        self.open_for_clients.set()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT is a fast shutdown, SIGTERM smart, SIGQUIT immediate, SIGKILL a loss."""
        if self._server is None:
            return
        self.open_for_clients.clear()
        family = [self._server.pid, *self.children()]
        self._server.send_signal(how)
        self._server.wait(timeout=60)
        self._server = None
        _wait(lambda: not any(_alive(pid) for pid in family), "the server's processes did not end")

    def reload(self, changes: Mapping[str, str] | None = None, extra: str = "", rules: str = ACCESS_RULES) -> None:
        """Rewrite the configuration files (`extra`: raw text for the end) and have them read again."""
        self.configure({**SETTINGS, **(changes or {})}, extra, rules)
        self.server_pid(signal.SIGHUP)
        time.sleep(0.4)

    def configure(self, settings: Mapping[str, str], extra: str = "", rules: str = ACCESS_RULES) -> None:
        """Write postgresql.conf and pg_hba.conf."""
        lines = [f"port = {self.port}", f"unix_socket_directories = '{self.folder}'"]
        lines += [f"{name} = '{value}'" for name, value in settings.items()]
        (self.data / "postgresql.conf").write_text("\n".join(lines) + "\n" + extra)
        (self.data / "pg_hba.conf").write_text(rules)

    def server_pid(self, send: signal.Signals) -> None:
        """Send a signal to the postmaster."""
        if self._server is None:
            raise RecorderError("the server is not running")
        self._server.send_signal(send)

    def children(self) -> list[int]:
        """Process ids of the postmaster's children."""
        parent = str(self._server.pid) if self._server else ""
        return [int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if _parent(stat) == parent]

    def connect(
        self,
        user: str,
        database: str = "shop",
        app: str = "",
        *,
        password: str | None = None,
        local: bool = False,
        options: str = "",
        autocommit: bool = True,
    ) -> psycopg.Connection[Any]:
        """A client session; `local` goes through the socket (no password asked), otherwise over TCP."""
        return psycopg.connect(
            host=str(self.folder) if local else "127.0.0.1",
            port=self.port,
            user=user,
            dbname=database,
            password=password or password_of(user),
            application_name=app,
            options=options,
            sslmode="disable",
            gssencmode="disable",
            connect_timeout=10,
            autocommit=autocommit,
        )

    def admin(self, database: str = "shop", options: str = "") -> psycopg.Connection[Any]:
        """The administrator's session."""
        return self.connect("postgres", database, "psql", local=True, options=options)

    def command(self, program: str, *arguments: str, user: str = "postgres", local: bool = True) -> list[str]:
        """The command line of one of PostgreSQL's client programs, pointed at this server."""
        host = str(self.folder) if local else "127.0.0.1"
        return [str(self.programs / program), "-h", host, "-p", str(self.port), "-U", user, *arguments]

    def run(self, program: str, *arguments: str, user: str = "postgres") -> None:
        """Run a client program to its end; its failure ends the recording."""
        done = subprocess.run(
            self.command(program, *arguments, user=user),
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
        )
        if done.returncode:
            raise RecorderError(f"{program} failed: {done.stderr.strip()}")

    def resize_cold(self, size: int = COLD_BYTES) -> None:
        """Give the small volume another size, as an administrator would when it is full."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.cold)], check=True)

    def log_text(self) -> str:
        """Everything the server printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for_log(self, text: str, times: int = 1) -> None:
        """Wait until the log holds `text` so many times."""
        _wait(lambda: self.log_text().count(text) >= times, f"the server never printed {text!r} ({times} times)")

    def version(self) -> str:
        """The server's version, as it names itself."""
        done = subprocess.run(
            [str(self.programs / "postgres"), "--version"], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def _create(self) -> None:
        for folder in (self.data, self.archive, self.cold):
            folder.mkdir()
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={COLD_BYTES}", "tmpfs", str(self.cold)],
                check=True,
                capture_output=True,
                text=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise RecorderError(f"a tmpfs could not be mounted (the container needs CAP_SYS_ADMIN): {error}") from error
        self._mounted = True
        for folder in (self.folder, self.data, self.archive, self.cold):
            os.chown(folder, self._owner.pw_uid, self._owner.pw_gid)
        done = subprocess.run(
            [
                str(self.programs / "initdb"),
                "-D",
                str(self.data),
                "-U",
                "postgres",
                "--data-checksums",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--wal-segsize=4",
            ],
            capture_output=True,
            text=True,
            cwd=self.folder,
            user=self._owner.pw_uid,
            group=self._owner.pw_gid,
            extra_groups=[],
        )
        if done.returncode:
            raise RecorderError(f"initdb failed: {done.stderr.strip()}")
        self.configure(SETTINGS)

    def _remove(self) -> None:
        try:
            self.stop(signal.SIGQUIT)
        finally:
            if self._mounted:
                subprocess.run(["umount", "--lazy", str(self.cold)], check=True)
            shutil.rmtree(self.folder)


def password_of(user: str) -> str:
    """The password the setup gives a role."""
    return f"{user}-2f7a"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(true: Callable[[], bool], complaint: str, seconds: float = 45) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise RecorderError(complaint)
        time.sleep(0.05)


def _stat(path: Path) -> list[str]:
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(stat: Path) -> str | None:
    fields = _stat(stat)
    return fields[1] if fields else None


def _alive(pid: int) -> bool:
    fields = _stat(Path(f"/proc/{pid}/stat"))
    return bool(fields) and fields[0] != "Z"
