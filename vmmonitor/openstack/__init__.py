# SPDX-License-Identifier: Apache-2.0
"""Clients of OpenStack services: one keystone session each, requests and responses.

The meaning of a response for vmmonitor is decided elsewhere.
"""
