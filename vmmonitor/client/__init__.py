# SPDX-License-Identifier: Apache-2.0
"""The ``vmmonitor`` shell and the openstackclient plugin, which use only the REST API."""
