# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage spool ...``: the events that wait on this host."""

import argparse
import contextlib
import json
import os
import sys
from typing import Any

from oslo_config import cfg

from vmmonitor.agent.spool import Spool
from vmmonitor.cmd.offline_db import format_time
from vmmonitor.model.errors import VmmonitorError


def register(subparsers: Any) -> None:
    """Add ``spool`` to the subparsers of ``vmmonitor-manage``."""
    description = "show the agent's spool on this host"
    group = subparsers.add_parser("spool", help=description, description=description)
    verbs = group.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    description = "show the number of waiting events, the oldest one, and the refused events"
    parser = verbs.add_parser("show", help=description, description=description)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, with all refused events"
    )
    parser.set_defaults(run=show)


def show(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print the contents of the spool; return 0, or 1 if there is no spool."""
    path = conf.spool.path
    if not os.path.exists(path):
        print(f"vmmonitor-manage: there is no spool at {path}", file=sys.stderr)
        return 1
    try:
        with contextlib.closing(
            Spool(path, conf.spool.max_events, conf.spool.max_bytes, read_only=True)
        ) as spool:
            found = _read(spool)
    except VmmonitorError as error:
        print(f"vmmonitor-manage: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2) if args.json else _format(found))
    return 0


def _read(spool: Spool) -> dict[str, Any]:
    oldest = spool.read(1)
    return {
        "path": spool.path,
        "depth": spool.depth,
        "oldest": format_time(oldest[0].body["occurred_at"]) if oldest else None,
        "known_instances": len(spool.known()),
        "refused_count": spool.refused_count,
        "refused": [
            {
                "event_id": refused.event_id,
                "refused_at": format_time(refused.refused_at),
                "reason": refused.reason,
                "event": refused.body,
            }
            for refused in spool.refused()
        ],
    }


def _format(found: dict[str, Any]) -> str:
    lines = [
        f"spool:     {found['path']}",
        f"depth:     {found['depth']} events not acknowledged",
        f"oldest:    {found['oldest'] or '-'}",
        f"instances: {found['known_instances']} remembered",
        f"refused:   {found['refused_count']}",
    ]
    for refused in found["refused"]:
        type_ = refused["event"].get("type")
        event = f"{refused['event_id']}  {type_}: {refused['reason']}"
        lines.append(f"  {refused['refused_at']}  {event}")
    return "\n".join(lines)
