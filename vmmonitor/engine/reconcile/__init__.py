# SPDX-License-Identifier: Apache-2.0
"""Compares the desired state of instances with the observed state and reports drift."""
