# SPDX-License-Identifier: Apache-2.0
"""Test invalid files at the start and at a reload, and the states of an agent."""

import signal

from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.live.base import LOG_ONLY, WholeTest
from vmmonitor.tests.promises import shows

#: Line 6 has a key that there is not, and nothing else is wrong.
BROKEN_RULES = """\
version: 1
default: {action: record, severity: info}
rules:
- name: died
  match: {type: lifecycle.stopped}
  severety: critical
  action: incident
"""
#: Line 5 names a driver that there is not.
BROKEN_POLICIES = """\
version: 1
policies:
- name: all
  match: {}
  steps: [{driver: hope, wait_for: nothing}]
"""
ONLY_RECORD = """\
version: 1
default: {action: record, severity: info}
rules: []
"""
RECOVER = """\
version: 1
default: {action: record, severity: info}
rules:
- name: mine
  match: {type: lifecycle.stopped}
  action: incident
  severity: critical
"""


@shows("P9")
class TestFiles(WholeTest):
    def setUp(self):
        super().setUp()
        self.deploy()

    def check_refused(self, program, *said):
        """Check that the program ends at once with one line on stderr and exit code 1."""
        program.start()
        self.assertEqual(1, program.ended(30))
        (line,) = program.output().splitlines()
        for words in said:
            self.assertIn(words, line)

    def test_agent_start_with_broken_filter_file_fails(self):
        path = self.deployment.file("rules.yaml", BROKEN_RULES)
        agent = self.deployment.agent(self.hypervisor(), options={"agent": {"filter_file": path}})
        self.check_refused(agent, "vmmonitor-agent: ", f"{path}:6", "severety")

    def test_agent_start_without_filter_file_fails(self):
        agent = self.deployment.agent(
            self.hypervisor(), options={"agent": {"filter_file": "/nonexistent/rules.yaml"}}
        )
        self.check_refused(agent, "vmmonitor-agent: ", "/nonexistent/rules.yaml")

    def test_engine_start_with_broken_policy_file_fails(self):
        engine = self.deployment.engine(options=self.policies("version: 1\npolicies: 7\n"))
        self.check_refused(engine, "vmmonitor-engine: ", "policies.yaml:2")

    def test_engine_start_with_unknown_driver_fails(self):
        engine = self.deployment.engine(options=self.policies(BROKEN_POLICIES))
        self.check_refused(engine, "vmmonitor-engine: ", "policies.yaml", "hope")

    def test_agent_reload_of_filter_file_applies_or_keeps_rules(self):
        self.start(self.deployment.engine(options=self.policies(LOG_ONLY)))
        path = self.deployment.file("rules.yaml", RECOVER)
        agent = self.watched(agent={"filter_file": path})
        first, second = self.guests(2, defined=True)
        self.deployment.file("rules.yaml", BROKEN_RULES)
        agent.send(signal.SIGHUP)
        agent.wait_for(f"ERROR .* the old rules stay in force: {path}:6")
        first.kill()
        self.wait(lambda: self.states(first), "no incident: the old rules are not in force")
        (stop,) = self.deployment.events(first.uuid, "lifecycle.stopped")
        self.assertEqual("mine", stop.decision.rule)
        self.deployment.file("rules.yaml", ONLY_RECORD)
        agent.send(signal.SIGHUP)
        agent.wait_for(f"The rules of {path} are in force")
        second.kill()
        self.wait(lambda: self.stops(second), "not stored")
        (stop,) = self.deployment.events(second.uuid, "lifecycle.stopped")
        self.assertEqual("record", stop.decision.action)
        self.assertEqual([], self.deployment.incidents(second.uuid))
        self.assertEqual(0, agent.stop())
        self.assertEqual("", agent.output())

    def test_engine_reload_of_policy_file_applies_or_keeps_policies(self):
        engine = self.start(self.deployment.engine(options=self.policies(LOG_ONLY)))
        self.watched()
        first, second = self.guests(2, defined=True)
        self.policies(BROKEN_POLICIES)
        engine.send(signal.SIGHUP)
        engine.wait_for("ERROR .* the previous ones stay in force: .*policies.yaml")
        first.kill()
        self.wait(lambda: self.states(first) == ["unhandled"], "the old policies are not in force")
        self.policies(LOG_ONLY.replace("log-only", "new"))
        engine.send(signal.SIGHUP)
        engine.wait_for("Policies of .*policies.yaml in force")
        second.kill()
        self.wait(
            lambda: self.states(second) == ["unhandled"], "the new policies are not in force"
        )
        policies = [
            incident.policy
            for guest in (first, second)
            for incident in self.deployment.incidents(guest.uuid)
        ]
        self.assertEqual(["log-only", "new"], policies)
        self.assertEqual(0, engine.stop())
        self.assertEqual("", engine.output())


@shows("P8")
class TestAgentStates(WholeTest):
    def test_agent_state_follows_faults(self):
        hypervisor = self.useFixture(Hypervisor())
        hypervisor.kill()
        self.deploy()
        self.start(self.deployment.engine())
        agent = self.start(self.deployment.agent(hypervisor))
        self.becomes("blind", "libvirt")
        hypervisor.start()
        self.becomes("up", "")
        hypervisor.kill()
        self.becomes("blind", "libvirt")
        hypervisor.start()
        self.becomes("up", "")
        self.assertEqual(0, agent.stop())
        self.becomes("stopped", "on purpose")
        self.start(agent)
        self.becomes("up", "")
        agent.kill()
        self.becomes("late", "")

    def becomes(self, state, reason):
        def became():
            reported = self.deployment.agent_state()
            return reported[0] == state and reason in reported[1]

        self.wait(became, f"the agent does not become {state}")
