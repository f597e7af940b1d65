"""The page that describes the API, made of its OpenAPI document: no script, and nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Schema = Mapping[str, Any]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2328; background: #fff; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d7de; }
h3 { margin: 2rem 0 .25rem; font-size: 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .875rem; }
code, td { overflow-wrap: anywhere; }
pre { background: #f6f8fa; padding: .75rem; overflow-x: auto; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid #d0d7de; }
.method { display: inline-block; min-width: 4rem; font-weight: 700; color: #0550ae; }
a { color: #0550ae; }
@media (prefers-color-scheme: dark) {
  body { color: #e6edf3; background: #0d1117; }
  pre { background: #161b22; }
  h2, th, td { border-color: #30363d; }
  .method, a { color: #79c0ff; }
}
"""


def reference_page(openapi: Schema, root: str) -> str:
    """The page as HTML.

    Args:
        openapi: An OpenAPI 3.1 document.
        root: The path under which the API is mounted.
    """
    info = openapi["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        f'<p><a href="{escape(root)}/openapi.json">openapi.json</a> describes the same for programs.</p>',
    ]
    schemas = openapi.get("components", {}).get("schemas", {})
    for tag, operations in _by_tag(openapi).items():
        parts.append(f"<h2>{escape(tag.capitalize())}</h2>")
        for method, path, operation in operations:
            parts += _operation(method, f"{root}{path}", operation, schemas)
    parts.append("<h2>Documents</h2>")
    for name, schema in schemas.items():
        parts += _schema(name, schema)
    return "".join([*parts, "</main></body></html>"])


def _by_tag(openapi: Schema) -> dict[str, list[tuple[str, str, Schema]]]:
    found: dict[str, list[tuple[str, str, Schema]]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            found.setdefault(tag, []).append((method.upper(), path, operation))
    return found


def _operation(method: str, path: str, operation: Schema, schemas: Schema) -> Iterator[str]:
    yield f'<section id="{escape(operation["operationId"])}"><h3><span class="method">{method}</span> '
    yield f"<code>{escape(path)}</code></h3><p>{escape(operation.get('description', ''))}</p>"
    fields = [
        (parameter["name"], parameter["in"], parameter["schema"], parameter.get("description", ""))
        for parameter in operation.get("parameters", ())
        if parameter["in"] != "path"
    ]
    if fields:
        yield "<table><tr><th>parameter</th><th>type</th><th></th></tr>"
        for name, _, schema, description in fields:
            yield _row(name, schema, description)
        yield "</table>"
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{escape(kind)}</code>, {_type(body['schema'])}</p>"
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            kinds = response.get("content", {})
            told = ", ".join(
                f"<code>{escape(kind)}</code> {_type(content.get('schema', {}))}"
                for kind, content in kinds.items()
            )
            yield f"<p>Answer {escape(status)}: {told}</p>"
    yield f"<pre>{escape(_curl(method, path, operation, schemas))}</pre></section>"


def _curl(method: str, path: str, operation: Schema, schemas: Schema) -> str:
    """An example for the command line; ``$SERVER`` and ``$ID`` are to be put in."""
    words = ["curl"]
    for name in ("recording", "job", "speaker", "segment", "comment", "voice"):
        path = path.replace(f"{{{name}}}", "$ID" if name in ("recording", "job") else f"${name.upper()}")
    needed = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query" and p.get("required")]
    if needed:
        words.append("-G")
        words += [f"--data-urlencode '{name}=…'" for name in needed]
    elif method not in ("GET", "POST"):
        words.append(f"-X {method}")
    content = operation.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in content:
        words.append("-F file=@talk.mp3")
    elif "application/json" in content:
        asked = schemas[content["application/json"]["schema"]["$ref"].rpartition("/")[2]]
        # Where nothing is required, something has to be given; the first field stands for it.
        fields = asked.get("required") or [*asked["properties"]][:1]
        example = {name: _example(asked["properties"][name]) for name in fields}
        words.append(f"--json '{json.dumps(example, ensure_ascii=False)}'")
    elif method == "POST":
        words.append("-X POST")
    return " ".join([*words, f'"$SERVER{path}"'])


def _example(schema: Schema) -> object:
    if schema.get("type") == "array":
        return [1, 2]
    return 60 if schema.get("type") in ("number", "integer") else "…"


def _schema(name: str, schema: Schema) -> Iterator[str]:
    yield f'<section id="{escape(name)}"><h3><code>{escape(name)}</code></h3>'
    yield f"<p>{escape(schema.get('description', ''))}</p>"
    if schema.get("properties"):
        yield "<table><tr><th>field</th><th>type</th><th></th></tr>"
        for field, about in schema["properties"].items():
            yield _row(field, about, about.get("description", ""))
        yield "</table>"
    yield "</section>"


def _row(name: str, schema: Schema, description: str) -> str:
    return (
        f"<tr><td><code>{escape(name)}</code></td><td>{_type(schema)}</td><td>{escape(description)}</td></tr>"
    )


def _type(schema: Schema) -> str:
    """A schema's type in a few words, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(kind) for kind in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        inside = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_type(inside)}"
    return escape(str(schema.get("type", "anything")))
