# SPDX-License-Identifier: Apache-2.0
"""Test calls and notifications on an in-process bus."""
