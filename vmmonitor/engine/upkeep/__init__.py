# SPDX-License-Identifier: Apache-2.0
"""Periodic duties of the engine: housekeeping, agent health and the outbox relay."""
