# SPDX-License-Identifier: Apache-2.0
"""Checks between a confirmed failure and its recovery."""
