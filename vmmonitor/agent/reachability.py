# SPDX-License-Identifier: Apache-2.0
"""Which sources are connected to what they watch."""

from oslo_log import log

from vmmonitor.agent.signals import StatusChanges
from vmmonitor.model.event import Reachability

LOG = log.getLogger(__name__)


class ReachabilityTracker:
    """Remembers the last reachability report of each source, and logs the changes."""

    def __init__(self, changes: StatusChanges):
        """Start without any report."""
        #: Source -> its last report. Written by the pipeline thread only.
        self.reports: dict[str, Reachability] = {}
        self._changes = changes
        #: Source -> why its listings are not believed. Written by the pipeline thread only.
        self.doubts: dict[str, str] = {}

    def update(self, report: Reachability) -> None:
        """Store a report; log and announce it if the reachability has changed."""
        before = self.reports.get(report.source)
        self.reports[report.source] = report
        if before is not None and before.reachable == report.reachable:
            return
        if report.reachable:
            LOG.info("Source %s is connected", report.source)
        else:
            LOG.warning("Source %s is not connected, retrying: %s", report.source, report.reason)
        self._changes.announce()

    def update_doubt(self, source: str, reason: str) -> None:
        """Store why a source is not believed; log and announce a change.

        :param reason: empty if the source is believed.
        """
        if self.doubts.get(source, "") == reason:
            return
        if reason:
            LOG.warning("Source %s is not believed, its instances are unknown: %s", source, reason)
        else:
            LOG.info("Source %s is believed again", source)
        self.doubts = {source: reason} if reason else {}
        self._changes.announce()

    def is_reachable(self, source: str) -> bool:
        """Return whether a source has reported that it is connected."""
        report = self.reports.get(source)
        return report is not None and report.reachable
