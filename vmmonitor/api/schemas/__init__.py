# SPDX-License-Identifier: Apache-2.0
"""JSON schemas of the query strings, one module per noun."""
