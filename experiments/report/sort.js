"use strict";
// Makes the headings of each table buttons that sort it; without it the tables are as written.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = Array.from(table.tHead.rows[0].cells);
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const rows = Array.from(body.rows);
      rows.sort((a, b) => compare(a.cells[column], b.cells[column], ascending ? 1 : -1));
      body.append(...rows);
    });
  });
}

// Numbers by value, texts by their order; what has no value, a dash, is last either way.
function compare(a, b, direction) {
  const absent = (a.textContent === "\u2013") - (b.textContent === "\u2013");
  if (absent !== 0) return absent;
  const left = a.dataset.value, right = b.dataset.value;
  if (left !== undefined && right !== undefined) return direction * (left - right);
  return direction * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
}
