# SPDX-License-Identifier: Apache-2.0
"""Have mistral run a workflow of the operator, and wait until its execution ends."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from vmmonitor.drivers import Driver, HostAgents
from vmmonitor.drivers.host_checks import HostChecks
from vmmonitor.drivers.polling import (
    CHECK_TIMEOUT,
    MAX_EXCERPT,
    Deadline,
    describe_error,
    fail,
    fail_by_response,
    lost_lease,
    poll,
)
from vmmonitor.model.errors import InvalidRules, Retriable
from vmmonitor.model.recovery import Lease, Outcome, RecoveryRequest
from vmmonitor.model.states import RecoveryTransition
from vmmonitor.openstack.mistral import (
    FINAL_STATES,
    Execution,
    ExecutionState,
    MistralAPI,
    Workflow,
)
from vmmonitor.openstack.service import ServiceResponse
from vmmonitor.text import one_line

#: Version of the input ``vmmonitor``; raised by a change that workflows must follow.
INPUT_VERSION = 1
#: Maximum number of events in the input, the newest ones.
MAX_EVENTS = 10
#: Maximum length of a workflow's name or id.
_MAX_NAME_LENGTH = 255


class MistralDriver(Driver):
    """Starts one execution per recovery, with the id of the recovery."""

    def __init__(self, conf: cfg.ConfigOpts, agents: HostAgents):
        """Register the options; do not connect yet."""
        super().__init__(conf, agents)
        self._api = MistralAPI(conf)

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Accept only ``workflow``, a name or an id.

        :raises vmmonitor.model.errors.InvalidRules: an option is invalid.
        """
        workflow = options.get("workflow", "none")
        if not isinstance(workflow, str) or not 0 < len(workflow) <= _MAX_NAME_LENGTH:
            reason = f"must be the name or id of a workflow, of 1 to {_MAX_NAME_LENGTH} characters"
            raise InvalidRules(reason, option="workflow")
        super().check_options({name: options[name] for name in options if name != "workflow"})

    def check(self) -> str:
        """Read the workflow that ``[mistral] workflow`` names, or the list of workflows."""
        name = self.conf.mistral.workflow
        try:
            found: Workflow | ServiceResponse = (
                self._api.get_workflow(name, CHECK_TIMEOUT)
                if name
                else self._api.probe("/workflows", CHECK_TIMEOUT)
            )
        except Retriable as error:
            return _request_failed(error)
        if isinstance(found, Workflow):
            return _missing_inputs(found)
        if found.is_success:
            return ""
        subject = f"workflow {name}: " if name else ""
        return f"{subject}mistral {describe_error(MistralAPI.GROUP, found)}"

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Have the workflow run once, and wait for the end.

        The execution has the id of the recovery, so that a repeated request starts nothing. The
        executions of one incident share a description, to find one of an earlier attempt.
        """
        name = request.options.get("workflow") or self.conf.mistral.workflow
        if not name:
            return fail("no workflow is set: set [mistral] workflow or the option of the step")
        deadline = Deadline(request.timeout)
        try:
            workflow = self._api.get_workflow(name, deadline.remaining())
            if isinstance(workflow, ServiceResponse):
                return fail_by_response(MistralAPI.GROUP, workflow)
            if missing := _missing_inputs(workflow):
                return fail(missing)
            execution: Execution | ServiceResponse | None
            execution = self._find_unfinished(request, workflow, deadline)
            if execution is None:
                checks = HostChecks(self.agents, request, deadline.remaining)
                if reason := checks.deny_restart(needs_answer=False):
                    return fail(reason, retry=True)
                if not request.lease.is_held():
                    return lost_lease()
            execution = execution or self._start(request, workflow, deadline)
            if isinstance(execution, ServiceResponse):
                return fail_by_response(MistralAPI.GROUP, execution)
            return self._wait(execution.id, workflow, deadline, request.lease)
        except Retriable as error:
            return fail(_request_failed(error), retry=True)

    def _find_unfinished(
        self, request: RecoveryRequest, workflow: Workflow, deadline: Deadline
    ) -> Execution | None:
        executions = self._api.list_executions(_description(request), deadline.remaining())
        for execution in executions:
            if execution.workflow_id == workflow.id and execution.state not in FINAL_STATES:
                return execution
        return None

    def _start(
        self, request: RecoveryRequest, workflow: Workflow, deadline: Deadline
    ) -> Execution | ServiceResponse:
        declared = workflow.required | workflow.optional
        inputs = {
            name: value for name, value in workflow_inputs(request).items() if name in declared
        }
        return self._api.start_execution(
            request.recovery.recovery_id,
            workflow,
            inputs,
            _description(request),
            timeout=deadline.remaining(),
        )

    def _wait(
        self, execution_id: str, workflow: Workflow, deadline: Deadline, lease: Lease
    ) -> Outcome:
        label = f"execution {execution_id} of workflow {workflow.name}"
        state = "unknown"

        def check() -> Outcome | None:
            nonlocal state
            execution = self._api.get_execution(execution_id, deadline.remaining())
            if execution is None:
                return fail(f"mistral no longer has {label}", retry=True)
            state = execution.state
            return _outcome(execution, label) if state in FINAL_STATES else None

        if outcome := poll(check, deadline, self.conf.mistral.poll_interval, lease):
            return outcome
        return fail(f"{label} did not end in time: its state is {state}", retry=True)


def workflow_inputs(request: RecoveryRequest) -> dict[str, Any]:
    """Return all inputs that a workflow may declare; the same for each call of a recovery.

    Times are microseconds since the epoch.
    """
    recovery, incident = request.recovery, request.incident
    return {
        "instance_uuid": incident.instance.uuid,
        "host": incident.host,
        "vmmonitor": {
            "version": INPUT_VERSION,
            "incident": {
                "incident_id": incident.incident_id,
                "instance": dataclasses.asdict(incident.instance),
                "host": incident.host,
                "cause": incident.cause,
                "severity": incident.severity,
                "reason": incident.reason,
                "priority": incident.priority,
                "shared_cause": incident.shared_cause,
                "opened_at": incident.opened_at,
                "event_count": incident.event_count,
            },
            "recovery": {
                "recovery_id": recovery.recovery_id,
                "policy": recovery.policy,
                "step": recovery.step,
                "attempt": recovery.attempt,
                "created_at": recovery.created_at,
            },
            "events": [
                {
                    "event_id": event.event_id,
                    "type": event.type,
                    "detail": event.detail,
                    "source": event.source,
                    "occurred_at": event.occurred_at,
                    "attributes": dict(event.attributes),
                }
                for event in request.events[-MAX_EVENTS:]
            ],
        },
    }


def _missing_inputs(workflow: Workflow) -> str:
    """Return an error if the workflow requires inputs that are not available, else ''."""
    missing = sorted(workflow.required - {"instance_uuid", "host", "vmmonitor"})
    if not missing:
        return ""
    return (
        f"workflow {workflow.name} requires inputs that vmmonitor does not provide: "
        f"{', '.join(missing)} (give them a default)"
    )


def _description(request: RecoveryRequest) -> str:
    return f"vmmonitor incident {request.incident.incident_id}"


def _request_failed(error: Retriable) -> str:
    return f"the request to mistral failed: {error}"


def _outcome(execution: Execution, label: str) -> Outcome:
    message = f"{label} is {execution.state}"
    if execution.state_info:
        message += f": {one_line(execution.state_info, MAX_EXCERPT)}"
    if execution.state == ExecutionState.SUCCESS:
        return Outcome(move=RecoveryTransition.WAIT, message=message)
    # A cancelled execution was stopped by an operator, so it is not repeated.
    return fail(message, retry=execution.state == ExecutionState.ERROR)
