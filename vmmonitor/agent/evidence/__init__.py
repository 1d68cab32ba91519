# SPDX-License-Identifier: Apache-2.0
"""Evidence on the host: capturing it, keeping it in files and sending it to the engine."""
