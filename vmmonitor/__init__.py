# SPDX-License-Identifier: Apache-2.0
"""vmmonitor: knows from outside that a VM has failed, and gets it recovered."""
