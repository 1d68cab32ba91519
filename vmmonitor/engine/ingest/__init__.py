# SPDX-License-Identifier: Apache-2.0
"""Stores events and groups them into incidents."""
