# SPDX-License-Identifier: Apache-2.0
"""Options of the messages between agents and engines."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "rpc",
    title="Messages between agents and engines",
    help="""
Options of the authentication of messages. Each host has a key of its own. Agents and engines sign
every call and every answer with it, so that a host can neither speak for another host nor answer
in place of an engine. ``vmmonitor-standalone`` does not use a message broker and ignores this
group.
""",
)

OPTS = [
    cfg.StrOpt(
        "signatures",
        choices=[
            ("off", "Do not sign and do not verify messages."),
            ("log", "Sign and verify messages, and only log those that are not authentic."),
            ("require", "Refuse messages that are not authentic."),
        ],
        help="""
Verification of the messages between agents and engines.

If not set, it is ``require`` if a key is configured (``master_key_file`` on an engine,
``host_key_file`` on an agent), and ``off`` otherwise. Set ``log`` while keys are introduced in a
deployment that runs without them, until the log has no more messages that are not authentic.
""",
    ),
    cfg.StrOpt(
        "master_key_file",
        default="",
        help="""
File with the master keys of the engines: one line per key with its id and the key in hexadecimal
digits, the newest first. The keys of all hosts are derived from it. It must be readable by the
service user only (mode 0600), and equal on all hosts with an engine.

Create it, and add further keys, with ``vmmonitor-manage host rotate``. Engines read it again on
SIGHUP. If empty, messages are not authenticated. Do not copy the file to a compute host. Related
options: ``signatures``.
""",
    ),
    cfg.StrOpt(
        "host_key_file",
        default="",
        help="""
File with the key of this host's agent, as printed by ``vmmonitor-manage host key HOST``. It must
be readable by the service user only (mode 0600).

The agent reads it again on SIGHUP. A file may contain two keys during a rotation. If empty,
messages are not authenticated. Related options: ``signatures``.
""",
    ),
    cfg.FloatOpt(
        "clock_window",
        default=60.0,
        min=5,
        max=3600,
        help="""
Maximum difference, in seconds, between the time in a message and the time of its receiver. Older
messages are refused as replayed; messages within the window are accepted once.

Agents correct the time in their messages by the time in the answers of the engines, so that a
host with a wrong clock is not refused. Increase the window only if messages wait longer in the
broker, or if the clocks of the engines differ more than that.
""",
    ),
]
