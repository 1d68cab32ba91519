# SPDX-License-Identifier: Apache-2.0
"""Measure the events per second of one engine process, compared with its parts alone."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy

from vmmonitor.tests.bench import raw
from vmmonitor.tests.bench.deployment import Deployment, Program
from vmmonitor.tests.bench.figures import say
from vmmonitor.tests.bench.senders import Senders

AGENTS = 8
#: Batch size of the reported figures: the default of ``[forwarder] batch_size``.
BATCH = 500
#: Events in a call -> events that each agent sends.
RUNS = {BATCH: 5000, 50: 2000, 1: 150}
#: A policy without steps: the measurement ends at the incident.
POLICIES = """
version: 1
policies:
- name: watch only
  match: {type: lifecycle.stopped}
  hold: 0
  steps: []
"""


@dataclasses.dataclass(kw_only=True)
class Run:
    """The figures of one batch size, per second."""

    calls: float = 0.0
    events: float = 0.0
    rows: float = 0.0

    def told(self, batch: int) -> str:
        """Return the figures as text, with the share of the maximum of both parts in sequence."""
        ceiling = 1 / (1 / (self.calls * batch) + 1 / self.rows)
        return (
            f"batches of {batch}: {self.events:.0f} events/s; raw: {self.calls:.1f} calls/s"
            f" ({self.calls * batch:.0f} events/s), {self.rows:.0f} rows inserted/s, one after"
            f" the other {ceiling:.0f}/s, of which {100 * self.events / ceiling:.0f} %"
        )


def measure(agents: int = AGENTS, sizes: Mapping[int, int] = RUNS) -> dict[str, Any]:
    """Run all batch sizes, and return the figures.

    :param sizes: events in a call -> events that each agent sends.
    """
    runs = {batch: Run() for batch in sizes}
    with Deployment() as deployment:
        with raw.Server(deployment.transport_url):
            for batch, run in runs.items():
                say(f"throughput: bare calls with {batch} events each")
                run.calls = _send(deployment, "raw", batch, agents, sizes) / batch
        conf = deployment.configure("engine")
        policies = conf.with_name("policies.yaml")
        policies.write_text(POLICIES)
        conf = deployment.configure("engine", {"recovery": {"policy_file": policies}})
        with Program("vmmonitor-engine", conf):
            for batch, run in runs.items():
                say(f"throughput: {agents} agents, batches of {batch}")
                run.events = _send(deployment, f"real-{batch}", batch, agents, sizes, again=True)
        distinct, duplicates, columns, rows = _stored(deployment)
        lost = agents * sum(sizes.values()) - distinct
        for batch, run in runs.items():
            say(f"throughput: bare inserts, a commit after {batch}")
            some = rows[: sizes[batch] * agents]
            run.rows = raw.insert(deployment.new_database(), columns, some, batch)
    for batch, run in runs.items():
        say(f"throughput: {run.told(batch)}")
    say(f"throughput: {lost} lost, {duplicates} stored twice")
    best = runs[BATCH]
    return {
        "events_per_s": round(best.events),
        "raw_rpc_calls_per_s": round(best.calls, 1),
        "raw_insert_rows_per_s": round(best.rows),
        "lost": lost,
        "duplicates": duplicates,
    }


def _send(
    deployment: Deployment,
    prefix: str,
    batch: int,
    agents: int,
    sizes: Mapping[int, int],
    again: bool = False,
) -> float:
    """Return the events per second that the agents send."""
    events = sizes[batch]
    senders = Senders(
        url=deployment.transport_url, prefix=prefix, agents=agents, events=events, batch=batch
    )
    return agents * events / senders.run(again)


def _stored(deployment: Deployment) -> tuple[int, int, list[str], list[tuple[Any, ...]]]:
    """Return the numbers of distinct events and of duplicates, the columns and all rows."""
    database = sqlalchemy.create_engine(deployment.connection)
    with database.connect() as tx:
        found = tx.execute(sqlalchemy.text("SELECT * FROM events ORDER BY id"))
        columns = list(found.keys())[1:]
        rows = [tuple(row)[1:] for row in found]
    database.dispose()
    distinct = len({row[columns.index("event_id")] for row in rows})
    return distinct, len(rows) - distinct, columns, rows
