# SPDX-License-Identifier: Apache-2.0
"""Asks mistral's API: which workflows there are, what becomes of their executions."""

import dataclasses
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from vmmonitor.model.errors import Retriable
from vmmonitor.openstack.service import Answer, Service

GROUP = "mistral"
SERVICE_TYPE = "workflowv2"
#: Executions of one description that are looked at.
MOST = 100
FIELDS = "id,workflow_id,state,state_info"

SUCCESS = "SUCCESS"
ERROR = "ERROR"
CANCELLED = "CANCELLED"
#: The states that an execution leaves only if a person wants it to.
ENDS = frozenset({SUCCESS, ERROR, CANCELLED})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Workflow:
    """A workflow's definition.

    :param required: names of the inputs that it must be given.
    :param optional: names of those that it has a default for.
    """

    id: str
    name: str
    required: frozenset[str]
    optional: frozenset[str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """One run of a workflow.

    :param state: ``IDLE``, ``RUNNING``, ``PAUSED``, or one of ENDS.
    :param state_info: mistral's own word on it, many lines if it failed; mostly empty.
    """

    id: str
    workflow_id: str
    state: str
    state_info: str = ""


class MistralAPI:
    """One session with keystone and mistral, for any thread.

    Everything raises ``vmmonitor.model.errors.Retriable`` if mistral does not answer, or not what
    was asked; ``timeout`` is the seconds to wait for it.
    """

    def __init__(self, conf: cfg.ConfigOpts):
        """Register the options; connect to nothing yet."""
        self._service = Service(conf, GROUP, SERVICE_TYPE)

    def workflow(self, identifier: str, timeout: float) -> Workflow | Answer:
        """Return a workflow; the answer if it is another.

        :param identifier: name or id.
        """
        path = "/workflows/" + urllib.parse.quote(identifier, safe="")
        answer = self._service.ask("GET", path, timeout=timeout)
        return _workflow(answer.body) if answer.is_good else answer

    def workflows(self, timeout: float) -> Answer:
        """Return what mistral answers to the question for one workflow."""
        return self._service.ask("GET", "/workflows", query={"limit": "1"}, timeout=timeout)

    def start(
        self,
        execution_id: str,
        workflow: Workflow,
        given: Mapping[str, Any],
        description: str,
        timeout: float,
    ) -> Execution | Answer:
        """Start a workflow, unless there is such an execution; return it, or another answer.

        :param execution_id: a UUID. Whoever asks again with the same one gets the same execution.
        :param given: the workflow's input.
        """
        body = {
            "id": execution_id,
            "workflow_id": workflow.id,
            "input": given,
            "description": description,
        }
        answer = self._service.ask("POST", "/executions", body=body, timeout=timeout)
        return _execution(answer.body) if answer.is_good else answer

    def execution(self, execution_id: str, timeout: float) -> Execution | None:
        """Return an execution; None if there is none, or no more."""
        path = f"/executions/{execution_id}"
        answer = self._service.ask("GET", path, query={"fields": FIELDS}, timeout=timeout)
        # A proxy in front of mistral has a 404 too, but not these words.
        if answer.status == 404 and "faultstring" in answer.body:
            return None
        if not answer.is_good:
            raise Retriable(f"it answers {answer.status} to {path}")
        return _execution(answer.body)

    def executions(self, description: str, timeout: float) -> list[Execution]:
        """Return the executions with this very description, the newest first."""
        query = {"description": description, "fields": FIELDS, "limit": str(MOST)}
        query |= {"sort_keys": "created_at", "sort_dirs": "desc"}
        answer = self._service.ask("GET", "/executions", query=query, timeout=timeout)
        found = answer.body.get("executions")
        if not answer.is_good or not isinstance(found, list):
            raise Retriable(f"it answers {answer.status} to a list of executions")
        return [_execution(one) for one in found]


def _workflow(found: Any) -> Workflow:
    """Return a workflow as mistral's API shows it: what it declares is JSON within JSON.

    :raises vmmonitor.model.errors.Retriable: it cannot be read.
    """
    try:
        interface = found["interface"]
        if isinstance(interface, str):
            interface = json.loads(interface)
        inputs = interface.get("input", [])
        return Workflow(
            id=_text(found["id"]),
            name=_text(found["name"]),
            required=frozenset(one for one in inputs if isinstance(one, str)),
            optional=frozenset(name for one in inputs if isinstance(one, dict) for name in one),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Retriable("its answer is no workflow") from error


def _execution(found: Any) -> Execution:
    """Return an execution as mistral's API shows it.

    :raises vmmonitor.model.errors.Retriable: it cannot be read.
    """
    try:
        return Execution(
            id=_text(found["id"]),
            workflow_id=_text(found["workflow_id"]),
            state=_text(found["state"]),
            state_info=str(found.get("state_info") or ""),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise Retriable("its answer is no execution") from error


def _text(found: Any) -> str:
    if not isinstance(found, str):
        raise TypeError
    return found
