# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage spool ...``: what waits on this host."""

import argparse
import contextlib
import datetime
import json
import os
import sys
from typing import Any

from oslo_config import cfg

from vmmonitor.agent.spool import Spool
from vmmonitor.model.errors import VmmonitorError


def register(subparsers: Any) -> None:
    """Add ``spool`` to the sub-commands of an argparse parser."""
    what = "the agent's outbox on this host"
    group = subparsers.add_parser("spool", help=what, description=what)
    verbs = group.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    what = "tell how much waits, since when, and what was refused"
    parser = verbs.add_parser("show", help=what, description=what)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object, with all that was refused"
    )
    parser.set_defaults(run=show)


def show(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print depth, oldest and refused; 0, or 1 if there is no spool."""
    path = conf.spool.path
    if not os.path.exists(path):
        print(f"vmmonitor-manage: there is no spool at {path}", file=sys.stderr)
        return 1
    try:
        with contextlib.closing(
            Spool(path, conf.spool.max_events, conf.spool.max_bytes, read_only=True)
        ) as spool:
            found = _found(spool)
    except VmmonitorError as error:
        print(f"vmmonitor-manage: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2) if args.json else _text(found))
    return 0


def _found(spool: Spool) -> dict[str, Any]:
    oldest = spool.read(1)
    return {
        "path": spool.path,
        "depth": spool.depth,
        "oldest": _time(oldest[0].body["occurred_at"]) if oldest else None,
        "known_instances": len(spool.known()),
        "refused_count": spool.refused_count,
        "refused": [
            {
                "event_id": one.event_id,
                "refused_at": _time(one.refused_at),
                "reason": one.reason,
                "event": one.body,
            }
            for one in spool.refused()
        ],
    }


def _text(found: dict[str, Any]) -> str:
    lines = [
        f"spool:     {found['path']}",
        f"depth:     {found['depth']} events not acknowledged",
        f"oldest:    {found['oldest'] or '-'}",
        f"instances: {found['known_instances']} remembered",
        f"refused:   {found['refused_count']}",
    ]
    lines += [
        f"  {one['refused_at']}  {one['event_id']}  {one['event'].get('type')}: {one['reason']}"
        for one in found["refused"]
    ]
    return "\n".join(lines)


def _time(microseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(microseconds / 1_000_000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
