# SPDX-License-Identifier: Apache-2.0
"""Options of the REST API."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "api",
    title="REST API",
    help="""
Options of the REST API, both in a WSGI server (``vmmonitor.wsgi.api:application``) and in
``vmmonitor-standalone``.
""",
)

OPTS = [
    cfg.StrOpt(
        "auth_strategy",
        default="noauth",
        choices=[
            ("noauth", "no keystone; only programs on this host with a token are served"),
        ],
        help="""
Authentication strategy for API requests.

With ``noauth`` a request over TCP must come from the loopback interface, must not have been
forwarded by a proxy, and must have the token in ``token_file``. A request through ``socket_path``
needs no token.
""",
    ),
    cfg.StrOpt(
        "token_file",
        default="$state_path/api.token",
        help="""
File with the token that a request over TCP must have in its header ``X-Auth-Token`` if
``auth_strategy`` is ``noauth``. It is created with a random token if it does not exist.

Only the user of the API can read it (mode 0600). Each user who can read the token can read all
events and change everything that the API can change. To replace the token, delete the file and
restart the API.
""",
    ),
    cfg.StrOpt(
        "socket_path",
        default="$state_path/api.sock",
        help="""
Unix socket of the API in ``vmmonitor-standalone``. A WSGI server ignores it.

The user and the group of the process can connect (mode 0660), without a token. The name of the
connecting user is the author of the changes. The path may have up to 107 characters; change it if
``state_path`` is longer.
""",
    ),
    cfg.IntOpt(
        "max_limit",
        default=1000,
        min=1,
        max=100000,
        help="""
Maximum number of items in one response. A request with a larger ``limit`` gets this number of
items and a link to the next page.

Decrease it to protect the database and the API from large responses. The default value is fine
for most deployments.
""",
    ),
    cfg.IntOpt(
        "max_silence_duration",
        default=30 * 86400,
        min=60,
        max=10 * 365 * 86400,
        help="""
Maximum duration of a silence, in seconds. A request for a longer silence is rejected.

The limit prevents forgotten silences. Increase it if your maintenance periods are longer.
""",
    ),
    cfg.HostAddressOpt(
        "bind_host",
        default="127.0.0.1",
        help="""
Listen address of the API over TCP in ``vmmonitor-standalone``. A WSGI server ignores it and uses
its own setting.

Related options: ``bind_port``, ``auth_strategy``.
""",
    ),
    cfg.PortOpt(
        "bind_port",
        default=15869,
        help="""
TCP port of the API in ``vmmonitor-standalone``. A WSGI server ignores it and uses its own
setting.

Change it if another service uses the port. Related options: ``bind_host``.
""",
    ),
]
