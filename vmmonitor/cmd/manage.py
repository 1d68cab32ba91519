# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage``: commands for the operator of a host."""

import argparse
import sys

from oslo_config import cfg

from vmmonitor import conf as options
from vmmonitor import standard_output, version
from vmmonitor.cmd import manage_broker, manage_drivers, manage_rules, manage_spool, offline_db

DESCRIPTION = (
    "Check rule files and recovery drivers, show the spool, maintain the database, and issue the"
    " keys of hosts."
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vmmonitor-manage", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=str(version.version_info))
    parser.add_argument(
        "--config-file",
        action="append",
        metavar="FILE",
        help="configuration file to read instead of the default ones (repeatable)",
    )
    nouns = parser.add_subparsers(dest="noun", metavar="COMMAND", required=True)
    manage_rules.register(nouns)
    manage_drivers.register(nouns)
    manage_spool.register(nouns)
    manage_broker.register(nouns)
    # Compute hosts have no database libraries.
    if offline_db.is_installed():
        from vmmonitor.cmd import manage_db, manage_host

        manage_db.register(nouns)
        manage_host.register(nouns)
    return parser


def main() -> None:
    """Run one command and exit with its code: 0 for success."""
    sys.exit(standard_output.run_command(_run))


def _run() -> int:
    args = _parser().parse_args()
    try:
        conf = options.new([], args.config_file)
    except cfg.Error as error:
        print(f"vmmonitor-manage: {error}", file=sys.stderr)
        return 1
    code: int = args.run(conf, args)
    return code
