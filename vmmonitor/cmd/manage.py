# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage``: what an operator does on the machine itself."""

import argparse
import importlib.util
import sys

from oslo_config import cfg

from vmmonitor import conf as options
from vmmonitor import version
from vmmonitor.cmd import manage_drivers, manage_rules, manage_spool

DESCRIPTION = "Checks rule files and drivers, looks into the spool, and keeps the database."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vmmonitor-manage", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=str(version.version_info))
    parser.add_argument(
        "--config-file",
        action="append",
        metavar="FILE",
        help="read this configuration instead of the usual places",
    )
    nouns = parser.add_subparsers(dest="noun", metavar="COMMAND", required=True)
    manage_rules.register(nouns)
    manage_drivers.register(nouns)
    manage_spool.register(nouns)
    # A compute host has no database, and no library for one.
    if importlib.util.find_spec("sqlalchemy") and importlib.util.find_spec("oslo_db"):
        from vmmonitor.cmd import manage_db

        manage_db.register(nouns)
    return parser


def main() -> None:
    """Do one thing and exit: 0 if it worked."""
    args = _parser().parse_args()
    try:
        conf = options.new([], args.config_file)
    except cfg.Error as error:
        print(f"vmmonitor-manage: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(args.run(conf, args))
