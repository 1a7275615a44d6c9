"""A Flask application with all six hooks; what it counts is in memory, and survives a suspend."""

import os
import secrets

from flask import Flask, Response, jsonify, request

HOOKS = "/aws/lambda-microvms/runtime/v1"

app = Flask(__name__)
visits = 0
about: dict[str, str | None] = {}  # this microVM
called: list[str] = []  # the hooks, in the order in which they came


@app.get("/")
def visit() -> Response:
    """Count the visits."""
    global visits
    visits += 1
    return jsonify(visits=visits, image=os.environ.get("AWS_LAMBDA_MICROVM_IMAGE_NAME"), **about)


@app.get("/hooks")
def hooks() -> Response:
    """Tell which hooks have been called so far."""
    return jsonify(called)


@app.post(f"{HOOKS}/ready")
def ready() -> str:
    """Say that the snapshot may be taken: whatever is slow to begin with is done by now.

    Answer 503 as long as it is not, and you will be asked again.
    """
    called.append("ready")
    return ""


@app.post(f"{HOOKS}/validate")
def validate() -> str:
    """Do what a request does, in a microVM of the snapshot that is thrown away.

    What it touches on the disk will be at hand when later microVMs are launched.
    """
    called.append("validate")
    with app.test_client() as client:
        assert client.get("/").status_code == 200
    return ""


@app.post(f"{HOOKS}/run")
def run() -> str:
    """Begin the life of one microVM: all of an image start as the same copy until here."""
    called.append("run")
    given = request.get_json()
    about.update(microvm=given["microvmId"], payload=given.get("runHookPayload"))
    about["session"] = secrets.token_hex(8)  # not one that all of them share
    return ""


@app.post(f"{HOOKS}/suspend")
def suspend() -> str:
    """Get ready to sleep: write what must be written, close what will not last."""
    called.append("suspend")
    return ""


@app.post(f"{HOOKS}/resume")
def resume() -> str:
    """Wake up: connections to elsewhere are gone, and time has passed."""
    called.append("resume")
    return ""


@app.post(f"{HOOKS}/terminate")
def terminate() -> str:
    """Say good-bye; soon everything is gone."""
    called.append("terminate")
    return ""


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=8080)
