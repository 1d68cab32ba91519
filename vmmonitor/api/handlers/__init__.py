# SPDX-License-Identifier: Apache-2.0
"""Handlers of requests, one module per noun."""
