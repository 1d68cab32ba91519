# SPDX-License-Identifier: Apache-2.0
"""Incidents: state transitions, the timeline and operator requests."""
