# SPDX-License-Identifier: Apache-2.0
"""The place of the oslo.policy rules, one module per noun; they come together with keystone."""
