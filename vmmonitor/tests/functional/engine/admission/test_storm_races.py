# SPDX-License-Identifier: Apache-2.0
"""Several engines and one storm, on SQLite."""

from vmmonitor.db import session
from vmmonitor.tests.functional.engine.storm_races import StormRaces
from vmmonitor.tests.functional.engine.storms_base import StormCase


class StormRacesTest(StormRaces, StormCase):
    def another(self) -> session.Database:
        made = session.Database(self.conf)
        made.now = self.database.now
        self.addCleanup(made.dispose)
        return made

    def wait_until_calm(self) -> None:
        self.later(1)
