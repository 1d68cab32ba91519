# SPDX-License-Identifier: Apache-2.0
"""How the documentation is built: tox -e docs."""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "vmmonitor"
copyright = "the vmmonitor authors"
extensions = [
    "cliff.sphinxext",
    "openstackdocstheme",
    "oslo_config.sphinxconfiggen",
    "oslo_config.sphinxext",
    "from_code",
]

config_generator_config_file = [
    (
        str(HERE.parents[1] / "etc/vmmonitor/vmmonitor-config-generator.conf"),
        str(HERE / "_static/vmmonitor"),
    )
]

html_theme = "openstackdocs"
# The sample configuration is written there later, but the directory must exist now.
(HERE / "_static").mkdir(exist_ok=True)
html_static_path = ["_static"]
openstackdocs_auto_name = False
openstackdocs_pdf_link = False
pygments_style = "native"
nitpicky = False
