# SPDX-License-Identifier: Apache-2.0
"""The ``vmmonitor`` shell and the openstackclient plugin; knows HTTP only."""
