# SPDX-License-Identifier: Apache-2.0
"""Options of the webhook recovery driver."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "webhook",
    title="webhook driver",
    help="""
Options of the recovery driver ``webhook``, which sends incidents to a URL as CloudEvents 1.0
JSON.
""",
)

OPTS = [
    cfg.URIOpt(
        "url",
        schemes=["http", "https"],
        help="""
URL that receives incidents as POST requests. It is required if a policy uses the driver
``webhook``.
""",
    ),
    cfg.StrOpt(
        "secret",
        secret=True,
        default="",
        help="""
Key of the HMAC-SHA256 signature in the header ``X-Vmmonitor-Signature``. The receiver can
authenticate the sender with it. If empty, requests are not signed.

Set it unless the network between engine and receiver is trusted.
""",
    ),
    cfg.StrOpt(
        "ca_file",
        default="",
        help="""
PEM file with the CA certificates that verify the receiver's certificate. If empty, the CA
certificates of the system are used.

Set it if the receiver has a certificate of a private CA.
""",
    ),
    cfg.FloatOpt(
        "timeout",
        default=10.0,
        min=0.1,
        max=600,
        help="""
Maximum time, in seconds, to wait for a response of the receiver.

Increase it for a slow receiver, but keep it below the ``timeout`` of the policy's step, which
ends the attempt as a whole.
""",
    ),
]
