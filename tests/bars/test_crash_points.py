"""The server is killed at each step of each verb: the next one ends where it would have ended."""

import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from emberkeep.base import proc
from tests.bars import crash_at, footprint
from tests.bars.footprint import Host
from tests.bars.knobs import Figures, word
from tests.bars.servers import BarServer
from tests.vm.servers import as_root, serving

pytestmark = [pytest.mark.bars, pytest.mark.timeout(3600), as_root]

IMAGE: Final = "arn:aws:lambda:us-east-1:aws:microvm-image:debian-12"
ROLE: Final = "arn:aws:iam::000000000000:role/nobody"
CHECKOUT: Final = Path(__file__).parents[2]
PREFIX: Final = (sys.executable, "-m", "tests.bars.crash_at")
WITHIN_S: Final = 180
# the verb, the step, and whether the verb was durable there: only then it is done by itself
STEPS: Final = (
    ("run", "before nothing to PENDING", False),
    ("run", "after nothing to PENDING", True),
    ("run", "before run.prepared", False),
    ("run", "after run.prepared", False),
    ("run", "before launch.restored", True),
    ("run", "after launch.restored", True),
    ("run", "after launch.repaired", True),
    ("run", "before PENDING to RUNNING", True),
    ("run", "after PENDING to RUNNING", True),
    ("run", "after launch.thawed", True),
    ("suspend", "before RUNNING to SUSPENDING", False),
    ("suspend", "after RUNNING to SUSPENDING", True),
    ("suspend", "before suspend.stopped", True),
    ("suspend", "before suspend.taken", True),
    ("suspend", "after suspend.taken", True),
    ("suspend", "before SUSPENDING to SUSPENDED", True),
    ("suspend", "after SUSPENDING to SUSPENDED", True),
    ("resume", "before SUSPENDED to PENDING", False),
    ("resume", "after SUSPENDED to PENDING", True),
    ("resume", "after resume.opened", True),
    ("resume", "after resume.restored", True),
    ("resume", "after resume.repaired", True),
    ("resume", "before PENDING to RUNNING", True),
    ("resume", "after PENDING to RUNNING", True),
    ("resume", "after resume.thawed", True),
    ("terminate", "before RUNNING to TERMINATING", False),
    ("terminate", "after RUNNING to TERMINATING", True),
    ("terminate", "before TERMINATING to TERMINATED", True),
    ("terminate", "after TERMINATING to TERMINATED", True),
    ("terminate", "before terminate.emptied", True),
    ("terminate suspended", "after SUSPENDED to TERMINATING", True),
    ("create", "before images CREATING", False),
    ("create", "after images CREATING", True),
    ("create", "before images CREATE_FAILED", True),
    ("create", "after images CREATE_FAILED", True),
    ("delete", "before images DELETING", False),
    ("delete", "after images DELETING", True),
)


@pytest.fixture
def server(data: Path, tmp_path: Path) -> Iterator[BarServer]:
    """Run a server that dies where it is asked to."""
    told = {
        crash_at.VARIABLE: str(tmp_path / "crash-at"),
        "PYTHONPATH": str(CHECKOUT),
        "EMBERKEEP_POOL_WAITING": "0",  # what is only ready would be taken for a leftover
    }
    with serving(BarServer(data, tmp_path / "home", env=told), prefix=PREFIX) as one:
        yield one


def test_a_crash_at_any_step_ends_where_no_crash_would(server: BarServer, figures: Figures):
    proc.adopt_orphans()
    bar = _Bar(server)
    bar.warm()
    begun = time.monotonic()
    chosen = word("STEPS").split(",") if word("STEPS") else [verb for verb, _, _ in STEPS]
    steps = [one for one in STEPS if one[0] in chosen]
    for verb, step, durable in steps:
        bar.tried(verb, step, durable=durable)
    figures("crash points", steps=len(steps), s=round(time.monotonic() - begun, 1))


class _Bar:
    """One server, its clients, and the one microVM that things are done to."""

    def __init__(self, server: BarServer) -> None:
        self.server = server
        self.host = Host()
        self.vm: str | None = None  # it has a file that says what was last written into it
        self.said = ""
        self.image: str | None = None

    def warm(self) -> None:
        """Have the snapshot made, so that a launch is a matter of a second."""
        self.vm = self._run(str(uuid.uuid4()))
        self._write()

    def tried(self, verb: str, step: str, *, durable: bool) -> None:
        """Do `verb`, crash at `step`, start again, and see that it is as if nothing had been."""
        act = getattr(self, "_crash_" + verb.split(maxsplit=1)[0])
        where = f"{verb}: {step}"
        self._prepare(verb)
        Path(self.server.env[crash_at.VARIABLE]).write_text(step, encoding="ascii")
        act(where, durable=durable)
        self._nothing_left(where)

    def _run(self, token: str) -> str:
        microvm_id: str = self._aws().run_microvm(imageIdentifier=IMAGE, clientToken=token)[
            "microvmId"
        ]
        self._reached(microvm_id, "RUNNING")
        return microvm_id

    def _crash_run(self, where: str, *, durable: bool) -> None:
        token, before = str(uuid.uuid4()), self._live()
        answered = self._asked("run_microvm", imageIdentifier=IMAGE, clientToken=token)
        self._again(where)
        found = self._live() - before
        assert len(found) == (1 if durable else 0), where
        microvm_id = self._run(token)
        assert self._live() - before == {microvm_id}, where
        assert answered is None or answered["microvmId"] == microvm_id, where
        if self.vm is not None:
            self._aws().terminate_microvm(microvmIdentifier=self.vm)
            self._reached(self.vm, "TERMINATED")
        self.vm = microvm_id
        self._write()

    def _crash_suspend(self, where: str, *, durable: bool) -> None:
        self._through("suspend_microvm", where, "RUNNING", "SUSPENDED", durable=durable)
        self._aws().resume_microvm(microvmIdentifier=self.vm)
        self._reached(self.vm, "RUNNING")
        self._kept(where)

    def _crash_resume(self, where: str, *, durable: bool) -> None:
        self._through("resume_microvm", where, "SUSPENDED", "RUNNING", durable=durable)
        self._kept(where)

    def _crash_terminate(self, where: str, *, durable: bool) -> None:
        self._through("terminate_microvm", where, "RUNNING", "TERMINATED", durable=durable)
        over = self._aws().get_microvm(microvmIdentifier=self.vm)
        assert over["stateReason"] == "Success.", where
        assert over["terminatedAt"], where
        self.vm = None

    def _crash_create(self, where: str, *, durable: bool) -> None:
        name = f"image-{uuid.uuid4()}"
        token = str(uuid.uuid4())
        self._asked("create_microvm_image", **_image(name, token))
        self._again(where)
        assert (name in self._images()) is durable, where
        made = self._aws().create_microvm_image(**_image(name, token))
        assert self._images().count(name) == 1, where
        self._image_reached(made["imageArn"], "CREATE_FAILED")
        self.image = made["imageArn"]

    def _crash_delete(self, where: str, *, durable: bool) -> None:
        self._asked("delete_microvm_image", imageIdentifier=self.image)
        self._again(where)
        if not durable:
            self._aws().delete_microvm_image(imageIdentifier=self.image)
        self._image_reached(self.image, None)
        self.image = None

    def _prepare(self, verb: str) -> None:
        if verb == "delete":
            if self.image is None:
                made = self._aws().create_microvm_image(**_image(f"i-{uuid.uuid4()}", "t" * 9))
                self.image = made["imageArn"]
            self._image_reached(self.image, "CREATE_FAILED")
            return
        if verb in {"run", "create"}:
            return
        if self.vm is None:
            self.vm = self._run(str(uuid.uuid4()))
            self._write()
        if verb in {"resume", "terminate suspended"}:
            self._aws().suspend_microvm(microvmIdentifier=self.vm)
            self._reached(self.vm, "SUSPENDED")

    def _through(self, call: str, where: str, begin: str, end: str, *, durable: bool) -> None:
        """Call, crash, start again: what was durable comes to its end without another call."""
        self._asked(call, microvmIdentifier=self.vm)
        self._again(where)
        if not durable:
            assert self._state(self.vm) == begin, where
            getattr(self._aws(), call)(microvmIdentifier=self.vm)
        self._reached(self.vm, end)

    def _asked(self, call: str, **given: Any) -> Any:
        """Call, and return the answer, or None if the server was gone before it."""
        try:
            return getattr(self._aws(), call)(**given)
        except (BotoCoreError, ClientError):
            return None

    def _again(self, where: str) -> None:
        assert self.server.ended() != 0, where
        self.server.up(prefix=PREFIX)

    def _state(self, microvm_id: str | None) -> str:
        return str(self._aws().get_microvm(microvmIdentifier=microvm_id)["state"])

    def _reached(self, microvm_id: str | None, state: str) -> None:
        deadline = time.monotonic() + WITHIN_S
        while (found := self._state(microvm_id)) != state:
            assert found != "TERMINATED", f"it has ended: {self.server.tail()}"
            assert time.monotonic() < deadline, f"{found}, not {state}: {self.server.tail()}"
            time.sleep(0.1)

    def _image_reached(self, arn: str | None, state: str | None) -> None:
        deadline = time.monotonic() + WITHIN_S
        while True:
            try:
                found = self._aws().get_microvm_image(imageIdentifier=arn)["state"]
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise
                found = None
            if found == state:
                return
            assert time.monotonic() < deadline, f"{found}, not {state}"
            time.sleep(0.1)

    def _live(self) -> set[str]:
        found = self._aws().list_microvms()["items"]
        return {one["microvmId"] for one in found if one["state"] != "TERMINATED"}

    def _images(self) -> list[str]:
        return [one["name"] for one in self._aws().list_microvm_images()["items"]]

    def _write(self) -> None:
        self.said = str(uuid.uuid4())
        with self.server.client() as ek:
            ek.get(self.vm).files.write("/var/said", self.said.encode())

    def _kept(self, where: str) -> None:
        with self.server.client() as ek:
            assert ek.get(self.vm).files.read("/var/said").decode() == self.said, where

    def _nothing_left(self, where: str) -> None:
        """Look for what nobody explains; what ends by itself in a moment is no leftover."""
        deadline = time.monotonic() + 20
        while True:
            footprint.reap()
            found = self._aws().list_microvms()["items"]
            states = {
                one["microvmId"]: one["state"] for one in found if one["state"] != "TERMINATED"
            }
            left = footprint.unexplained(self.server, self.host, states)
            if not left:
                return
            assert time.monotonic() < deadline, f"{where}: {left}"
            time.sleep(0.3)

    def _aws(self) -> Any:
        key_id, _, secret = self.server.key.partition(".")
        return boto3.client(
            "lambda-microvms", region_name="us-east-1", endpoint_url=self.server.endpoint,
            aws_access_key_id=key_id, aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip


def _image(name: str, token: str) -> dict[str, Any]:
    return {
        "name": name,
        "baseImageArn": IMAGE,
        "buildRoleArn": ROLE,
        "codeArtifact": {"uri": "s3://nothing-is-here/none.zip"},
        "clientToken": token,
    }
