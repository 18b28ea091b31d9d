"use strict";
// Sort a table by the column clicked; rows without a value stay last in both directions.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const numeric = head.classList.contains("num");
    const key = row => {
      const cell = row.cells[column];
      if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
      return numeric ? null : cell.textContent;
    };
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      const less = typeof x === "number" && typeof y === "number"
        ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
      return up ? less : -less;
    };
    const body = table.tBodies[0];
    body.append(...Array.from(body.rows).sort(order));
  }));
}
