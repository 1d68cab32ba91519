# SPDX-License-Identifier: Apache-2.0
"""Client of mistral: read workflows, start executions and read their state."""

import dataclasses
import enum
import json
from collections.abc import Mapping
from typing import Any

from vmmonitor import text
from vmmonitor.model.errors import Retriable
from vmmonitor.openstack.service import Service, ServiceResponse

#: Maximum number of executions that are read for one description.
MAX_EXECUTIONS = 100
EXECUTION_FIELDS = "id,workflow_id,state,state_info"


class ExecutionState(enum.StrEnum):
    """The state of an execution in mistral."""

    IDLE = "IDLE"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"


#: States that only an operator can change.
FINAL_STATES = frozenset({ExecutionState.SUCCESS, ExecutionState.ERROR, ExecutionState.CANCELLED})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Workflow:
    """The definition of a workflow.

    :param required: names of the inputs without a default.
    :param optional: names of the inputs with a default.
    """

    id: str
    name: str
    required: frozenset[str]
    optional: frozenset[str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """One run of a workflow.

    :param state: usually one of ExecutionState.
    :param state_info: text of mistral, many lines for a failure; usually ''.
    """

    id: str
    workflow_id: str
    state: str
    state_info: str = ""


class MistralAPI(Service):
    """A client of mistral."""

    GROUP = "mistral"
    SERVICE_TYPE = "workflowv2"

    def get_workflow(self, identifier: str, timeout: float) -> Workflow | ServiceResponse:
        """Return a workflow, or the response if it is an error.

        :param identifier: name or id.
        """
        path = text.url_path("workflows", identifier)
        response = self.request("GET", path, timeout=timeout)
        return _read_workflow(response.body) if response.is_success else response

    def start_execution(
        self,
        execution_id: str,
        workflow: Workflow,
        inputs: Mapping[str, Any],
        description: str,
        timeout: float,
    ) -> Execution | ServiceResponse:
        """Start a workflow and return its execution, or the response if it is an error.

        :param execution_id: a UUID. A repeated request with the same id returns the existing
            execution.
        :param inputs: input of the workflow.
        """
        body = {
            "id": execution_id,
            "workflow_id": workflow.id,
            "input": inputs,
            "description": description,
        }
        response = self.request("POST", "/executions", body=body, timeout=timeout)
        return _read_execution(response.body) if response.is_success else response

    def get_execution(self, execution_id: str, timeout: float) -> Execution | None:
        """Return an execution, or None if it does not exist."""
        query = {"fields": EXECUTION_FIELDS}
        body = self._get_or_none(text.url_path("executions", execution_id), query, timeout)
        return None if body is None else _read_execution(body)

    def list_executions(self, description: str, timeout: float) -> list[Execution]:
        """Return the executions with exactly this description, newest first."""
        query = {
            "description": description,
            "fields": EXECUTION_FIELDS,
            "limit": str(MAX_EXECUTIONS),
            "sort_keys": "created_at",
            "sort_dirs": "desc",
        }
        found = self._get_list("/executions", "executions", query, timeout)
        return [_read_execution(form) for form in found]


def _read_workflow(found: Any) -> Workflow:
    """Return a workflow from its JSON form; its interface may be JSON text again.

    :raises vmmonitor.model.errors.Retriable: the form is invalid.
    """
    try:
        interface = found["interface"]
        if isinstance(interface, str):
            interface = json.loads(interface)
        inputs = interface.get("input", [])
        return Workflow(
            id=_read_text(found["id"]),
            name=_read_text(found["name"]),
            required=frozenset(name for name in inputs if isinstance(name, str)),
            optional=frozenset(
                name for defaults in inputs if isinstance(defaults, dict) for name in defaults
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Retriable("the response contains no valid workflow") from error


def _read_execution(found: Any) -> Execution:
    """Return an execution from its JSON form.

    :raises vmmonitor.model.errors.Retriable: the form is invalid.
    """
    try:
        return Execution(
            id=_read_text(found["id"]),
            workflow_id=_read_text(found["workflow_id"]),
            state=_read_text(found["state"]),
            state_info=str(found.get("state_info") or ""),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise Retriable("the response contains no valid execution") from error


def _read_text(found: Any) -> str:
    if not isinstance(found, str):
        raise TypeError
    return found
