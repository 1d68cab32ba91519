# SPDX-License-Identifier: Apache-2.0
"""Kill engines before and after the commit of each change of an incident and of a recovery.

The clocks of the engines differ by a minute. No incident may be lost, and no instance may be
recovered by two engines at the same time.
"""

import collections
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import fixtures
import testtools

from vmmonitor.db import incidents, recoveries, schema
from vmmonitor.db.page import Page
from vmmonitor.db.session import Database
from vmmonitor.model import states
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures import database as databases
from vmmonitor.tests.fixtures import doomed_engine as doomed
from vmmonitor.tests.fixtures.services import MariaDB, PostgreSQL
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.promises import shows

#: Maximum number of rounds; a death that was not reached by then is prevented by other engines.
MOST = 400
AT_ONCE = 4
CHANGES = (
    "incident insert",
    "incident reschedule",
    "incident hold",
    "incident confirm",
    "recovery insert",
    "recovery claim",
    "recovery wait",
    "recovery fail",
    "recovery succeed",
    "incident run",
)
DEATHS = list(itertools.product(CHANGES, ("before", "after")))
#: Time limit for the life of one engine on a busy machine, in seconds.
PATIENCE = 120


class Host(threading.Thread):
    """Report each instance that a driver started as running, once."""

    def __init__(self, path, ingest):
        super().__init__(name="host", daemon=True)
        self._path, self._ingest = path, ingest
        self._over = threading.Event()

    def run(self):
        """Follow the file of the driver calls."""
        with open(self._path) as file:
            while not self._over.wait(0.02):
                for line in iter(file.readline, ""):
                    self._act(json.loads(line))

    def stop(self):
        """Stop the thread."""
        self._over.set()
        self.join()

    def _act(self, line):
        if line["word"] != "end" or not line["runs"]:
            return
        self._ingest.store(doomed.runs(line["instance"], line["recovery"]), PATIENCE)


class KilledContract:
    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        with open(self.path("policies.yaml"), "w") as file:
            json.dump(doomed.POLICIES, file)
        open(self.path("acts"), "w").close()
        self.url = shared(self.server).create()
        conf = databases.conf(self.url)
        self.database = Database(conf)
        self.addCleanup(self.database.dispose)
        schema.sync(self.database)
        # The engine that lives on, and the host that sends until it has a receipt.
        self.ingest, workers = doomed.parts(self.directory, conf, self.database)
        self.addCleanup(self.ingest.stop, 10)
        self.addCleanup(workers.stop, 10)
        self.killed = {}
        self.parent = subprocess.Popen(
            [sys.executable, "-m", doomed.__name__, self.directory, self.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.parent.communicate)
        host = Host(self.path("acts"), self.ingest)
        host.start()
        self.addCleanup(host.stop)

    def path(self, name):
        return os.path.join(self.directory, name)

    def test_engine_killed_at_each_change_recovers_once(self):
        wanted = collections.deque(DEATHS * self.times)
        rounds = 0
        while wanted and rounds < MOST:
            deaths = [wanted.popleft() for _ in range(min(AT_ONCE, len(wanted)))]
            numbers = range(rounds, rounds + len(deaths))
            pids = [
                self.begin(number, *death) for number, death in zip(numbers, deaths, strict=True)
            ]
            for number, pid, death in zip(numbers, pids, deaths, strict=True):
                if not self.dies(number, pid):
                    wanted.append(death)
            rounds += len(deaths)
        self.assertFalse(wanted, "each of them was met")
        self.check_incidents(range(rounds))
        self.check_acts()

    def begin(self, number, change, moment):
        """Start an engine; return its process id."""
        self.parent.stdin.write(f"{number} {moment} {change}\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())

    def dies(self, number, pid):
        """Wait until an engine has died or is idle; return whether it died."""
        eventually(
            lambda: self.has_died(number) or self.is_over(number),
            timeout=PATIENCE,
            what=f"the engine of round {number} dies or is done",
        )
        self.killed[pid] = time.time()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        # A dead engine sent no receipt, so the host sends the events again.
        self.ingest.store(doomed.failures(number), PATIENCE)
        return self.has_died(number)

    def has_died(self, number):
        return os.path.exists(self.path(f"died-{number}"))

    def is_over(self, number):
        found = self.of_round(number)
        return len(found) == doomed.CROWD and not any(
            one.state in states.OPEN_INCIDENT_STATES for one in found
        )

    def of_round(self, number):
        uuids = [one.event.instance.uuid for one in doomed.failures(number).deliveries]
        with self.database.reader() as tx:
            return incidents.page(tx, Page(limit=99, filters={"instance_uuid": uuids}))

    def check_incidents(self, rounds):
        """Check that every instance has one incident, which is closed."""
        for number in rounds:
            eventually(
                lambda number=number: self.is_over(number),
                timeout=PATIENCE,
                what=f"the incidents of round {number} come to an end",
            )
            found = self.of_round(number)
            self.assertEqual(doomed.CROWD, len({one.instance.uuid for one in found}), found)
        with self.database.reader() as tx:
            active = sorted(states.ACTIVE_RECOVERY_STATES)
            self.assertEqual([], recoveries.page(tx, Page(limit=9, filters={"state": active})))

    def check_acts(self):
        """Check that no two drivers acted on one instance at the same time."""
        ends = {}
        spans = collections.defaultdict(list)
        with open(self.path("acts")) as file:
            lines = [json.loads(line) for line in file]
        for line in lines:
            if line["word"] == "end":
                ends[line["pid"], line["recovery"], line["instance"]] = line["at"]
        deaths = self.deaths()
        for line in lines:
            if line["word"] == "begin":
                key = (line["pid"], line["recovery"], line["instance"])
                end = ends.get(key, deaths.get(line["pid"]))
                self.assertIsNotNone(end, line)
                spans[line["instance"]].append((line["at"], end, line["pid"], line["recovery"]))
        for instance, acts in spans.items():
            acts.sort()
            for (_, end, *_), (begin, *_) in itertools.pairwise(acts):
                self.assertLessEqual(end, begin, (instance, acts, deaths))

    def deaths(self):
        """Return process id -> when it killed itself, or was killed."""
        found = dict(self.killed)
        for name in os.listdir(self.directory):
            if name.startswith("died-") and not name.endswith(".new"):
                with open(self.path(name)) as file:
                    pid, moment = file.read().split()
                found[int(pid)] = float(moment)
        return found


@shows("P3")
class TestOnMariaDB(KilledContract, testtools.TestCase):
    server = MariaDB
    times = 1


@shows("P3")
class TestOnPostgreSQL(KilledContract, testtools.TestCase):
    server = PostgreSQL
    times = 5
