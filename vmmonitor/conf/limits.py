# SPDX-License-Identifier: Apache-2.0
"""Options that limit recoveries of one instance, on one host and in total."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "limits",
    title="Recovery limits",
    help="""
Limits of automatic recovery: the restart budget and the flapping delay of one instance, and the
number of recoveries that run at the same time.
""",
)

OPTS = [
    cfg.IntOpt(
        "max_restarts",
        default=3,
        min=-1,
        mutable=True,
        help="""
Maximum number of failures of one instance that are recovered within ``restart_window``. A
further failure is held with a warning, until the oldest of them is older than the window. With
0 no instance is recovered; with -1 there is no limit.

Increase it if repeated restarts help in your cloud. A policy can override it (``limits``).
Related options: ``restart_window``.
""",
    ),
    cfg.FloatOpt(
        "restart_window",
        default=3600.0,
        min=1,
        max=31 * 86400,
        mutable=True,
        help="""
Time, in seconds, over which ``max_restarts`` counts the failures of an instance.

Increase it to limit the restarts of instances that fail slowly but constantly. A policy can
override it (``limits``). Related options: ``max_restarts``.
""",
    ),
    cfg.FloatOpt(
        "flap_window",
        default=3600.0,
        min=0,
        max=31 * 86400,
        mutable=True,
        help="""
Time, in seconds, over which the failures of an instance count for flapping detection. The first
two failures are recovered immediately; from the third on, recovery is delayed by
``flap_backoff``. With 0 flapping detection is disabled.

Decrease it if instances that fail a few times an hour should be recovered without delay.
Related options: ``flap_backoff``, ``flap_backoff_max``.
""",
    ),
    cfg.FloatOpt(
        "flap_backoff",
        default=30.0,
        min=0,
        max=86400,
        mutable=True,
        help="""
Delay, in seconds, before the third recovery of an instance within ``flap_window``, measured
from the end of the previous recovery. The delay doubles with each further failure, up to
``flap_backoff_max``. With 0 there is no delay.

Increase it if instances need more time before another restart can succeed. Related options:
``flap_window``, ``flap_backoff_max``.
""",
    ),
    cfg.FloatOpt(
        "flap_backoff_max",
        default=600.0,
        min=0,
        max=86400,
        mutable=True,
        help="""
Maximum delay, in seconds, before the recovery of a flapping instance. With 0 there is no delay.

Decrease it to shorten the outage of flapping instances. Related options: ``flap_backoff``.
""",
    ),
    cfg.IntOpt(
        "max_recoveries_per_host",
        default=8,
        min=-1,
        mutable=True,
        help="""
Maximum number of concurrent recoveries on one host, over all engines. A recovery occupies a
slot from the call of its driver until the instance is running or the attempt has failed.
Further recoveries are queued, ordered by priority and time of failure. With 0 no recovery
starts; with -1 there is no limit.

Decrease it if concurrent starts overload your hosts. Related options: ``max_recoveries``.
""",
    ),
    cfg.IntOpt(
        "max_recoveries",
        default=50,
        min=-1,
        mutable=True,
        help="""
Maximum number of concurrent recoveries on all hosts, over all engines. With 0 no recovery
starts; with -1 there is no limit. Each engine process is also limited by ``[recovery]
workers``.

Set it to 0 and reload the engines to stop automatic recovery during an investigation. Related
options: ``max_recoveries_per_host``, ``[recovery] workers``.
""",
    ),
]
