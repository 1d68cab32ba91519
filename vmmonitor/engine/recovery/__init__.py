# SPDX-License-Identifier: Apache-2.0
"""Runs recoveries: dispatcher, workers, verdicts, attempts and leases."""
