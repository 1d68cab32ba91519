# SPDX-License-Identifier: Apache-2.0
"""Log the incident and do nothing else, for trying out filters and policies."""

from oslo_log import log

from vmmonitor.drivers import Driver
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.model.states import RecoveryTransition

LOG = log.getLogger(__name__)


class LogDriver(Driver):
    """Writes one line to the engine's log."""

    def recover(self, request: RecoveryRequest) -> Outcome:
        """Write the line; this always succeeds."""
        incident, recovery = request.incident, request.recovery
        LOG.info(
            "Instance %s on host %s needs recovery: %s (incident %s, recovery %s, policy %s)",
            recovery.instance_uuid,
            incident.host,
            incident.cause,
            incident.incident_id,
            recovery.recovery_id,
            recovery.policy,
        )
        return Outcome(move=RecoveryTransition.SUCCEED, message="logged only")
