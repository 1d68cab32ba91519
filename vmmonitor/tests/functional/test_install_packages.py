# SPDX-License-Identifier: Apache-2.0
"""tools/lib/install_packages.sh on a directory in place of the system."""

import os
import pathlib
import subprocess

import fixtures
import testtools

import vmmonitor

SCRIPT = pathlib.Path(vmmonitor.__file__).parents[1] / "tools/lib/install_packages.sh"

#: An apt-get whose package enables a service with systemd and with an init script.
APT_GET = """#!/bin/sh
[ "$2" = update ] && exit
cp "$ROOT/usr/sbin/policy-rc.d" "$ROOT/guard"
ln -s ../new.service "$ROOT/etc/systemd/system/multi-user.target.wants/new.service"
ln -s ../new.socket "$ROOT/etc/systemd/system/sockets.target.wants/new.socket"
ln -s ../init.d/new "$ROOT/etc/rc2.d/S01new"
exit ${APT_GET_CODE:-0}
"""


class TestInstallPackages(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for name in ("usr/sbin", "etc/rc2.d", "bin"):
            (self.root / name).mkdir(parents=True)
        self.wants = self.root / "etc/systemd/system/multi-user.target.wants"
        self.sockets = self.root / "etc/systemd/system/sockets.target.wants"
        self.wants.mkdir(parents=True)
        self.sockets.mkdir()
        (self.wants / "old.service").symlink_to("../old.service")
        (self.root / "etc/rc2.d/S01old").symlink_to("../init.d/old")
        apt_get = self.root / "bin/apt-get"
        apt_get.write_text(APT_GET)
        apt_get.chmod(0o755)

    def install(self, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.root}/bin:{os.environ['PATH']}"
        variables = os.environ | {"ROOT": str(self.root), "PATH": path} | environment
        return subprocess.run(
            ["sh", str(SCRIPT), "package"],
            env=variables,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def assert_only_old_services_start(self) -> None:
        self.assertEqual(["old.service"], os.listdir(self.wants))
        self.assertEqual([], os.listdir(self.sockets))
        self.assertEqual(["K01new", "S01old"], sorted(os.listdir(self.root / "etc/rc2.d")))
        self.assertFalse((self.root / "usr/sbin/policy-rc.d").exists())

    def test_new_services_do_not_start_now_or_at_boot(self):
        done = self.install()
        self.assertEqual(0, done.returncode)
        self.assertIn("not started at boot: new.socket", done.stdout)
        self.assertIn("exit 101", (self.root / "guard").read_text())
        self.assert_only_old_services_start()

    def test_installation_that_fails_leaves_no_service_enabled(self):
        self.assertEqual(100, self.install(APT_GET_CODE="100").returncode)
        self.assert_only_old_services_start()

    def test_guard_of_the_administrator_is_kept(self):
        guard = self.root / "usr/sbin/policy-rc.d"
        guard.write_text("#!/bin/sh\nexit 101\n")
        self.assertEqual(0, self.install().returncode)
        self.assertEqual("#!/bin/sh\nexit 101\n", guard.read_text())
