# SPDX-License-Identifier: Apache-2.0
"""Define the data classes of vmmonitor, their states and the transitions between them.

The modules use the standard library only. They do no I/O and do not read a clock: each time is an
argument, an integer of microseconds since the epoch (UTC). Such integers are exact, can be sorted,
and have the same meaning in Python, in JSON and in every database. Only the REST API and the CLI
convert them to ISO 8601.
"""
