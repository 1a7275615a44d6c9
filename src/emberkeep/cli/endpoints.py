"""token, ca: what clients of endpoints need."""

import hashlib
import ssl

import click

from emberkeep.cli.shell import client, common, print_json


@click.command(short_help="Print a token for a microVM's endpoint.")
@click.argument("ref", metavar="MICROVM")
@click.option(
    "-p",
    "--port",
    "ports",
    multiple=True,
    metavar="PORT",
    help='8080, "3000-3999" or "all"; may be repeated. 8080 if none is given.',
)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Its life; 60.")
@click.option("--shell", is_flag=True, help="For a shell over a WebSocket, not for ports.")
@click.option("--curl", is_flag=True, help="Print a command that uses it.")
@common
def token(
    *,
    ref: str,
    ports: tuple[str, ...],
    minutes: float | None,
    shell: bool,
    curl: bool,
    as_json: bool,
) -> None:
    """Print a token for ports of a microVM, to be sent as X-aws-proxy-auth."""
    if shell and (ports or curl):
        raise click.UsageError("--shell is for no port, and for no curl")
    life_s = None if minutes is None else minutes * 60
    with client() as ek:
        vm = ek.get(ref)
        made = vm.shell_token(life_s=life_s) if shell else vm.token(*ports, life_s=life_s)
    if as_json:
        print_json(
            {
                "token": made.token,
                "header": made.header,
                "expires_at": made.expires_at,
                "endpoint": made.endpoint,
                "url": made.url,
            }
        )
    elif curl:
        click.echo(f"curl -H '{made.header}: {made.token}' {made.url}/")
    else:
        click.echo(made.token)


@click.command(short_help="Print the certificate that clients of endpoints must trust.")
@click.option("--fingerprint", is_flag=True, help="Its SHA-256 fingerprint alone.")
@click.option("--path", is_flag=True, help="Write it to a file and print where that is.")
@common
def ca(*, fingerprint: bool, path: bool, as_json: bool) -> None:
    """Print the certificate of the server's own authority, as PEM.

    It can sign for addresses and for names below the configured domain, for no other name.
    """
    from emberkeep.cli.trust import kept  # noqa: PLC0415  start-up time

    with client() as ek:
        pem = ek.authority()
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    shown = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
    if as_json:
        print_json({"pem": pem, "sha256": shown, "path": str(kept(pem).own)})
    elif fingerprint:
        click.echo(shown)
    elif path:
        click.echo(kept(pem).own)
    else:
        click.echo(pem, nl=False)
