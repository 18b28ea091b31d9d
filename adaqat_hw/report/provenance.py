"""Tables of where the numbers come from: tools, versions, records with file times and digests."""

from __future__ import annotations

from adaqat_hw.report.json_out import tool_versions
from adaqat_hw.report.model import RunReport
from adaqat_hw.report.tables import Cell, Column, Table, text_cell


def tools_table(run: RunReport) -> Table:
    """Every tool whose version the records name."""
    columns = (Column("tool", numeric=False), Column("version", numeric=False))
    rows = tuple(
        (text_cell(tool), text_cell(", ".join(versions)))
        for tool, versions in tool_versions(run).items()
    )
    return Table("tools", "Tools", columns, rows)


def provenance_table(run: RunReport) -> Table:
    """Every record used, with the digest that ties it to its inputs and its file time."""
    heads = ("plan", "record", "digest", "seed", "file time (UTC)")
    columns = tuple(Column(head, numeric=False) for head in heads)
    rows: list[tuple[Cell, ...]] = []
    for plan in run.plans:
        name = text_cell(plan.variant)
        if plan.train is not None:
            digest = text_cell(f"configuration {plan.train.config_digest}")
            seed = text_cell(str(plan.train.seed))
            rows.append((name, text_cell("training"), digest, seed, text_cell(plan.written)))
        if plan.plan is not None:
            rows.append(
                (
                    name,
                    text_cell("plan"),
                    text_cell(plan.plan.digest()),
                    text_cell("-"),
                    text_cell("-"),
                )
            )
        if plan.artifact is not None:
            digest = text_cell(f"sha256 {plan.artifact.sha256[:16]}", title=plan.artifact.sha256)
            rows.append((name, text_cell("QONNX"), digest, text_cell("-"), text_cell("-")))
        build = plan.build
        if build is None:
            continue
        digest = text_cell(f"request {build.request.digest()}" if build.request else None)
        rows.append((name, text_cell("build"), digest, text_cell("-"), text_cell(build.written)))
        for source, report in build.resources.items():
            digest = text_cell(f"{report.source_file} {report.source_sha256[:16]}")
            rows.append((name, text_cell(source), digest, text_cell("-"), text_cell("-")))
    return Table("records", "Records", columns, tuple(rows), folded=True)
