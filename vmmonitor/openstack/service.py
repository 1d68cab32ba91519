# SPDX-License-Identifier: Apache-2.0
"""Asks one service of OpenStack, as a user of keystone's."""

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any

from keystoneauth1 import adapter, loading
from keystoneauth1 import exceptions as errors
from oslo_config import cfg

from vmmonitor.model.errors import Retriable

#: Seconds for an answer, unless the operator says otherwise.
TIMEOUT = 10


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a service answered.

    :param status: HTTP's status code.
    :param body: the JSON object in it; empty if there is none.
    """

    status: int
    body: Mapping[str, Any]

    @property
    def is_good(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300


class Service:
    """One session with keystone and a service, for any thread."""

    def __init__(
        self, conf: cfg.ConfigOpts, group: str, service_type: str, auth_section: str = ""
    ):
        """Register the options; connect to nothing yet.

        :param group: of the configuration: how to log in (which ``auth_section`` may leave to
            another group), which certificates to trust, how long to wait, where the service is.
        :param service_type: under which keystone's catalog lists it.
        :param auth_section: group that says how to log in, unless the operator names another.
        """
        self._conf = conf
        self._group = group
        self._guard = threading.Lock()
        self._adapter: adapter.Adapter | None = None
        loading.register_session_conf_options(conf, group)
        loading.register_adapter_conf_options(conf, group, include_deprecated=False)
        loading.register_auth_conf_options(conf, group)
        conf.set_default("timeout", TIMEOUT, group=group)
        conf.set_default("service_type", service_type, group=group)
        if auth_section:
            conf.set_default("auth_section", auth_section, group=group)

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        microversion: str | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Return what the service answers, whatever its status.

        :param method: of HTTP.
        :param body: JSON value to send; None sends none.
        :param timeout: seconds to wait for each part of the answer, if less than ``timeout`` of
            the group.
        :raises vmmonitor.model.errors.Retriable: nothing came that can be read: neither the
            caller nor the service knows whether it was done.
        """
        waiting = self._conf[self._group].timeout
        if timeout is not None:
            waiting = min(timeout, waiting or timeout)
        try:
            response = self._connection().request(
                path,
                method,
                params=dict(query or {}),
                microversion=microversion,
                raise_exc=False,
                timeout=waiting,
                **({} if body is None else {"json": body}),
            )
        except (errors.ClientException, cfg.Error, OSError) as error:
            raise Retriable(_words(error)) from error
        try:
            answer = response.json() if response.content else {}
        except (ValueError, RecursionError) as error:
            # A refusal may come as a page for people.
            if response.ok:
                raise Retriable(f"its answer to {path} is not JSON") from error
            answer = {}
        return Answer(
            status=response.status_code, body=answer if isinstance(answer, Mapping) else {}
        )

    def user_id(self) -> str:
        """Return our own id, as keystone has it; empty where nobody logs in.

        :raises vmmonitor.model.errors.Retriable: keystone does not answer.
        """
        try:
            return str(self._connection().get_user_id() or "")
        except (errors.ClientException, cfg.Error, OSError) as error:
            raise Retriable(_words(error)) from error

    def _connection(self) -> adapter.Adapter:
        with self._guard:
            if self._adapter is None:
                auth = loading.load_auth_from_conf_options(self._conf, self._group)
                if auth is None:
                    raise Retriable(f"[{self._group}] auth_type is not set: who is to log in?")
                session = loading.load_session_from_conf_options(
                    self._conf, self._group, auth=auth
                )
                self._adapter = loading.load_adapter_from_conf_options(
                    self._conf, self._group, session=session, auth=auth
                )
            return self._adapter


def _words(error: Exception) -> str:
    # The rest is the library's word on its sockets.
    word = str(error).partition(": HTTP")[0]
    return f"{type(error).__name__}: {word}"[:200]


def opts() -> list[cfg.Opt]:
    """Return keystoneauth's options of such a group, for the sample file."""
    return [
        *loading.get_session_conf_options(),
        *loading.get_adapter_conf_options(include_deprecated=False),
        *loading.get_auth_common_conf_options(),
        *loading.get_auth_plugin_conf_options("password"),
    ]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options of keystoneauth), for the sample file."""
    return [(group, opts()) for group in GROUPS]


#: The groups that tell how to reach a service.
GROUPS = ("nova", "glance", "masakari", "mistral")
