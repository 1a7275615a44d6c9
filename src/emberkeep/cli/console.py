"""console: a way into the web console."""

import webbrowser

import click

from emberkeep.cli.shell import client, common, note, print_json


@click.command(short_help="Print a URL that lets a browser into the web console.")
@click.option("--open", "opened", is_flag=True, help="Open it in this machine's browser, too.")
@common
def console(*, opened: bool, as_json: bool) -> None:
    """Print a URL that lets a browser into the web console: once, within two minutes.

    The key is not in it, and its code is never sent to a server's log: it stands behind a "#".
    """
    with client() as ek:
        url = ek.console_url()
    if as_json:
        print_json({"url": url})
    else:
        click.echo(url)
    if opened and not webbrowser.open(url):
        note("no browser was found; open the URL in yours")
