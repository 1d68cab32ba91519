# SPDX-License-Identifier: Apache-2.0
"""The nouns of vmmonitor and the legal moves between their states.

Standard library only, no I/O and no clock: every time comes in as an argument, as an integer
of microseconds since the epoch (UTC), which is exact, sorts, and means the same in Python, in
JSON and in every database. Only the REST API and the CLI turn it into ISO 8601.
"""
