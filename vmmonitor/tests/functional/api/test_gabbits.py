# SPDX-License-Identifier: Apache-2.0
"""Run the HTTP tests in gabbits/, one file per resource, with the sample data."""

import pathlib
import sys
import unittest
import unittest.mock
from typing import ClassVar

from gabbi import driver, fixture

from vmmonitor.tests.fixtures import api

GABBITS = pathlib.Path(__file__).with_name("gabbits")


class Sample(fixture.GabbiFixture):
    """The API with the sample data, for one file of requests."""

    current: ClassVar[api.Api]

    def start_fixture(self) -> None:
        Sample.current = api.Api()
        Sample.current.setUp()

    def stop_fixture(self) -> None:
        Sample.current.cleanUp()


def application(environ, start_response):
    """Answer with the API of the suite that runs; gabbi wants one before any is started."""
    environ.setdefault("HTTP_X_AUTH_TOKEN", Sample.current.token)
    return Sample.current.application(environ, start_response)


def load_tests(
    loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    """Make a test of each request in each file."""
    # gabbi invents a host name, which the API does not accept.
    with unittest.mock.patch.object(driver.uuid, "uuid4", return_value="localhost"):
        return driver.build_tests(
            str(GABBITS),
            loader,
            intercept=lambda: application,
            fixture_module=sys.modules[__name__],
            test_loader_name=__name__,
        )
