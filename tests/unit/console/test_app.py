"""The console over HTTP: its pages, logging in and out, and who is refused."""

import re

import pytest

from emberkeep.console.pages import STATIC, pages
from tests.unit.console.conftest import HOST, KEY, Site
from tests.unit.console.test_sessions import CALLER

OWN = re.compile(r'(?:src|href)="([^"#]+)"')
IMPORTS = re.compile(r'^(?:import|export)[^"]*"([^"]+)";', re.MULTILINE)


async def test_browsers_are_led_to_the_console(site: Site):
    async with site.client(accept="text/html,*/*") as client:
        answers = [await client.get("/"), await client.get("/console")]

    assert [(one.status_code, one.headers["location"]) for one in answers] == [
        (302, "/console/"),
        (302, "/console/"),
    ]


async def test_programs_are_not(site: Site):
    async with site.client(accept="*/*") as client:
        answer = await client.get("/")

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "Denied"


@pytest.mark.parametrize("path", sorted(pages()))
async def test_every_file_comes_with_strict_headers(site: Site, path: str):
    async with site.client() as client:
        answer = await client.get(f"/console/{path}")
        again = await client.get(
            f"/console/{path}", headers={"if-none-match": answer.headers["etag"]}
        )

    assert answer.status_code == 200
    assert (again.status_code, again.content) == (304, b"")
    for said in (answer, again):
        policy = said.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert said.headers["x-content-type-options"] == "nosniff"
        assert said.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in said.headers


@pytest.mark.parametrize(
    "path", ["nothing.js", "../app.py", "%2e%2e/app.py", "vendor/xterm/LICENSE"]
)
async def test_what_is_no_page_is_not_there(site: Site, path: str):
    async with site.client() as client:
        answer = await client.get(f"/console/{path}")

    assert answer.status_code in {401, 404}
    assert "content" not in answer.json()


def test_pages_name_only_files_that_are_there_and_nothing_inline():
    page = (STATIC / "index.html").read_text()

    assert [path for path in OWN.findall(page) if path not in pages()] == []
    assert re.findall(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page) == []


@pytest.mark.parametrize("script", sorted((STATIC / "js").glob("*.js")), ids=lambda path: path.name)
def test_scripts_import_only_what_is_there_and_write_no_markup(script):
    source = script.read_text()

    for path in IMPORTS.findall(source):
        assert (script.parent / path).is_file(), path
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b|document\.write", source) == []
    )


async def test_a_key_begins_a_session_that_the_api_takes(site: Site):
    async with site.client() as client:
        answer = await client.post("/console/session", json={"key": KEY})
        token = answer.json()["token"]
        let_in = await client.get("/v1/status", headers={"authorization": f"Bearer {token}"})
        ended = await client.delete(
            "/console/session", headers={"authorization": f"Bearer {token}"}
        )
        afterwards = await client.get("/v1/status", headers={"authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert KEY not in answer.text
    assert (let_in.status_code, ended.status_code, afterwards.status_code) == (200, 204, 401)


async def test_a_code_begins_one_session(site: Site):
    async with site.client() as client:
        made = await client.post("/console/codes", headers={"authorization": f"Bearer {KEY}"})
        code = made.json()["code"]
        first = await client.post("/console/session", json={"code": code})
        second = await client.post("/console/session", json={"code": code})

    assert (made.status_code, first.status_code, second.status_code) == (201, 201, 401)


async def test_only_the_key_makes_codes(site: Site):
    session = site.sessions.begin(CALLER)
    async with site.client() as client:
        answers = [
            await client.post("/console/codes", headers={"authorization": f"Bearer {word}"})
            for word in ("", "wrong", session)
        ]

    assert [one.status_code for one in answers] == [401, 401, 401]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 401),
        ({"key": ""}, 401),
        ({"key": "ID.WRONG"}, 401),
        ({"code": "A" * 32}, 401),
        ({"key": KEY, "more": 1}, 400),
        ({"key": 1}, 400),
        ({"key": "A" * 5000}, 413),
    ],
)
async def test_a_wrong_login_is_refused(site: Site, body: dict[str, object], status: int):
    async with site.client() as client:
        answer = await client.post("/console/session", json=body)

    assert answer.status_code == status
    assert answer.json()["error"]["message"]


async def test_a_form_of_another_site_cannot_log_in(site: Site):
    async with site.client() as client:
        answer = await client.post("/console/session", data={"key": KEY})

    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (HOST, 200),
        ("[::1]:9700", 200),
        ("localhost:9700", 200),
        ("node.localhost", 200),
        ("192.0.2.7", 200),
        ("keep.example:8443", 200),
        ("keep.example.attacker.test", 421),
        ("attacker.test:9700", 421),
        ("", 421),
        ("[::1", 421),
    ],
)
async def test_a_name_that_is_not_ours_gets_nothing(site: Site, host: str, status: int):
    async with site.client(host=host) as client:
        answer = await client.get("/console/")

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}, 201),
        ({"origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://attacker.test", "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_other_sites_cannot_ask(site: Site, headers: dict[str, str], status: int):
    async with site.client(**headers) as client:
        answer = await client.post("/console/session", json={"key": KEY})

    assert answer.status_code == status


async def test_other_sites_may_link_to_us(site: Site):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    async with site.client(**headers) as client:
        answer = await client.get("/console/")

    assert answer.status_code == 200


async def test_methods_that_are_not_there(site: Site):
    async with site.client() as client:
        answer = await client.put("/console/session", json={})

    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "MethodNotAllowed"
