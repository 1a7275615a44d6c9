"""What botocore writes is what we read, and the other way round, for every operation."""

import pytest

from tests.unit.aws import asked, made

FEW, MANY = 12, 1000
counts = pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.bars)])
operations = pytest.mark.parametrize(("service", "operation"), made.operations())


class Handlers:
    """Answers every operation with something valid, and knows the last question and answer."""

    async def __call__(self, call):
        self.call = call
        model = made.service_model(made.service_of(call.operation))
        shape = model.operation_model(call.operation).output_shape
        self.output = made.Maker(call.request_id).structure(shape) if shape else {}
        return self.output


@pytest.fixture(scope="module")
def handlers():
    return Handlers()


@pytest.fixture(scope="module")
def clients(handlers):
    app = asked.face({name: handlers for _, name in made.operations()})
    return {service: asked.client(app, service) for service in made.SERVICES}


@counts
@operations
@pytest.mark.timeout(600)
def test_both_sides_mean_the_same(clients, handlers, service, operation, count):
    model = made.service_model(service).operation_model(operation)
    tokens = [n for n, m in model.input_shape.members.items() if m.metadata.get("idempotencyToken")]

    for seed in range(count):
        given = made.Maker(f"{operation} {seed}").structure(model.input_shape)
        got = clients[service]._make_api_call(operation, dict(given))

        answered = got.pop("ResponseMetadata")
        read = handlers.call.input
        made_up = {name: read[name] for name in tokens if name in read}
        expected = made.parsed_back(model.output_shape, handlers.output) if handlers.output else {}
        assert read == made_up | given
        assert handlers.call.operation == operation
        assert got == expected
        assert answered["HTTPStatusCode"] == model.http.get("responseCode", 200)
        assert answered["RequestId"] == handlers.call.request_id


@operations
def test_everything_that_is_not_needed_may_be_absent(clients, handlers, service, operation):
    shape = made.service_model(service).operation_model(operation).input_shape
    given = {name: made.Maker(name).value(shape.members[name]) for name in shape.required_members}
    given = {name: one or ["key"] for name, one in given.items()}

    clients[service]._make_api_call(operation, dict(given))

    assert set(handlers.call.input) - set(given) <= {"clientToken", "ClientToken"}
