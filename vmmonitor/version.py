# SPDX-License-Identifier: Apache-2.0
"""Version of the installed vmmonitor, as pbr derives it from git."""

import pbr.version

version_info = pbr.version.VersionInfo("vmmonitor")
