# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage broker ...``: the permissions of a host on the message broker."""

import argparse
import re
import shlex
from typing import Any

from oslo_config import cfg

from vmmonitor.cmd import arguments
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.transport import AGENT_TOPIC, ENGINE_TOPIC, EXCHANGE

#: Names of the queues and exchanges that oslo.messaging creates for replies and broadcasts.
_REPLY = "reply_[0-9a-f]{32}"
_FANOUT = "_fanout(_[0-9a-f]{32})?"


def register(subparsers: Any) -> None:
    """Add ``broker`` to the subparsers of ``vmmonitor-manage``."""
    description = "print the commands that limit a host on the message broker"
    group = subparsers.add_parser("broker", help=description, description=description)
    verbs = group.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    description = "print the rabbitmqctl commands that create the user of a host's agent"
    parser = verbs.add_parser("permissions", help=description, description=description)
    parser.add_argument("host", metavar="HOST", type=arguments.host_name, help="name of the host")
    parser.add_argument(
        "--vhost", help="virtual host of the broker (default: the one of transport_url)"
    )
    parser.add_argument("--user", help="name of the user (default: vmmonitor-HOST)")
    parser.set_defaults(run=print_permissions)


def print_permissions(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print the commands; return 0."""
    transports.register_library_options(conf)
    vhost = args.vhost or transports.configured_vhost(conf)
    user = args.user or f"vmmonitor-{args.host}"
    print("\n".join(commands(args.host, vhost, user)))
    return 0


def commands(host: str, vhost: str, user: str) -> list[str]:
    """Return the commands, one a line, after a comment.

    :param vhost: virtual host of the broker.
    :param user: name of the user that they create.
    """
    name = re.escape(host)
    agent = f"{AGENT_TOPIC}(\\.{name}|{_FANOUT})?"
    own = f"{_REPLY}|{agent}|{EXCHANGE}"
    place, who = shlex.quote(vhost), shlex.quote(user)
    # Answers go to the default exchange, by the name of the reply queue.
    permissions = (f"^({own})$", f"^({own}|amq\\.default)$", f"^({own})$")
    topics = (f"^{ENGINE_TOPIC}$", f"^{AGENT_TOPIC}(\\.{name})?$")
    return [
        "# Replace PASSWORD, and use it in transport_url on the host.",
        f"rabbitmqctl add_user {who} PASSWORD",
        f"rabbitmqctl set_permissions -p {place} {who} {shlex.join(permissions)}",
        f"rabbitmqctl set_topic_permissions -p {place} {who} {EXCHANGE} {shlex.join(topics)}",
    ]
