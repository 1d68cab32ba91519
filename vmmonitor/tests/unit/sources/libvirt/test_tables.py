# SPDX-License-Identifier: Apache-2.0
"""Our numbers and words are those of the libvirt that is installed."""

import re

import libvirt
import testtools

from vmmonitor.model import instance
from vmmonitor.sources.libvirt import tables

#: prefix of libvirt's constants -> our words. A prefix that is the start of another one does
#: not take that one's constants.
ENUMS = {
    "VIR_DOMAIN_EVENT_ID_": [kind.name for kind in tables.CALLBACKS],
    "VIR_DOMAIN_EVENT_WATCHDOG_": tables.WATCHDOG_ACTION,
    "VIR_DOMAIN_EVENT_IO_ERROR_": tables.IO_ERROR_ACTION,
    "VIR_DOMAIN_EVENT_GRAPHICS_": tables.GRAPHICS_PHASE,
    "VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_": tables.GRAPHICS_FAMILY,
    "VIR_DOMAIN_EVENT_TRAY_CHANGE_": tables.TRAY_CHANGE,
    "VIR_DOMAIN_EVENT_MEMORY_FAILURE_RECIPIENT_": tables.MEMORY_RECIPIENT,
    "VIR_DOMAIN_EVENT_MEMORY_FAILURE_ACTION_": tables.MEMORY_ACTION,
    "VIR_DOMAIN_BLOCK_JOB_TYPE_": tables.BLOCK_JOB_TYPE,
    "VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_": tables.CHANNEL_REASON,
    "VIR_DOMAIN_METADATA_": tables.METADATA_TYPE,
    "VIR_DOMAIN_JOB_OPERATION_": tables.JOB_OPERATION,
}


def constants(prefix: str) -> dict[str, int]:
    """The numbers that libvirt gives to names with a prefix, by the rest of the name."""
    return {
        name.removeprefix(prefix): value
        for name, value in vars(libvirt).items()
        if name.startswith(prefix)
        and isinstance(value, int)
        and not any(
            name.startswith(longer) and len(longer) > len(prefix)
            for longer in ENUMS
            if longer.startswith(prefix)
        )
    }


class TablesTest(testtools.TestCase):
    def agree(self, prefix, words):
        found = constants(prefix)
        self.assertNotEqual({}, found, prefix)
        for name, number in found.items():
            self.assertLess(number, len(words), f"{prefix}{name} is unknown")
            # libvirt prints inject-nmi for INJECTNMI.
            plain = re.sub("[-_]", "", words[number])
            self.assertEqual(name.lower().replace("_", ""), plain, f"{prefix}{name}")

    def test_every_enum_of_the_installed_libvirt(self):
        for prefix, words in ENUMS.items():
            self.agree(prefix, words)

    def test_every_lifecycle_event_and_detail(self):
        for number, (name, details) in enumerate(tables.LIFECYCLE):
            constant = f"VIR_DOMAIN_EVENT_{name.upper()}"
            self.assertEqual(number, getattr(libvirt, constant))
            self.agree(f"{constant}_", details)

    def test_every_domain_state_and_reason(self):
        names = ("NOSTATE", "RUNNING", "BLOCKED", "PAUSED", "SHUTDOWN", "SHUTOFF", "CRASHED")
        for number, name in enumerate((*names, "PMSUSPENDED")):
            self.assertEqual(number, getattr(libvirt, f"VIR_DOMAIN_{name}"))
        for name in ("RUNNING", "PAUSED", "SHUTOFF", "CRASHED"):
            number = getattr(libvirt, f"VIR_DOMAIN_{name}")
            self.assertEqual(name.lower(), tables.DOMAIN_STATES[number][0])
            found = {
                word: value
                for word, value in constants(f"VIR_DOMAIN_{name}_").items()
                if word != "UNKNOWN"
            }
            for word, value in found.items():
                self.assertEqual(word.lower(), tables.DOMAIN_STATES[number][1][value])

    def test_states_are_the_model_s(self):
        known = {*instance.ALIVE, instance.SHUTOFF, "unknown-0"}
        self.assertEqual(known, {state for state, _ in tables.DOMAIN_STATES})

    def test_words_whose_constants_have_other_names(self):
        self.assertEqual(
            ["completed", "failed", "canceled", "ready"],
            [
                tables.BLOCK_JOB_STATUS[number]
                for number in (
                    libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED,
                    libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED,
                    libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED,
                    libvirt.VIR_DOMAIN_BLOCK_JOB_READY,
                )
            ],
        )
        for name in ("CONNECTED", "DISCONNECTED"):
            number = getattr(libvirt, f"VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_{name}")
            self.assertEqual(name.lower(), tables.CHANNEL_STATE[number])
        self.assertEqual(
            "missing_on_start",
            tables.DISK_CHANGE_REASON[libvirt.VIR_DOMAIN_EVENT_DISK_CHANGE_MISSING_ON_START],
        )
        self.assertEqual(
            "drop_missing_on_start",
            tables.DISK_CHANGE_REASON[libvirt.VIR_DOMAIN_EVENT_DISK_DROP_MISSING_ON_START],
        )
        self.assertEqual(
            ("action_required", "recursive"),
            tuple(tables.BIT_NAMES["flags"]),
        )
        self.assertEqual(1, libvirt.VIR_DOMAIN_MEMORY_FAILURE_ACTION_REQUIRED)
        self.assertEqual(2, libvirt.VIR_DOMAIN_MEMORY_FAILURE_RECURSIVE)

    def test_ids_that_an_older_libvirt_has_not(self):
        self.assertEqual(
            ["nic_mac_change", "vcpu_removed", "channel_lifecycle"],
            [kind.name for kind in tables.CALLBACKS[27:]],
        )

    def test_close_reasons(self):
        self.assertEqual(
            "libvirt stopped answering",
            tables.CLOSE_REASON[libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE],
        )
        self.assertEqual(
            "libvirt closed the connection",
            tables.CLOSE_REASON[libvirt.VIR_CONNECT_CLOSE_REASON_EOF],
        )

    def test_every_detail_is_an_attribute(self):
        for kind in tables.CALLBACKS:
            self.assertIn(kind.detail, ("", "operation", *kind.arguments))
