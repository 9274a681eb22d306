"""The hosts of a SageMaker job, from the file that SageMaker writes into each of its containers.

Source: Amazon SageMaker Developer Guide, "How Amazon SageMaker AI Processes Training Data" and
"Build Your Own Processing Container" (`resourceconfig.json`).
"""

from __future__ import annotations

import os

from rvrun.environment import RESOURCE_CONFIG
from rvrun.inputs import CannotRead, read_object
from rvrun.worker.torchrun import BadHosts, Hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The file that lists the hosts: of a processing job, and of a training job.
RESOURCE_CONFIGS = (
    "/opt/ml/config/resourceconfig.json",
    "/opt/ml/input/config/resourceconfig.json",
)


def read_hosts(environ: Mapping[str, str]) -> Hosts:
    """Read all hosts of this job and which of them this one is. Raises `BadHosts`."""
    override = environ.get(RESOURCE_CONFIG)
    paths = (override,) if override else RESOURCE_CONFIGS
    path = next((path for path in paths if os.path.exists(path)), None)
    if path is None:
        raise BadHosts(f"found no list of this job's hosts at {' or '.join(paths)}")
    try:
        values = read_object(path)
        current, hosts = str(values["current_host"]), [str(host) for host in values["hosts"]]
        interface = values.get("network_interface_name")
    except (CannotRead, KeyError, TypeError) as error:
        raise BadHosts(f"{path} does not list this job's hosts ({error!r})") from None
    return Hosts(current, hosts, interface)
