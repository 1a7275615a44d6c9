"""An unmodified boto3 against a real server: the life of a microVM (spec §2.3 to §2.7)."""

import time
import uuid
from typing import Any, Final

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from emberkeep_sdk import MicroVM
from tests.vm.servers import Server, eventually

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400, func_only=True)]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]

REGION: Final = "us-east-1"
IMAGE: Final = f"arn:aws:lambda:{REGION}:aws:microvm-image:debian-12"
CONNECTOR: Final = f"arn:aws:lambda:{REGION}:aws:network-connector:aws-network-connector:"
HEADER: Final = "X-aws-proxy-auth"


@pytest.fixture(scope="module")
def aws(server: Server) -> Any:
    key_id, _, secret = server.key.partition(".")
    return boto3.client(
        "lambda-microvms", region_name=REGION, endpoint_url=server.endpoint,
        aws_access_key_id=key_id, aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def reached(aws: Any, microvm_id: str, state: str) -> dict[str, Any]:
    """Wait until a microVM is in `state`, and return what is told of it."""

    def found() -> dict[str, Any] | None:
        told: dict[str, Any] = aws.get_microvm(microvmIdentifier=microvm_id)
        assert told["state"] == state or told["state"] != "TERMINATED", told
        return told if told["state"] == state else None

    return eventually(found, within=180)


def test_a_life_from_run_to_terminate(aws: Any, vm: MicroVM):
    asked = {"imageIdentifier": IMAGE, "clientToken": str(uuid.uuid4())}
    made = aws.run_microvm(**asked)
    id_ = made["microvmId"]
    assert made["state"] == "PENDING"
    assert aws.run_microvm(**asked)["microvmId"] == id_
    told = reached(aws, id_, "RUNNING")
    assert told["startedAt"] == made["startedAt"]
    assert id_ in {one["microvmId"] for one in aws.list_microvms()["items"]}

    token = aws.create_microvm_auth_token(
        microvmIdentifier=id_, expirationInMinutes=5, allowedPorts=[{"port": 8080}]
    )["authToken"]
    url = f"https://{told['endpoint']}/"
    with httpx.Client(verify=False) as client:  # noqa: S501  whose certificate it is is tried elsewhere
        assert client.get(url).status_code == 403
        assert client.get(url, headers=token).status_code == 502  # nothing listens there
        aws.suspend_microvm(microvmIdentifier=id_)
        reached(aws, id_, "SUSPENDED")
        aws.suspend_microvm(microvmIdentifier=id_)
        # without an idle policy nobody but ResumeMicrovm wakes it
        assert client.get(url, headers=token).status_code == 502
    assert aws.get_microvm(microvmIdentifier=id_)["state"] == "SUSPENDED"
    aws.resume_microvm(microvmIdentifier=id_)
    reached(aws, id_, "RUNNING")
    aws.resume_microvm(microvmIdentifier=id_)

    aws.terminate_microvm(microvmIdentifier=id_)
    over = reached(aws, id_, "TERMINATED")
    assert over["stateReason"] == "Success."
    assert over["terminatedAt"] > over["startedAt"]
    aws.terminate_microvm(microvmIdentifier=id_)
    with pytest.raises(ClientError, match="has been terminated and its state cannot be changed"):
        aws.suspend_microvm(microvmIdentifier=id_)


def test_a_life_ends_by_itself_when_its_time_is_over(aws: Any, vm: MicroVM):
    made = aws.run_microvm(imageIdentifier=IMAGE, maximumDurationInSeconds=3)

    over = reached(aws, made["microvmId"], "TERMINATED")

    assert over["stateReason"] == "Success."
    assert (over["terminatedAt"] - over["startedAt"]).total_seconds() >= 3


def test_a_launch_can_be_ended_before_it_is_done(aws: Any, vm: MicroVM):
    made = aws.run_microvm(imageIdentifier=IMAGE)
    aws.terminate_microvm(microvmIdentifier=made["microvmId"])

    state = aws.get_microvm(microvmIdentifier=made["microvmId"])["state"]
    assert state in {"TERMINATING", "TERMINATED"}
    reached(aws, made["microvmId"], "TERMINATED")


def test_what_is_launched_with_a_shell_has_tokens_for_it(aws: Any, vm: MicroVM):
    made = aws.run_microvm(
        imageIdentifier=IMAGE,
        ingressNetworkConnectors=[f"{CONNECTOR}HTTP_INGRESS", f"{CONNECTOR}SHELL_INGRESS"],
        egressNetworkConnectors=[f"{CONNECTOR}NO_EGRESS"],
    )
    shell = aws.create_microvm_shell_auth_token(
        microvmIdentifier=made["microvmId"], expirationInMinutes=5
    )
    aws.terminate_microvm(microvmIdentifier=made["microvmId"])

    assert shell["authToken"][HEADER].count(".") == 4
    reached(aws, made["microvmId"], "TERMINATED")


def test_a_microvm_of_the_other_api_is_there_too(aws: Any, vm: MicroVM):
    told = aws.get_microvm(microvmIdentifier=vm.id)

    assert told["state"] == "RUNNING"
    assert told["imageArn"] == IMAGE
    assert told["startedAt"].timestamp() <= time.time()
