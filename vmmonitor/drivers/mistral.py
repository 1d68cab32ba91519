# SPDX-License-Identifier: Apache-2.0
"""Has mistral run a workflow of the operator's, and follows its execution."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from vmmonitor.drivers import AskAgent, Driver
from vmmonitor.drivers.following import Deadline, complaint, excerpt, failed, follow, refused
from vmmonitor.model.errors import InvalidRules, Retriable
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.openstack import mistral
from vmmonitor.openstack.mistral import Execution, MistralAPI, Workflow
from vmmonitor.openstack.service import Answer

#: The form of the input ``vmmonitor``; it rises when a workflow would have to change.
VERSION = 1
#: The newest events that it tells.
EVENTS = 10
#: Characters of a workflow's name or id.
NAME_LENGTH = 255
#: Seconds for a question of a health check.
CHECK = 10.0


class MistralDriver(Driver):
    """Starts one execution per recovery, whose id it has; what the workflow does is its own."""

    def __init__(self, conf: cfg.ConfigOpts, ask_agent: AskAgent):
        """Register the options; connect to nothing yet."""
        super().__init__(conf, ask_agent)
        self._api = MistralAPI(conf)

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Refuse all but ``workflow``, a name or an id.

        :raises vmmonitor.model.errors.InvalidRules: there is something else.
        """
        workflow = options.get("workflow", "none")
        if not isinstance(workflow, str) or not 0 < len(workflow) <= NAME_LENGTH:
            raise InvalidRules("not the name or id of a workflow", option="workflow")
        super().check_options({name: options[name] for name in options if name != "workflow"})

    def check(self) -> str:
        """Ask for the workflow that ``[mistral] workflow`` names, or whether there are any."""
        name = self.conf.mistral.workflow
        try:
            answer: Workflow | Answer = (
                self._api.workflow(name, CHECK) if name else self._api.workflows(CHECK)
            )
        except Retriable as error:
            return f"it cannot be asked: {error}"
        if isinstance(answer, Workflow):
            return _missing(answer)
        if answer.is_good:
            return ""
        return f"{_about(name)}it {complaint(mistral.GROUP, answer)}"

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Have the workflow run once, and follow it to its end.

        The execution has the id of the recovery, so that asking again starts nothing; all those of
        an incident have the same description, by which one is found that an earlier attempt left.
        """
        name = request.options.get("workflow") or self.conf.mistral.workflow
        if not name:
            return failed("no workflow is named: [mistral] workflow, or the options of the step")
        deadline = Deadline(request.timeout)
        try:
            workflow = self._api.workflow(name, deadline.left())
            if isinstance(workflow, Answer):
                return refused(mistral.GROUP, workflow)
            if missing := _missing(workflow):
                return failed(missing)
            begun = self._unfinished(request, workflow, deadline) or self._start(
                request, workflow, deadline
            )
            if isinstance(begun, Answer):
                return refused(mistral.GROUP, begun)
            return self._follow(begun.id, workflow, deadline)
        except Retriable as error:
            return failed(f"mistral cannot be asked: {error}", retry=True)

    def _unfinished(
        self, request: RecoveryRequest, workflow: Workflow, deadline: Deadline
    ) -> Execution | None:
        for one in self._api.executions(_description(request), deadline.left()):
            if one.workflow_id == workflow.id and one.state not in mistral.ENDS:
                return one
        return None

    def _start(
        self, request: RecoveryRequest, workflow: Workflow, deadline: Deadline
    ) -> Execution | Answer:
        known = told(request)
        given = {name: known[name] for name in known if name in _declared(workflow)}
        return self._api.start(
            *(request.recovery.recovery_id, workflow, given, _description(request)),
            timeout=deadline.left(),
        )

    def _follow(self, execution_id: str, workflow: Workflow, deadline: Deadline) -> Outcome:
        about = f"execution {execution_id} of workflow {workflow.name}"
        state = "unknown"

        def look() -> Outcome | None:
            nonlocal state
            now = self._api.execution(execution_id, deadline.left())
            if now is None:
                return failed(f"mistral has no {about} any more", retry=True)
            state = now.state
            return _outcome(now, about) if state in mistral.ENDS else None

        if outcome := follow(look, deadline, self.conf.mistral.poll_interval):
            return outcome
        return failed(f"{about} is still {state}", retry=True)


def told(request: RecoveryRequest) -> dict[str, Any]:
    """Return every input that a workflow may declare; the same for the same recovery.

    Times are microseconds since the epoch, as everywhere in the model.
    """
    recovery, incident = request.recovery, request.incident
    return {
        "instance_uuid": incident.instance.uuid,
        "host": incident.host,
        "vmmonitor": {
            "version": VERSION,
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
                for event in request.events[-EVENTS:]
            ],
        },
    }


def _declared(workflow: Workflow) -> frozenset[str]:
    return workflow.required | workflow.optional


def _missing(workflow: Workflow) -> str:
    """Tell what a workflow wants that nobody can give it; empty if nothing."""
    missing = sorted(workflow.required - {"instance_uuid", "host", "vmmonitor"})
    if not missing:
        return ""
    return (
        f"workflow {workflow.name} must be given what vmmonitor does not know: "
        f"{', '.join(missing)} (give it a default)"
    )


def _description(request: RecoveryRequest) -> str:
    return f"vmmonitor incident {request.incident.incident_id}"


def _about(name: str) -> str:
    return f"workflow {name}: " if name else ""


def _outcome(now: Execution, about: str) -> Outcome:
    message = f"{about} is {now.state}"
    if now.state_info:
        message += f": {excerpt(now.state_info)}"
    if now.state == mistral.SUCCESS:
        return Outcome(move="wait", message=message)
    # Who cancelled it did not want it to run.
    return failed(message, retry=now.state == mistral.ERROR)
