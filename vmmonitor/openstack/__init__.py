# SPDX-License-Identifier: Apache-2.0
"""The services of OpenStack that are asked: one session each, what can be asked of them, and
nothing of what it means here."""
