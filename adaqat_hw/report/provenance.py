"""Where a report's numbers come from: tools, versions, file times, digests."""

from __future__ import annotations

from adaqat_hw.report.json_out import tool_versions
from adaqat_hw.report.model import RunReport
from adaqat_hw.report.tables import Cell, Column, Table, words


def tools_table(run: RunReport) -> Table:
    """Every tool whose version the records name."""
    columns = (Column("tool", numeric=False), Column("version", numeric=False))
    rows = tuple(
        (words(tool), words(", ".join(versions))) for tool, versions in tool_versions(run).items()
    )
    return Table("tools", "Tools", columns, rows)


def provenance_table(run: RunReport) -> Table:
    """Every record used, with the digest that ties it to its inputs and its file time."""
    heads = ("plan", "record", "digest", "seed", "file time (UTC)")
    columns = tuple(Column(head, numeric=False) for head in heads)
    rows: list[tuple[Cell, ...]] = []
    for plan in run.plans:
        name = words(plan.variant)
        if plan.train is not None:
            digest = words(f"configuration {plan.train.config_digest}")
            seed = words(str(plan.train.seed))
            rows.append((name, words("training"), digest, seed, words(plan.written)))
        if plan.plan is not None:
            rows.append((name, words("plan"), words(plan.plan.digest()), words("-"), words("-")))
        if plan.artifact is not None:
            digest = words(f"sha256 {plan.artifact.sha256[:16]}", title=plan.artifact.sha256)
            rows.append((name, words("QONNX"), digest, words("-"), words("-")))
        build = plan.build
        if build is None:
            continue
        digest = words(f"request {build.request.digest()}" if build.request else None)
        rows.append((name, words("build"), digest, words("-"), words(build.written)))
        for source, report in build.resources.items():
            digest = words(f"{report.source_file} {report.source_sha256[:16]}")
            rows.append((name, words(source), digest, words("-"), words("-")))
    return Table("records", "Records", columns, tuple(rows), folded=True)
