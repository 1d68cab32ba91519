# SPDX-License-Identifier: Apache-2.0
"""Find signs that people or other programs use the account of ``[nova]``.

The driver and the expectation recognize vmmonitor's own actions by their user. A server that a
person stops with the same account looks like one that vmmonitor stopped, and would be started.
"""

import itertools
from collections.abc import Iterator

from oslo_config import cfg

from vmmonitor.openstack.nova import NovaAPI

#: Maximum number of servers whose actions are read.
MAX_SERVERS = 20
#: Names of accounts that belong to a person or to another service.
SHARED_NAMES = frozenset(
    {
        *(
            "admin",
            "cinder",
            "cyborg",
            "glance",
            "heat",
            "horizon",
            "ironic",
            "keystone",
            "manila",
        ),
        *("masakari", "mistral", "neutron", "nova", "octavia", "placement", "root", "watcher"),
    }
)
#: Actions that vmmonitor requests.
OWN_ACTIONS = frozenset({"reboot", "stop", "start", "evacuate", "resetState"})


def find_signs(conf: cfg.ConfigOpts, api: NovaAPI) -> Iterator[str]:
    """Yield the signs, for an operator. A shared account may have none of them.

    :raises vmmonitor.model.errors.Retriable: nova does not respond.
    """
    name = str(conf.nova.get("username") or "")
    if name.lower() in SHARED_NAMES:
        yield f"the user of [nova] is {name}, which other programs or people use"
    user_id = api.user_id()
    for server in itertools.islice(api.list_servers(None, MAX_SERVERS), MAX_SERVERS):
        uuid = str(server.get("id"))
        for action in api.list_actions(uuid):
            kind = str(action.get("action"))
            if action.get("user_id") == user_id and kind not in OWN_ACTIONS:
                yield f"the user of [nova] requested {kind} of server {uuid}; vmmonitor never does"
                return
