# SPDX-License-Identifier: Apache-2.0
"""Rule files of the operator: filters decide about events, policies about recoveries.

Pure: ``load`` reads a file once, and evaluating an event afterwards has no side effect other than
the counters of rules with a rate. Filters and policies are ordered lists of named rows that share
one language for matching (``matchers``); the first row that matches decides.
"""
