"""What is done for each operation, as a list: a handler takes a call and returns the output."""

from collections.abc import Mapping
from typing import Final

from emberkeep.aws.app import Handler
from emberkeep.aws.operations import (
    builds,
    connectors,
    images,
    managed,
    microvms,
    tags,
    tokens,
    versions,
)

HANDLERS: Final[Mapping[str, Handler]] = {
    "RunMicrovm": microvms.run,
    "GetMicrovm": microvms.get,
    "ListMicrovms": microvms.list_,
    "SuspendMicrovm": microvms.suspend,
    "ResumeMicrovm": microvms.resume,
    "TerminateMicrovm": microvms.terminate,
    "CreateMicrovmAuthToken": tokens.create,
    "CreateMicrovmShellAuthToken": tokens.create_shell,
    "CreateNetworkConnector": connectors.create,
    "GetNetworkConnector": connectors.get,
    "ListNetworkConnectors": connectors.list_,
    "UpdateNetworkConnector": connectors.update,
    "DeleteNetworkConnector": connectors.delete,
    "ListNetworkConnectorVersions": connectors.versions,
    "CreateMicrovmImage": images.create,
    "UpdateMicrovmImage": images.update,
    "GetMicrovmImage": images.get,
    "ListMicrovmImages": images.list_,
    "DeleteMicrovmImage": images.delete,
    "GetMicrovmImageVersion": versions.get,
    "ListMicrovmImageVersions": versions.list_,
    "UpdateMicrovmImageVersion": versions.update,
    "DeleteMicrovmImageVersion": versions.delete,
    "GetMicrovmImageBuild": builds.get,
    "ListMicrovmImageBuilds": builds.list_,
    "ListManagedMicrovmImages": managed.list_images,
    "ListManagedMicrovmImageVersions": managed.list_versions,
    "TagResource": tags.tag,
    "UntagResource": tags.untag,
    "ListTags": tags.list_,
}
