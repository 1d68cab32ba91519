# SPDX-License-Identifier: Apache-2.0
"""Random stalls and kills of every part during recoveries, and the checks that find harm.

``plan`` draws a round from a seed, ``parts`` stalls and kills, ``owner`` operates the guests,
``rounds`` executes a round, ``checks`` finds harm. ``vmmonitor/tests/live/test_no_harm.py`` runs
it.
"""
