# SPDX-License-Identifier: Apache-2.0
"""The ceilings: the bus without a database, and the database without a bus.

Run as a script it is an engine that does nothing: it answers each batch at once.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy

from vmmonitor import conf as configuration
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.rpc import authentication, fields
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.dispatch import exposed
from vmmonitor.rpc.engine_api import EngineEndpoint

ANSWER = [ReceiptStatus.STORED]


class Endpoint:
    """Answers without reading the batches."""

    target = EngineEndpoint.target

    @exposed
    def report_events(self, _context: Any, batch: Any) -> dict[str, Any]:
        """Return a receipt ``stored`` for every event."""
        return {"schema": fields.SCHEMA, "receipts": [ANSWER] * len(batch["events"])}


class Server:
    """Runs an engine without a database in its own process, as a context manager."""

    def __init__(self, url: str, master_key_file: str = ""):
        self._arguments = [url, master_key_file]

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vmmonitor.tests.bench.raw", *self._arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


def serve(url: str, master_key_file: str) -> None:
    """Answer until SIGTERM.

    :param master_key_file: empty: calls are not authenticated.
    """
    conf = configuration.new([], files=[])
    conf.set_override("master_key_file", master_key_file, group="rpc")
    transport = transports.new(conf, url)
    guard = authentication.for_engine(conf, transport).guard
    transports.serve(transport, transports.ENGINE_TOPIC, "raw", Endpoint(), guard).start()
    print("ready", flush=True)
    signal.pause()


def insert(url: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], batch: int) -> float:
    """Insert rows into the table of events, a commit after each batch, with PyMySQL alone.

    :returns: rows per second.
    """
    names = ", ".join(f"`{column}`" for column in columns)
    statement = f"INSERT INTO events ({names}) VALUES ({', '.join(['%s'] * len(columns))})"
    bare = sqlalchemy.create_engine(url).raw_connection()
    cursor = bare.cursor()
    began = time.monotonic()
    for first in range(0, len(rows), batch):
        cursor.executemany(statement, rows[first : first + batch])
        bare.commit()
    seconds = time.monotonic() - began
    bare.close()
    return len(rows) / seconds


if __name__ == "__main__":
    serve(*sys.argv[1:])
