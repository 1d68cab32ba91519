# SPDX-License-Identifier: Apache-2.0
"""Limits on the recoveries of one instance: the restart budget, then flapping.

Both use the same history of the instance, which is read once.
"""

from oslo_config import cfg

from vmmonitor.db import limits
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission.budget import check_budget
from vmmonitor.engine.admission.check import Denied
from vmmonitor.engine.admission.flapping import check_flapping
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import Incident
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policy


class RestartCheck:
    """Denies the recovery of an instance that was recovered too often."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Read the options at each check, as a reload may change them."""
        self._conf = conf

    def check(
        self, tx: Transaction, incident: Incident, policy: Policy | None, now: int
    ) -> Denied | None:
        """Return why the instance's history denies a recovery; see ``AdmissionCheck``."""
        if policy is None:
            return None
        options = self._conf.limits
        max_restarts = options.max_restarts if policy.max_restarts is None else policy.max_restarts
        window = options.restart_window if policy.restart_window is None else policy.restart_window
        if max_restarts == WITHOUT_LIMIT and not options.flap_window:
            return None
        since = now - round(max(window, options.flap_window) * SECOND)
        earlier = limits.list_earlier_recoveries(
            tx, incident.instance.uuid, incident.incident_id, since
        )
        return check_budget(earlier, max_restarts, window, now) or check_flapping(
            earlier=earlier,
            failed_at=incident.opened_at,
            window=options.flap_window,
            backoff=options.flap_backoff,
            backoff_max=options.flap_backoff_max,
            now=now,
        )
