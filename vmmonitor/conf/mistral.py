# SPDX-License-Identifier: Apache-2.0
"""Options of the mistral recovery driver.

The keystoneauth options of this group are registered by ``vmmonitor.openstack``.
"""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "mistral",
    title="mistral driver",
    help="""
Options of the recovery driver ``mistral``, which runs a workflow for a failed instance. The
keystoneauth options of this group configure the access to mistral.
""",
)

OPTS = [
    cfg.StrOpt(
        "workflow",
        default="",
        help="""
Name or id of the workflow that recovers an instance.

Set it if most steps of your policies use the same workflow; a step can use another one with
``options: {workflow: NAME}``. If empty, each step that uses the driver must name its workflow.
""",
    ),
    cfg.FloatOpt(
        "poll_interval",
        default=1.0,
        min=0.1,
        max=60,
        help="""
Maximum interval, in seconds, between queries of the state of a workflow execution. The first
queries follow faster.

Increase it to reduce the load on the mistral API.
""",
    ),
]
