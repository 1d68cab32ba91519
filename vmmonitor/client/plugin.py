# SPDX-License-Identifier: Apache-2.0
"""The openstackclient plugin: ``openstack vmmonitor ...``."""

import argparse
from typing import Any

API_NAME = "vmmonitor"
API_VERSION_OPTION = "os_vmmonitor_api_version"
API_VERSIONS = {"1": "vmmonitor.client.http.Client"}
DEFAULT_API_VERSION = "1"


def make_client(instance: Any) -> Any:
    """Return the client of the vmmonitor API.

    :param instance: openstackclient's client manager.
    """
    from vmmonitor.client import http

    return http.Client(
        instance.session, region_name=instance.region_name, interface=instance.interface
    )


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the option for the API version."""
    parser.add_argument(
        "--os-vmmonitor-api-version",
        metavar="<version>",
        choices=sorted(API_VERSIONS),
        default=DEFAULT_API_VERSION,
        help=f"version of the vmmonitor API (default: {DEFAULT_API_VERSION})",
    )
    return parser
