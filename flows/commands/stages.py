"""`winnow stages [KIND]`: the catalogue, from docstrings and schemas."""

from typing import Annotated, Any

import typer

from flows.options import JsonOption


def stages(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="A stage, e.g. clean.rules.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the stages, or tell all about one.

    That is its options, what it reads, what it scores and the models it needs.
    """
    from flows.printing import print_json, print_table
    from pipelines.report.catalogue import all_kinds

    told = all_kinds()
    there = [entry["kind"] for entry in told]
    if kind is not None and kind not in there:
        raise typer.BadParameter(f"there is no stage '{kind}'; there are: {', '.join(there)}")
    chosen = [entry for entry in told if entry["kind"] == kind]
    if json:
        print_json(chosen[0] if chosen else told)
    elif chosen:
        for variant in chosen[0]["variants"]:
            _print_variant(chosen[0]["kind"], variant)
    else:
        print_table(
            ["stage", "what it does"], [[entry["kind"], entry["summary"]] for entry in told]
        )


def _print_variant(kind: str, told: dict[str, Any]) -> None:
    from flows.printing import print_table

    switches = "".join(f", {name}: {value}" for name, value in told["when"].items())
    typer.echo(f"{{kind: {kind}{switches}}}  version {told['version']}\n")
    typer.echo(f"{told['documentation']}\n")
    scores = [f"{name} ({type_name})" for name, type_name in told["scores"].items()]
    needs = [f"{need['model']} ({', '.join(need['capabilities'])})" for need in told["needs"]]
    typer.echo(f"works on  {', '.join(told['accepts'])} rows")
    typer.echo(f"reads     {', '.join(told['reads']) or 'nothing for scores'}")
    typer.echo(f"scores    {', '.join(scores) or 'none'}")
    typer.echo(f"needs     {'; '.join(needs) or 'no model'}\n")
    print_table(
        ["option", "type", "default", ""],
        [
            [
                field["name"],
                field["type"],
                "required" if field["required"] else _default(field["default"]),
                field["description"] or "",
            ]
            for field in told["fields"]
        ],
    )
    typer.echo("")


def _default(value: object) -> str:
    return "" if value is None or value == "" else str(value)
