# SPDX-License-Identifier: Apache-2.0
"""Comparison of the desired with the observed state, row by row."""

import unittest

from hypothesis import given
from hypothesis import strategies as st

from vmmonitor.engine.reconcile import drift
from vmmonitor.engine.reconcile.drift import AGREES, UNKNOWN, compare
from vmmonitor.model import instance as states
from vmmonitor.model import observed
from vmmonitor.model.desired import DesiredState, DesiredStatus
from vmmonitor.model.drift import Drift
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.model.observed import ObservedInstance

UUID = "7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a11"
TRUSTED = {"a", "b"}


def desired(state=DesiredStatus.RUNNING, host="a"):
    return DesiredState(instance=Instance(uuid=UUID), host=host, state=state)


def seen_on(words, host="a", present=True, **changes):
    state, _, reason = words.partition("/")
    seen = Seen(instance=Instance(uuid=UUID, name="web"), state=state, reason=reason, **changes)
    return ObservedInstance(host=host, seen=seen, present=present)


def result(expected, *observations, trusted=TRUSTED):
    found = compare(expected, observations, trusted)
    if not isinstance(found, Drift):
        return found
    return f"{found.type.removeprefix('reconcile.')}/{found.detail} {','.join(found.hosts)}"


RUNS = seen_on("running/booted")
RUNS_B = seen_on("running/booted", "b")
ROWS = [
    # desired state, observed instances, result
    (desired(), [RUNS], AGREES),
    (desired(), [], "missing/ a"),
    (desired(), [seen_on("running/booted", present=False)], "missing/ a"),
    (desired(), [seen_on("shutoff/failed")], "not_running/failed a"),
    (desired(), [seen_on("shutoff/destroyed")], "not_running/destroyed a"),
    (desired(), [seen_on("shutoff/vanished", persistent=False)], "missing/vanished a"),
    (desired(), [seen_on("crashed/panicked")], "not_running/panicked a"),
    (desired(), [seen_on("paused/ioerror")], "paused/ioerror a"),
    (desired(), [seen_on("paused/user")], "paused/user a"),
    (desired(), [seen_on("paused/migration")], UNKNOWN),
    (desired(), [seen_on("paused/save")], UNKNOWN),
    (desired(), [seen_on("pmsuspended/memory")], AGREES),
    (desired(), [seen_on("unknown-0/error")], UNKNOWN),
    (desired(), [seen_on("shutoff/migrated")], UNKNOWN),
    # It may be elsewhere.
    (desired(), [RUNS_B], "wrong_host/booted b"),
    (desired(), [seen_on("shutoff/destroyed"), RUNS_B], "wrong_host/booted b"),
    (desired(), [seen_on("paused/migration", "b")], UNKNOWN),
    (desired(), [seen_on("running/booted", "late")], UNKNOWN),
    (desired(), [seen_on("shutoff/failed", "late")], "missing/ a"),
    (desired(host=""), [RUNS_B], AGREES),
    (desired(host=""), [], UNKNOWN),
    # Its host is not trusted.
    (desired(host="late"), [], UNKNOWN),
    (desired(host="late"), [seen_on("shutoff/failed", "late")], UNKNOWN),
    (desired(host="never"), [], UNKNOWN),
    (desired(host="late"), [RUNS], "wrong_host/booted a"),
    # On two hosts.
    (desired(), [RUNS, RUNS_B], "two_hosts/ a,b"),
    (desired(host="b"), [RUNS_B, RUNS], "two_hosts/ a,b"),
    (desired(DesiredStatus.STOPPED), [RUNS, RUNS_B], "two_hosts/ a,b"),
    (None, [RUNS, RUNS_B], "two_hosts/ a,b"),
    (desired(), [RUNS, seen_on("running/booted", "late")], AGREES),
    (None, [RUNS, seen_on("running/booted", "late")], AGREES),
    (desired(), [RUNS, seen_on("paused/migration", "b")], AGREES),
    (desired(), [RUNS, seen_on("running/booted", "b", present=False)], AGREES),
    (desired(DesiredStatus.BUSY), [RUNS, RUNS_B], UNKNOWN),
    (desired(DesiredStatus.BUSY), [], UNKNOWN),
    # It should not run.
    (desired(DesiredStatus.STOPPED), [RUNS], "unexpected/booted a"),
    (desired(DesiredStatus.GONE), [RUNS_B], "unexpected/booted b"),
    (desired(DesiredStatus.PAUSED), [RUNS], "unexpected/booted a"),
    (desired(DesiredStatus.PAUSED), [seen_on("paused/user")], AGREES),
    (desired(DesiredStatus.STOPPED), [seen_on("shutoff/destroyed")], AGREES),
    (desired(DesiredStatus.STOPPED), [], AGREES),
    (desired(DesiredStatus.GONE), [], AGREES),
    (desired(DesiredStatus.GONE), [seen_on("running/booted", "late")], AGREES),
    (None, [RUNS], AGREES),
    (None, [], AGREES),
]

OBSERVED = st.lists(
    st.builds(
        seen_on,
        st.sampled_from(
            ["running/booted", "paused/user", "paused/migration", "shutoff/failed"]
            + ["shutoff/migrated", "crashed/panicked", "unknown-0/error"]
        ),
        st.sampled_from(["a", "b", "late", "never"]),
        st.booleans(),
        persistent=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda one: one.host,
)
DESIRED = st.none() | st.builds(
    desired,
    st.sampled_from(
        [
            DesiredStatus.RUNNING,
            DesiredStatus.STOPPED,
            DesiredStatus.PAUSED,
            DesiredStatus.BUSY,
            DesiredStatus.GONE,
        ],
    ),
    st.sampled_from(["a", "b", "late", "never", ""]),
)


class CompareTest(unittest.TestCase):
    def test_each_row(self):
        for expected, observations, said in ROWS:
            self.assertEqual(said, result(expected, *observations), (expected, observations))

    @given(DESIRED, OBSERVED)
    def test_drift_names_trusted_hosts_only(self, expected, observations):
        found = compare(expected, observations, TRUSTED)
        if isinstance(found, Drift):
            self.assertLessEqual({found.host, *found.hosts}, TRUSTED)
            self.assertIn(found.host, found.hosts)

    @given(DESIRED, OBSERVED)
    def test_instance_on_other_host_is_not_missing(self, expected, observations):
        found = compare(expected, observations, TRUSTED)
        if isinstance(found, Drift) and found.type in (drift.MISSING, drift.NOT_RUNNING):
            elsewhere = [one for one in observations if one.present and one.host != found.host]
            self.assertEqual([], [one for one in elsewhere if one.seen.state != states.SHUTOFF])

    @given(OBSERVED)
    def test_busy_instance_is_unknown(self, observations):
        self.assertEqual(UNKNOWN, compare(desired(DesiredStatus.BUSY), observations, TRUSTED))

    @given(DESIRED, OBSERVED)
    def test_no_trusted_host_has_no_drift(self, expected, observations):
        self.assertIn(compare(expected, observations, set()), (AGREES, UNKNOWN))

    def test_two_hosts_drift_is_about_desired_host(self):
        found = compare(desired(host="b"), [RUNS, RUNS_B], TRUSTED)
        assert isinstance(found, Drift)
        self.assertEqual(("b", ("a", "b")), (found.host, found.hosts))
        self.assertEqual({"a": "running/booted", "b": "running/booted"}, found.facts["seen"])

    def test_key_is_short_and_unique(self):
        keys = set()
        for hosts in (("a",), ("a", "b"), ("x" * 255, "y" * 255), ("x" * 255, "z" * 255)):
            for detail in ("", "failed"):
                one = Drift(
                    instance=Instance(uuid=UUID),
                    host="a",
                    hosts=hosts,
                    type=drift.MISSING,
                    detail=detail,
                    desired="running",
                )
                self.assertLessEqual(len(one.key), 255)
                keys.add(one.key)
        self.assertEqual(8, len(keys))


class LostTest(unittest.TestCase):
    """The loss of an instance that ran, without a requested stop."""

    def lost(self, before, now, at=7):
        seen = seen_on(now).seen if isinstance(now, str) else now
        return observed.lost_since(before, seen, at)

    def test_each_row(self):
        before = seen_on("running/booted")
        lost = ObservedInstance(host="a", seen=before.seen, present=False, lost_at=3)
        stopped = seen_on("shutoff/destroyed")
        for was, now, at in [
            (before, None, 7),
            (before, "shutoff/failed", 7),
            (before, "shutoff/vanished", 7),
            (before, "shutoff/unknown", 7),
            (before, "shutoff/destroyed", 0),
            (before, "shutoff/migrated", 0),
            (before, "paused/ioerror", 0),
            (before, "unknown-0/error", 0),
            (stopped, None, 0),
            (stopped, "shutoff/unknown", 0),
            (lost, None, 3),
            (lost, "shutoff/failed", 3),
            (lost, "unknown-0/error", 3),
            (lost, "shutoff/destroyed", 0),
            (lost, "running/booted", 0),
            (None, "running/booted", 0),
            (None, "shutoff/failed", 0),
            (None, seen_on("shutoff/failed", autostart=True).seen, 7),
            (None, seen_on("shutoff/unknown", autostart=True).seen, 0),
        ]:
            self.assertEqual(at, self.lost(was, now), (was, now))
