"""Writes `api.md` and `cli.md` in this folder from what the code says: ``python docs/references.py``."""  # noqa: INP001  (a script, no package)

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup
from typer.main import get_command

from ramq.cli.main import command_line
from ramq.settings import Settings
from ramq.web.app import create_app
from ramq.wiring import Services
from storage.database import make_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parent
MADE = "<!-- Made by `make reference`: edit the code's own descriptions instead. -->"

MOST = 2**63 - 1
"""A limit that is the machine's, not ours."""

CLI_INTRODUCTION = """
The output of `--help` for all commands. Exit codes: 0 success; 1 failure; 2 wrong usage; 3 a required service cannot
be reached; 130 Ctrl-C. Commands that list things take `--json`, which prints only JSON on stdout and everything else on
stderr. `--install-completion` adds completion of commands and options to your shell.
""".strip()

API_INTRODUCTION = """
JSON over HTTP. The same as a document for programs is at `/v1/openapi.json` of a running server. A list is a page with
`items` and `next_cursor`: ask again with `cursor` until it is null. An error is a problem document (RFC 9457) with a
stable `type`; [errors.md](errors.md) says what to do. If tokens are needed, send `Authorization: Bearer TOKEN`;
each operation names the [role](security.md#users-roles-and-tokens) that it needs. For Python there is `ramq.client`.
""".strip()


def cli_page() -> str:
    """Return the reference of the command line, in the order of ``ramq --help``."""
    lines = [
        "# The command line",
        MADE,
        CLI_INTRODUCTION,
    ]
    command = get_command(command_line())
    context = command.make_context("ramq", ["a verb"])
    for name, verb in _verbs("ramq", command):
        example = (verb.help or "").partition("Example:")
        lines += [f"## {name}", _joined(example[0])]
        rows = [record for parameter in verb.params if (record := parameter.get_help_record(context))]
        if rows:
            lines.append(_table(("argument or option", "meaning"), [(f"`{left}`", right) for left, right in rows]))
        examples = [part.strip() for part in example[2].split("Example:") if part.strip()]
        if examples:
            lines.append("```sh\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(line for line in lines if line) + "\n"


def _verbs(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(command, TyperGroup):
        yield name, command
        return
    for word, inner in command.commands.items():
        yield from _verbs(f"{name} {word}", inner)


def api_page() -> str:
    """Return the reference of the API, from its OpenAPI document."""
    engine = make_engine("postgresql+psycopg://")
    document = create_app(Services(Settings(_env_file=None), engine, None, is_reachable=False)).openapi()
    engine.dispose()
    lines = [
        "# The API",
        MADE,
        API_INTRODUCTION,
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += _operation(f"{method.upper()} {path}", operation)
    lines.append("## Types")
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += [f"### {name}", _joined(schema.get("description", ""))]
        rows = [
            (f"`{field}`", _type(inner), _joined(inner.get("description", "")))
            for field, inner in schema.get("properties", {}).items()
        ]
        lines.append(_table(("field", "type", "meaning"), rows))
        lines += [f"For example:\n\n```json\n{json.dumps(each)}\n```" for each in schema.get("examples", ())]
    return "\n\n".join(line for line in lines if line) + "\n"


def _operation(title: str, operation: dict[str, Any]) -> list[str]:
    lines = [f"## {title}", _joined(operation.get("description", ""))]
    rows = [
        (f"`{one['name']}`", one["in"], _type(one["schema"]), _joined(one.get("description", "")))
        for one in operation.get("parameters", ())
    ]
    if rows:
        lines.append(_table(("parameter", "in", "type", "meaning"), rows))
    body = [f"{kind}: {_type(content['schema'])}" for kind, content in _content(operation.get("requestBody", {}))]
    if body:
        lines.append(f"Body: {'; '.join(body)}.")
    answers, problems = [], []
    for status, answer in operation["responses"].items():
        contents = _content(answer)
        if any(kind == "application/problem+json" for kind, _ in contents):
            problems.append(status)
        else:
            types = ", ".join(_type(content.get("schema", {})) or kind for kind, content in contents)
            answers.append(f"{status} {types}".strip())
    ending = f". Problems: {', '.join(problems)}." if problems else "."
    return [*lines, f"Answers: {'; '.join(answers)}{ending}"]


def _content(holder: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(holder.get("content", {}).items())


def _type(schema: dict[str, Any]) -> str:
    """Say a JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return ", ".join([" or ".join(_type(each) for each in schema["anyOf"]), *_default(schema)])
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("type") == "object" and "properties" in schema:
        return f"form with {', '.join(f'`{name}`' for name in schema['properties'])}"
    is_blank = schema.get("maxLength") == 0
    kind = "blank" if is_blank else " ".join(str(schema[part]) for part in ("type", "format") if part in schema)
    bounds = (("minimum", "from"), ("maximum", "to"))
    limits = [f"{word} {schema[key]}" for key, word in bounds if abs(schema.get(key, MOST)) < MOST]
    return ", ".join([kind, *limits, *_default(schema)])


def _default(schema: dict[str, Any]) -> list[str]:
    default = schema.get("default")
    return [] if default in (None, "", {}) else [f"{default} if not given"]


def _joined(text: str) -> str:
    return " ".join(text.split())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    cells = [[_joined(cell).replace("|", "\\|") for cell in row] for row in [head, tuple("---" for _ in head), *rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def main() -> None:
    """Write both pages."""
    for name, page in pages().items():
        (DOCS / name).write_text(page, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return what each file should hold."""
    return {"api.md": api_page(), "cli.md": cli_page()}


if __name__ == "__main__":
    main()
