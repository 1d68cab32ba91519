# SPDX-License-Identifier: Apache-2.0
"""What should be against what is: each row of the comparison."""

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


def expect(state=DesiredStatus.RUNNING, host="a"):
    return DesiredState(instance=Instance(uuid=UUID), host=host, state=state)


def sight(words, host="a", present=True, **changes):
    state, _, reason = words.partition("/")
    seen = Seen(instance=Instance(uuid=UUID, name="web"), state=state, reason=reason, **changes)
    return ObservedInstance(host=host, seen=seen, present=present)


def word(expected, *sights, trusted=TRUSTED):
    found = compare(expected, sights, trusted)
    if not isinstance(found, Drift):
        return found
    return f"{found.type.removeprefix('reconcile.')}/{found.detail} {','.join(found.hosts)}"


RUNS = sight("running/booted")
RUNS_B = sight("running/booted", "b")
ROWS = [
    # what should be, what is, what is said
    (expect(), [RUNS], AGREES),
    (expect(), [], "missing/ a"),
    (expect(), [sight("running/booted", present=False)], "missing/ a"),
    (expect(), [sight("shutoff/failed")], "not_running/failed a"),
    (expect(), [sight("shutoff/destroyed")], "not_running/destroyed a"),
    (expect(), [sight("shutoff/vanished", persistent=False)], "missing/vanished a"),
    (expect(), [sight("crashed/panicked")], "not_running/panicked a"),
    (expect(), [sight("paused/ioerror")], "paused/ioerror a"),
    (expect(), [sight("paused/user")], "paused/user a"),
    (expect(), [sight("paused/migration")], UNKNOWN),
    (expect(), [sight("paused/save")], UNKNOWN),
    (expect(), [sight("pmsuspended/memory")], AGREES),
    (expect(), [sight("unknown-0/error")], UNKNOWN),
    (expect(), [sight("shutoff/migrated")], UNKNOWN),
    # It may be elsewhere.
    (expect(), [RUNS_B], "wrong_host/booted b"),
    (expect(), [sight("shutoff/destroyed"), RUNS_B], "wrong_host/booted b"),
    (expect(), [sight("paused/migration", "b")], UNKNOWN),
    (expect(), [sight("running/booted", "late")], UNKNOWN),
    (expect(), [sight("shutoff/failed", "late")], "missing/ a"),
    (expect(host=""), [RUNS_B], AGREES),
    (expect(host=""), [], UNKNOWN),
    # Its host is not trusted.
    (expect(host="late"), [], UNKNOWN),
    (expect(host="late"), [sight("shutoff/failed", "late")], UNKNOWN),
    (expect(host="never"), [], UNKNOWN),
    (expect(host="late"), [RUNS], "wrong_host/booted a"),
    # On two hosts.
    (expect(), [RUNS, RUNS_B], "two_hosts/ a,b"),
    (expect(host="b"), [RUNS_B, RUNS], "two_hosts/ a,b"),
    (expect(DesiredStatus.STOPPED), [RUNS, RUNS_B], "two_hosts/ a,b"),
    (None, [RUNS, RUNS_B], "two_hosts/ a,b"),
    (expect(), [RUNS, sight("running/booted", "late")], AGREES),
    (None, [RUNS, sight("running/booted", "late")], AGREES),
    (expect(), [RUNS, sight("paused/migration", "b")], AGREES),
    (expect(), [RUNS, sight("running/booted", "b", present=False)], AGREES),
    (expect(DesiredStatus.BUSY), [RUNS, RUNS_B], UNKNOWN),
    (expect(DesiredStatus.BUSY), [], UNKNOWN),
    # It should not run.
    (expect(DesiredStatus.STOPPED), [RUNS], "unexpected/booted a"),
    (expect(DesiredStatus.GONE), [RUNS_B], "unexpected/booted b"),
    (expect(DesiredStatus.PAUSED), [RUNS], "unexpected/booted a"),
    (expect(DesiredStatus.PAUSED), [sight("paused/user")], AGREES),
    (expect(DesiredStatus.STOPPED), [sight("shutoff/destroyed")], AGREES),
    (expect(DesiredStatus.STOPPED), [], AGREES),
    (expect(DesiredStatus.GONE), [], AGREES),
    (expect(DesiredStatus.GONE), [sight("running/booted", "late")], AGREES),
    (None, [RUNS], AGREES),
    (None, [], AGREES),
]

SIGHTS = st.lists(
    st.builds(
        sight,
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
EXPECTED = st.none() | st.builds(
    expect,
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
        for expected, sights, said in ROWS:
            self.assertEqual(said, word(expected, *sights), (expected, sights))

    @given(EXPECTED, SIGHTS)
    def test_only_hosts_that_are_trusted_are_spoken_of(self, expected, sights):
        found = compare(expected, sights, TRUSTED)
        if isinstance(found, Drift):
            self.assertLessEqual({found.host, *found.hosts}, TRUSTED)
            self.assertIn(found.host, found.hosts)

    @given(EXPECTED, SIGHTS)
    def test_nothing_is_missing_that_may_be_somewhere(self, expected, sights):
        found = compare(expected, sights, TRUSTED)
        if isinstance(found, Drift) and found.type in (drift.MISSING, drift.NOT_RUNNING):
            elsewhere = [one for one in sights if one.present and one.host != found.host]
            self.assertEqual([], [one for one in elsewhere if one.seen.state != states.SHUTOFF])

    @given(SIGHTS)
    def test_nothing_differs_while_it_is_worked_on(self, sights):
        self.assertEqual(UNKNOWN, compare(expect(DesiredStatus.BUSY), sights, TRUSTED))

    @given(EXPECTED, SIGHTS)
    def test_where_nobody_is_trusted_nothing_is_said(self, expected, sights):
        self.assertIn(compare(expected, sights, set()), (AGREES, UNKNOWN))

    def test_the_host_that_should_have_it_is_named_first(self):
        found = compare(expect(host="b"), [RUNS, RUNS_B], TRUSTED)
        assert isinstance(found, Drift)
        self.assertEqual(("b", ("a", "b")), (found.host, found.hosts))
        self.assertEqual({"a": "running/booted", "b": "running/booted"}, found.facts["seen"])

    def test_a_key_is_short_and_of_this_mismatch_only(self):
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
    """Who ran and does not any more, without a reason that says that it was wanted."""

    def lost(self, before, now, at=7):
        seen = sight(now).seen if isinstance(now, str) else now
        return observed.lost_since(before, seen, at)

    def test_each_row(self):
        before = sight("running/booted")
        lost = ObservedInstance(host="a", seen=before.seen, present=False, lost_at=3)
        stopped = sight("shutoff/destroyed")
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
            (None, sight("shutoff/failed", autostart=True).seen, 7),
            (None, sight("shutoff/unknown", autostart=True).seen, 0),
        ]:
            self.assertEqual(at, self.lost(was, now), (was, now))
