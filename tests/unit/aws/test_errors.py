"""Every error of the model is the exception that botocore makes of it, with all it says."""

import json

import pytest

from emberkeep.aws.errors import STATUSES, AwsError
from emberkeep.domain import errors
from tests.unit.aws import asked, made

CASES = [
    (service, operation, error.name)
    for service, operation in made.operations()
    for error in made.service_model(service).operation_model(operation).error_shapes
]


class Fails:
    """A handler that raises what it was last told to."""

    async def __call__(self, _call):
        raise self.error


@pytest.fixture(scope="module")
def fails():
    return Fails()


@pytest.fixture(scope="module")
def app(fails):
    return asked.face({name: fails for _, name in made.operations()})


@pytest.fixture(scope="module")
def clients(app):
    return {service: asked.client(app, service) for service in made.SERVICES}


def _failed(clients, service, operation):
    client = clients[service]
    shape = made.service_model(service).operation_model(operation).input_shape
    given = made.Maker(operation).structure(shape)
    with pytest.raises(client.exceptions.ClientError) as failed:
        client._make_api_call(operation, given)
    return failed.value


@pytest.mark.parametrize(("service", "operation", "name"), CASES)
def test_an_error_is_what_the_model_says(clients, fails, service, operation, name):
    shape = made.service_model(service).shape_for(name)
    others = [
        one
        for one, member in shape.members.items()
        if one.lower() != "message" and not member.serialization.get("location")
    ]
    said = {one: f"the {one}" for one in others}
    fails.error = AwsError(name, "ünexpected", members=said, retry_after=7)

    failed = _failed(clients, service, operation)

    assert type(failed).__name__ == name
    assert failed.response["Error"] == {"Code": name, "Message": "ünexpected"}
    assert {one: failed.response[one] for one in others} == said
    assert (
        failed.response["ResponseMetadata"]["HTTPStatusCode"]
        == shape.metadata["error"]["httpStatusCode"]
    )
    assert failed.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"
    if "retryAfterSeconds" in shape.members:
        assert int(failed.response["retryAfterSeconds"]) == 7


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (errors.NotFound("no"), "ResourceNotFoundException"),
        (errors.Invalid("no"), "ValidationException"),
        (errors.WrongState("no"), "ValidationException"),
        (errors.Conflict("no"), "ConflictException"),
        (errors.QuotaExceeded("no"), "ServiceQuotaExceededException"),
        (errors.Throttled("no"), "ThrottlingException"),
        (errors.NoSpace("no"), "InsufficientCapacityException"),
        (errors.GuestError("no"), "InternalServerException"),
        (ZeroDivisionError("secret"), "InternalServerException"),
    ],
)
def test_an_error_of_the_domain_has_aws_s_name(clients, fails, error, name):
    fails.error = error

    failed = _failed(clients, "lambda-microvms", "RunMicrovm")

    assert failed.response["Error"]["Code"] == name
    assert "secret" not in failed.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (errors.NotFound("no"), "ResourceNotFoundException"),
        (errors.Invalid("no"), "InvalidParameterValueException"),
        (errors.Conflict("no"), "ResourceConflictException"),
        (errors.QuotaExceeded("no"), "NetworkConnectorLimitExceededException"),
        (errors.Throttled("no"), "TooManyRequestsException"),
        (errors.Unavailable("no"), "ServiceException"),
        (ZeroDivisionError("secret"), "ServiceException"),
    ],
)
def test_connectors_have_names_of_their_own(clients, fails, error, name):
    fails.error = error

    failed = _failed(clients, "lambda-core", "UpdateNetworkConnector")

    assert failed.response["Error"]["Code"] == name


def test_an_error_that_an_operation_does_not_know_is_our_failure(clients, fails):
    fails.error = errors.QuotaExceeded("no")

    failed = _failed(clients, "lambda-microvms", "GetMicrovm")

    assert failed.response["Error"]["Code"] == "InternalServerException"


def test_microvms_name_members_that_say_nothing(app, fails):
    fails.error = errors.NotFound("MicroVM not found: microvm-1")

    answer = asked.ask(app, "GET", "/2025-09-09/microvms/microvm-1")

    assert json.loads(answer.body) == {
        "message": "MicroVM not found: microvm-1",
        "resourceId": None,
        "resourceType": None,
    }
    assert answer.headers["x-amzn-errortype"] == "ResourceNotFoundException"
    assert len(answer.headers["x-amzn-requestid"]) == 36


def test_connectors_leave_out_what_they_do_not_say(app, fails):
    fails.error = errors.NotFound("Network connector not found for: nc-1")

    answer = asked.ask(app, "GET", "/2026-04-04/network-connectors/nc-1")

    assert json.loads(answer.body) == {"Message": "Network connector not found for: nc-1"}


def test_statuses_agree_with_the_model():
    known = {
        name: made.service_model(service).shape_for(name).metadata["error"]["httpStatusCode"]
        for service, _, name in CASES
    }

    assert {name: STATUSES[name] for name in STATUSES.keys() & known.keys()} == {
        name: known[name] for name in STATUSES.keys() & known.keys()
    }
