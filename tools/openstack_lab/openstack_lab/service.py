# SPDX-License-Identifier: Apache-2.0
"""Define the base class of the OpenStack services of the lab."""

import abc
import functools
import pathlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence

from openstack_lab.lab import REGION, SERVICE_PASSWORD, Lab, LabError, environment
from openstack_lab.units import Unit, Units

ANSWERS_S = 300.0
COMMAND_S = 900.0
LOG_FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s %(message)s"

Sections = Mapping[str, Mapping[str, object]]


class Service(abc.ABC):
    """One OpenStack service: its files, its tables, its processes.

    ``name`` is its directory, its user in keystone and its port's name; ``kind`` its type in the
    catalog, ``path`` what follows the port in its address there.
    """

    name: str
    kind: str
    path = ""

    def __init__(self, lab: Lab, units: Units):
        self.lab = lab
        self.units = units
        self.etc = lab.directory("etc", self.name)

    @abc.abstractmethod
    def configure(self) -> None:
        """Write its files."""

    @abc.abstractmethod
    def make_tables(self) -> None:
        """Create or upgrade the tables; repeated calls have no effect."""

    @abc.abstractmethod
    def processes(self) -> Iterable[Unit]:
        """Yield the units to start."""

    def resting(self) -> Iterable[Unit]:
        """Yield the units that are only started by name."""
        return ()

    @property
    def address(self) -> str:
        """Its address in the catalog."""
        return self.lab.url(self.name, self.path)

    def prepare(self) -> None:
        """Write the files, and create the tables once."""
        self.configure()
        done = self.etc / ".tables"
        if not done.exists():
            self.make_tables()
            done.touch()

    def start(self) -> None:
        """Start the units that do not run."""
        for unit in self.processes():
            self.units.start(unit)
        for unit in self.resting():
            self.units.prepare(unit)

    def wait(self) -> None:
        """Wait until its API answers.

        :raises LabError: it does not.
        """
        url = self.lab.url(self.name)
        self.units.wait(f"{self.name}-api", functools.partial(answers, url), ANSWERS_S)

    # -- for subclasses ------------------------------------------------------------------------
    def write(self, name: str, sections: Sections) -> pathlib.Path:
        """Write a configuration file; returns its path."""
        path = self.etc / name
        with path.open("w") as file:
            for section, options in sections.items():
                file.write(f"[{section}]\n")
                file.writelines(f"{option} = {value}\n" for option, value in options.items())
        return path

    def shipped(self, name: str) -> pathlib.Path:
        """Copy a file that came with the package; returns its path."""
        source = pathlib.Path(sys.prefix) / "etc" / self.name / name
        return pathlib.Path(shutil.copy(source, self.etc))

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of the service to its end.

        :raises LabError: it failed; the message has the end of what it said.
        """
        run(
            self.lab, [self.lab.program(program), *arguments], self.units.log(f"{self.name}-setup")
        )

    def api(
        self, module: str, env: Mapping[str, str], workers: int = 1, more: Sequence[str] = ()
    ) -> Unit:
        """Return its API, a WSGI application under uwsgi.

        :param module: the module that defines ``application``.
        """
        port = self.lab.port(self.name)
        words = (
            f"--http-socket 127.0.0.1:{port} --http-keepalive --module {module}:application"
            f" --master --die-on-term --lazy-apps --enable-threads --need-app"
            f" --processes {workers} --threads 2 --buffer-size 65535 --thunder-lock"
            " --log-5xx --disable-logging"
        )
        argv = [self.lab.program("uwsgi"), *words.split(), "--add-header", "Connection: close"]
        argv += ["--hook-master-start", "unix_signal:15 gracefully_kill_them_all", *more]
        return Unit(name=f"{self.name}-api", argv=argv, env=env, ports=[port])

    def account(self, user: str = "") -> dict[str, object]:
        """Return how a service logs in to keystone.

        :param user: the service, if it is another one.
        """
        return {
            "auth_type": "password",
            "auth_url": self.lab.keystone,
            "username": user or self.name,
            "password": SERVICE_PASSWORD,
            "project_name": "service",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "region_name": REGION,
        }

    def authtoken(self) -> dict[str, object]:
        """Return how it checks its callers' tokens."""
        return {
            **self.account(),
            "www_authenticate_uri": self.lab.keystone,
            "service_token_roles_required": "true",
            "memcached_servers": self.lab.memcached,
        }


def run(lab: Lab, argv: Sequence[str], log: pathlib.Path, user: int = 0) -> None:
    """Run a program to its end, with its output in a log.

    :raises LabError: it failed; the message has the end of the log.
    """
    with log.open("ab") as output:
        done = subprocess.run(
            argv,
            env=environment(lab),
            cwd=lab.path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=COMMAND_S,
            user=user or None,
        )
    if done.returncode:
        said = log.read_text(errors="replace")[-2000:]
        raise LabError(f"{argv[0]} ended with {done.returncode}, see {log}:\n{said}")


def answers(url: str) -> bool:
    """Return whether a web server answers, with any HTTP status."""
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
