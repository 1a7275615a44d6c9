"""Patterns of the models mean in Python what they mean in Java."""

import re
import sys
import unicodedata

from emberkeep.aws.models import CORE, MICROVMS, load
from emberkeep.aws.reading import Readers
from emberkeep.aws.rules import compiled
from emberkeep.aws.violations import in_order_of_hash, render


def test_unicode_categories_are_those_of_java():
    tags = compiled(load(MICROVMS).shapes["TagKey"].pattern)
    extra = set("_.:/=+-@")
    surrogates = range(0xD800, 0xE000)

    wrong = [
        hex(code)
        for code in range(sys.maxunicode + 1)
        if code not in surrogates
        and bool(tags.fullmatch(chr(code)))
        != (unicodedata.category(chr(code))[0] in "LZN" or chr(code) in extra)
    ]

    assert wrong == []


def test_blanks_are_those_of_ascii():
    not_blank = compiled(r"[^\s]+")

    assert not_blank.fullmatch("a\u00a0b")
    assert not not_blank.fullmatch("a b")
    assert not not_blank.fullmatch("a\x0bb")


def test_every_pattern_that_is_needed_compiles():
    for service in (MICROVMS, CORE):
        model = load(service)
        readers = Readers(model)
        for operation in model.operations.values():
            if "Runtime" not in operation.name:
                readers.of(operation.input)


def test_no_pattern_can_be_made_to_run_for_ever():
    long = "a" * 100_000
    for service in (MICROVMS, CORE):
        for shape in load(service).shapes.values():
            if shape.pattern and r"\p{C}" not in shape.pattern:
                for start in ("", "arn:aws:lambda:eu-west-1:123456789012:", "arn:aws:iam::1"):
                    compiled(shape.pattern).fullmatch(f"{start}{long}!\n")


def test_the_recorded_order_is_that_of_a_java_hash_map():
    names = ["baseImageArn", "buildRoleArn", "codeArtifact"]

    assert in_order_of_hash(names) == ["baseImageArn", "codeArtifact", "buildRoleArn"]


def test_values_look_as_in_java():
    assert render({"a": [1, True, None], "b": "c"}) == "{a=[1, true, null], b=c}"
    assert re.fullmatch(r"\[x\]", render(["x"]))
