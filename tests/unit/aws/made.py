"""Values made from the shapes of botocore's models, the same ones for the same seed."""

import random
import re._constants as sre
import re._parser
from datetime import UTC, datetime
from functools import cache

import botocore.session

SERVICES = ("lambda-microvms", "lambda-core")
_ODD = "aZ09-_.~ /%+&=?#:;,@!$'()*[]{}\"\\<>|^`\t\näßñ€漢字🦊é\u00a0\u200b"
_PLAIN = "abcXYZ019"
_MANY = 6


@cache
def service_model(name):
    """Return botocore's own view of a service."""
    return botocore.session.get_session().get_service_model(name)


def operations():
    """Return (service, name) of all that must be answered."""
    return [
        (service, name)
        for service in SERVICES
        for name in service_model(service).operation_names
        if "Runtime" not in name
    ]


class Maker:
    """Makes valid values; strings hold whatever their pattern lets them."""

    def __init__(self, seed):
        self._random = random.Random(seed)  # noqa: S311

    def structure(self, shape):
        """Return the members of a structure: required ones, and some of the others."""
        if getattr(shape, "is_tagged_union", False):
            name = self._random.choice(sorted(shape.members))
            return {name: self.value(shape.members[name])}
        wanted = {
            name
            for name in shape.members
            if name in shape.required_members or self._random.random() < 0.6
        }
        return {name: self._member(shape.members[name]) for name in shape.members if name in wanted}

    def _member(self, shape):
        value = self.value(shape)
        is_query_list = shape.type_name == "list" and "location" in shape.serialization
        return value or [self.value(shape.member)] if is_query_list else value

    def value(self, shape):
        """Return a value of any shape."""
        return getattr(self, f"_{shape.type_name}", self.structure)(shape)

    def _list(self, shape):
        return [self.value(shape.member) for _ in range(self._count(shape))]

    def _map(self, shape):
        pairs = [(self.value(shape.key), self.value(shape.value)) for _ in range(9)]
        return dict(pairs[: self._count(shape)])

    def _count(self, shape):
        least = shape.metadata.get("min", 0)
        return self._random.randint(least, min(shape.metadata.get("max", _MANY), _MANY))

    def _boolean(self, _shape):
        return self._random.random() < 0.5

    def _integer(self, shape):
        least = shape.metadata.get("min", -(1 << 31))
        most = shape.metadata.get("max", (1 << 31) - 1)
        return self._random.choice((least, most, self._random.randint(least, most)))

    def _long(self, shape):
        return self._random.randint(shape.metadata.get("min", -(1 << 63)), (1 << 63) - 1)

    def _timestamp(self, _shape):
        return round(self._random.uniform(0, 4e9), 3)

    def _string(self, shape):
        if shape.enum:
            return self._random.choice(shape.enum)
        least = shape.metadata.get("min", 0)
        most = shape.metadata.get("max", 4096)
        pattern = shape.metadata.get("pattern")
        while True:
            text = self._matching(pattern) if pattern else self._text(_ODD, least, most)
            if least <= len(text) <= most:
                return text

    def _text(self, of, least, most):
        short = self._random.random() < 0.9
        length = self._random.randint(least, min(most, 24) if short else most)
        return "".join(self._random.choices(of, k=length))

    def _matching(self, pattern):
        for theirs, ours in ((r"\p{L}", "äßa漢"), (r"\p{Z}", " \u00a0"), (r"\p{N}", "0٣")):
            pattern = pattern.replace(theirs, ours)
        return self._of(_parsed(pattern))

    def _of(self, tokens):
        return "".join(self._one(*token) for token in tokens)

    def _one(self, kind, what):
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, inner = what
            count = self._random.randint(least, min(int(most), least + 20))
            return "".join(self._of(inner) for _ in range(count))
        if kind is sre.SUBPATTERN:
            return self._of(what[3])
        if kind is sre.BRANCH:
            return self._of(self._random.choice(what[1]))
        if kind is sre.LITERAL:
            return chr(what)
        if kind is sre.ANY:
            return self._random.choice(_ODD.replace("\n", ""))
        assert kind is sre.IN, kind
        return self._in(what)

    def _in(self, tokens):
        if tokens[0][0] is sre.NEGATE:
            return self._random.choice([one for one in _ODD if not _is_in(tokens[1:], one)])
        kind, what = self._random.choice(tokens)
        if kind is sre.RANGE:
            return chr(self._random.randint(*what))
        return self._random.choice("0189") if kind is sre.CATEGORY else chr(what)


@cache
def _parsed(pattern):
    return list(re._parser.parse(pattern))


def _is_in(tokens, character):
    for kind, what in tokens:
        if kind is sre.CATEGORY:
            assert what is sre.CATEGORY_SPACE
            found = character in " \t\n\x0b\f\r"
        else:
            assert kind is sre.LITERAL
            found = chr(what) == character
        if found:
            return True
    return False


def service_of(operation):
    """Return the service that an operation belongs to."""
    return SERVICES["NetworkConnector" in operation]


def parsed_back(shape, value):
    """Return `value` as botocore gives it to a caller: without nothing, times as datetimes."""
    if shape.type_name == "structure":
        return {
            name: parsed_back(shape.members[name], one)
            for name, one in value.items()
            if one is not None
        }
    if shape.type_name == "list":
        return [parsed_back(shape.member, one) for one in value]
    if shape.type_name == "map":
        return {key: parsed_back(shape.value, one) for key, one in value.items()}
    if shape.type_name == "timestamp":
        return datetime.fromtimestamp(value, UTC)
    return value
