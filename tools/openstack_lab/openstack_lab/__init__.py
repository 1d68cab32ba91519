# SPDX-License-Identifier: Apache-2.0
"""A small real OpenStack on one machine: see doc/source/contributor/openstack-lab.rst."""
