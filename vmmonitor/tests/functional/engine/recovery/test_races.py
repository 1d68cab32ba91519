# SPDX-License-Identifier: Apache-2.0
"""Two engines on one SQLite file."""

from vmmonitor.db import session
from vmmonitor.tests.functional.engine.base import EngineCase
from vmmonitor.tests.functional.engine.races import EngineRaces


class RacesTest(EngineRaces, EngineCase):
    crowd = 100

    def another(self) -> session.Database:
        made = session.Database(self.conf)
        made.now = self.database.now
        self.addCleanup(made.dispose)
        return made
