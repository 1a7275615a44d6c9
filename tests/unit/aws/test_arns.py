"""ARNs are read as they are written."""

import pytest

from emberkeep.aws import arns
from emberkeep.aws.arns import Arn
from emberkeep.domain.errors import Invalid


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:lambda:us-east-1:123456789012:microvm-image:web",
        "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
        "arn:aws:lambda:us-east-1:123456789012:network-connector:nc-1:3",
        "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS",
    ],
)
def test_an_arn_is_what_it_was(text):
    assert str(Arn.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web",
        "arn:aws:lambda",
        "arn:aws:lambda:us-east-1:123456789012:microvm-image",
        "arn:aws:lambda:us-east-1:123456789012:microvm-image:",
        "arn:aws:s3:us-east-1:123456789012:microvm-image:web",
        "arn:azure:lambda:us-east-1:123456789012:microvm-image:web",
        "urn:aws:lambda:us-east-1:123456789012:microvm-image:web",
    ],
)
def test_other_text_is_refused(text):
    with pytest.raises(Invalid, match="Invalid ARN format"):
        Arn.parse(text)


def test_what_is_written():
    assert arns.image("web", account="1", region="r") == "arn:aws:lambda:r:1:microvm-image:web"
    assert arns.connector("nc-1", account="1", region="r").endswith(":1:network-connector:nc-1")
    assert arns.managed_connector("NO_EGRESS", region="r").endswith(
        ":aws:network-connector:aws-network-connector:NO_EGRESS"
    )
