"use strict";
// Sorting and filtering of the table of devices. Without it the page says the same, in the order of the runs.
(() => {
  const key = (row, column) => {
    const cell = row.cells[column];
    return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.querySelector(".value").textContent.trim();
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number"
      ? a - b
      : typeof a === typeof b
        ? a.localeCompare(b, "en", { numeric: true })
        : typeof a === "number" ? 1 : -1;

  const sort = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const falling = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => compare(key(a, column), key(b, column)) * (falling ? -1 : 1));
    table.tBodies[0].append(...rows);
  };

  const filter = (table, text, status) => {
    const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...table.tBodies[0].rows];
    const shown = rows.filter((row) => {
      const found = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => found.includes(word));
      return !row.hidden;
    });
    status.textContent = `${shown.length} of ${rows.length} shown`;
  };

  document.querySelectorAll("table.devices").forEach((table, number) => {
    table.classList.add("sortable");
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, column));
      head.replaceChildren(button);
    });
    const bar = document.createElement("p");
    const label = document.createElement("label");
    const input = document.createElement("input");
    const status = document.createElement("span");
    bar.className = "filter";
    input.type = "search";
    input.id = `filter-${number}`;
    label.htmlFor = input.id;
    label.textContent = "Show devices with";
    status.setAttribute("role", "status");
    input.addEventListener("input", () => filter(table, input.value, status));
    bar.append(label, input, status);
    table.closest(".scroll").before(bar);
  });
})();
