# SPDX-License-Identifier: Apache-2.0
"""Options of recovery: from an incident to the call of a driver."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "recovery",
    title="Recovery",
    help="""
Options that control how an engine obtains a verdict on incidents and runs their recoveries.
""",
)

OPTS = [
    cfg.StrOpt(
        "policy_file",
        default="",
        help="""
Path of the YAML file with the recovery policies. They define the drivers, attempts and delays
of a recovery.

If empty, ``recovery_policies.yaml`` in the directory of the configuration file is used, or the
shipped policies if that file does not exist. SIGHUP reloads the file; an invalid file is
rejected and the policies in force are kept. Check a file with ``vmmonitor-manage policy check
FILE`` before you reload. Related options: ``[engine] expectation``, ``[agent] allow_recovery``.
""",
    ),
    cfg.IntOpt(
        "workers",
        default=8,
        min=1,
        max=256,
        help="""
Number of recoveries that one engine process runs at the same time. Each recovery uses one
thread while its driver works.

Increase it if drivers are slow and recoveries queue although ``[limits] max_recoveries`` is not
reached.
""",
    ),
    cfg.FloatOpt(
        "lease",
        default=30.0,
        min=1,
        max=3600,
        help="""
Time, in seconds, until another engine takes over the recoveries of an engine that has stopped.
An engine renews its leases at a third of this time.

Decrease it for a faster takeover; the renewals then load the database more.
""",
    ),
    cfg.IntOpt(
        "max_takeovers",
        default=3,
        min=0,
        max=100,
        help="""
Maximum number of times that other engines continue one attempt whose engine has stopped. The
attempt then fails, and the next attempt or step of the policy follows.

It limits the calls of a driver that ends engines or does not return. With 0 an attempt fails as
soon as its engine has stopped. The default value is fine for most deployments. Related options:
``lease``.
""",
    ),
    cfg.FloatOpt(
        "poll_interval",
        default=1.0,
        min=0.05,
        max=60,
        help="""
Interval, in seconds, between queries of the database for work that no engine has started:
expired holds, expired leases and operator requests. New incidents of the engine itself are
processed immediately.

The default value is fine for most deployments.
""",
    ),
    cfg.FloatOpt(
        "verdict_retry_interval",
        default=10.0,
        min=0.1,
        max=3600,
        help="""
Interval, in seconds, between queries of the expectation about an incident whose verdict is
``unknown``.

Increase it to reduce the load on nova during an outage. Related options: ``verdict_timeout``,
``unknown_limit``.
""",
    ),
    cfg.FloatOpt(
        "verdict_timeout",
        default=30.0,
        min=0.1,
        max=3600,
        help="""
Maximum time, in seconds, to wait for a verdict on one incident. On timeout the verdict is
``unknown`` and the query is repeated after ``verdict_retry_interval``.

Keep it above ``[nova] timeout``.
""",
    ),
    cfg.FloatOpt(
        "unknown_limit",
        default=60.0,
        min=0,
        max=86400,
        help="""
Time, in seconds, until an incident whose verdict is still ``unknown`` becomes ``held`` and a
warning is logged. Queries continue. With 0 it is held at the first ``unknown`` verdict.

Increase it if short outages of nova should not log warnings. Related options:
``verdict_retry_interval``.
""",
    ),
    cfg.FloatOpt(
        "unhandled_interval",
        default=300.0,
        min=0,
        max=86400,
        help="""
Interval, in seconds, between verdicts on an incident in state ``unhandled``. It is closed when
its instance was stopped on purpose or deleted; it is never recovered by that. With 0 it stays
open until the instance runs or an operator resolves it.

Increase it to reduce the load on nova if many incidents are unhandled.
""",
    ),
    cfg.FloatOpt(
        "maintenance_interval",
        default=30.0,
        min=0.1,
        max=3600,
        help="""
Interval, in seconds, between checks whether a disabled nova-compute service was enabled again.

Decrease it to recover instances sooner after a maintenance. Related options: ``[nova]
respect_disabled``.
""",
    ),
    cfg.FloatOpt(
        "active_poll_interval",
        default=1.0,
        min=0.1,
        max=60,
        help="""
Interval, in seconds, between queries whether a recovered instance is active in nova. It is used
by policies with ``wait_for: active``.

Increase it to reduce the load on nova. Related options: ``[engine] expectation``.
""",
    ),
    cfg.BoolOpt(
        "dry_run",
        default=False,
        mutable=True,
        help="""
Make and record each decision, but do not call drivers.

Enable it to try vmmonitor without an effect on instances. Policies and their steps have a
``dry_run`` of their own.
""",
    ),
]
