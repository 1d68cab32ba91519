# SPDX-License-Identifier: Apache-2.0
"""How the release notes are built."""

project = "vmmonitor release notes"
copyright = "the vmmonitor authors"
extensions = ["openstackdocstheme", "reno.sphinxext"]
html_theme = "openstackdocs"
openstackdocs_auto_name = False
openstackdocs_auto_version = False
version = release = ""
