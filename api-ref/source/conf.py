# SPDX-License-Identifier: Apache-2.0
"""How the API reference is built: sphinx-build -W -b html api-ref/source api-ref/build/html."""

project = "vmmonitor API reference"
copyright = "the vmmonitor authors"
extensions = ["openstackdocstheme"]
html_theme = "openstackdocs"
openstackdocs_auto_name = False
openstackdocs_pdf_link = False
pygments_style = "native"
# The pages' parts, which index.rst includes.
exclude_patterns = ["*.inc"]
