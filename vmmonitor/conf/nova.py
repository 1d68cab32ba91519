# SPDX-License-Identifier: Apache-2.0
"""The nova expectation. keystoneauth's options of this group are registered by whoever asks nova,
so that nobody else needs that library in memory."""

from oslo_config import cfg

GROUP = "nova"

OPTS = [
    cfg.StrOpt(
        "metadata_key",
        default="HA_Enabled",
        help="""
Key of a server's metadata by which its owner says whether it is to be recovered: ``true`` or
``false`` in any spelling of oslo.utils. Empty: metadata does not count. Related options:
``recover_by_default``.
""",
    ),
    cfg.BoolOpt(
        "recover_by_default",
        default=True,
        help="""
Whether servers are recovered whose metadata says nothing about it. False: only those that ask for
it, as masakari does by default. Related options: ``metadata_key``.
""",
    ),
    cfg.BoolOpt(
        "recover_locked",
        default=True,
        help="""
Whether servers that are locked in nova are recovered. False: somebody who locks a server has it
left alone.
""",
    ),
    cfg.IntOpt(
        "page_size",
        default=500,
        min=1,
        max=100000,
        help="""
Number of servers to ask for at a time when all are listed. Nova gives no more than its own
``[api] max_limit``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register this group's options on ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options), for the sample file."""
    return [(GROUP, OPTS)]
