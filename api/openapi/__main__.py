"""`python -m api.openapi`: print the reference as Markdown, or the OpenAPI document.

python -m api.openapi > docs/reference.md
python -m api.openapi --json > docs/openapi/0.3.0.json
"""

from __future__ import annotations

import click

from api.app import create_app
from api.openapi.document import openapi_document
from api.openapi.reference import as_json, as_markdown
from core.settings import Settings


@click.command()
@click.option("--json", "is_json", is_flag=True, help="Print the OpenAPI document.")
def main(*, is_json: bool) -> None:
    """Print the reference of the API as Markdown. It needs no server."""
    app = create_app(Settings())
    document = openapi_document(app)
    click.echo(as_json(document) if is_json else as_markdown(app, document), nl=False)


if __name__ == "__main__":
    main()
