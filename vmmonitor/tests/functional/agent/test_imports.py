# SPDX-License-Identifier: Apache-2.0
"""The agent is small: it loads nothing that it does not need."""

import subprocess
import sys
import unittest

#: Packages that others of vmmonitor's programs need, or nobody.
NOT_NEEDED = {"alembic", "cliff", "eventlet", "oslo_db", "requests", "sqlalchemy", "webob"}

CODE = """
import sys
import vmmonitor.cmd.agent, vmmonitor.sources.libvirt.actions, vmmonitor.sources.libvirt.source
print(*(name for name, module in sys.modules.items() if module))
"""


class TestAgentImports(unittest.TestCase):
    def test_agent_imports_no_unneeded_package(self):
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
        self.assertEqual(0, done.returncode, done.stderr)
        loaded = {name.split(".")[0] for name in done.stdout.split()}
        self.assertIn("oslo_messaging", loaded)
        self.assertEqual(set(), loaded & NOT_NEEDED)
