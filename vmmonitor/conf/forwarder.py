# SPDX-License-Identifier: Apache-2.0
"""Options of the forwarder, which sends spooled events to the engine."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "forwarder",
    title="Forwarder",
    help="""
Options of the agent's forwarder. It sends the events of the spool to an engine in batches, and
deletes them when the engine has acknowledged them.
""",
)

OPTS = [
    cfg.IntOpt(
        "batch_size",
        default=500,
        min=1,
        max=5000,
        mutable=True,
        help="""
Maximum number of events in one call to the engine.

Decrease it to spread the backlog of one host over several engines. Increase it to send a
backlog faster.
""",
    ),
    cfg.FloatOpt(
        "reply_timeout",
        default=10.0,
        min=0.1,
        max=600,
        mutable=True,
        help="""
Maximum time, in seconds, to wait for the receipt of the engine. On timeout the batch is sent
again; an event that arrives twice is stored once.

Keep it above ``[engine] store_timeout``. Increase both if the database is slow.
""",
    ),
    cfg.FloatOpt(
        "retry_min",
        default=0.2,
        min=0.01,
        max=60,
        mutable=True,
        help="""
Delay, in seconds, before the first retry of a failed call. The delay doubles with each retry,
with jitter, up to ``retry_max``. Retries never end.

The default value is fine for most deployments. Related options: ``retry_max``.
""",
    ),
    cfg.FloatOpt(
        "retry_max",
        default=10.0,
        min=0.1,
        max=3600,
        mutable=True,
        help="""
Maximum delay, in seconds, between retries of a failed call.

Increase it if the retries of many agents overload the broker after an outage. Related options:
``retry_min``.
""",
    ),
]
